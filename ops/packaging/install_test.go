//go:build install

package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// longStop is how long a block of commands may take.
const longStop = 3 * time.Minute

// block is a block of commands of a document: ```sh WHERE.
var block = regexp.MustCompile("(?ms)^( *)```sh (\\w+)\\n(.*?)^ *```$")

// blocks returns the blocks of a document that run somewhere, in their order.
func blocks(t *testing.T, doc string, where ...string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", doc))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains([]string{"checkout", "debian", "fedora", "systemd"}, m[2]) {
			t.Errorf("%s: a block runs at %q, which no test knows", doc, m[2])
		}
		if slices.Contains(where, m[2]) {
			all = append(all, regexp.MustCompile(`(?m)^`+m[1]).ReplaceAllString(m[3], ""))
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no blocks for %q", doc, where)
	}
	return all
}

// bookworm is a Debian root that is thrown away behind the tests.
type bookworm struct{ dir string }

// newBookworm copies a root that debootstrap made once. It needs to be root, with
// debootstrap and a Debian mirror.
func newBookworm(t *testing.T) *bookworm {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(cache, "chmpx-test", "bookworm")
	if _, err := os.Stat(base); errors.Is(err, fs.ErrNotExist) {
		made := base + ".new"
		if err := errors.Join(os.MkdirAll(filepath.Dir(base), 0o755), os.RemoveAll(made)); err != nil {
			t.Fatal(err)
		}
		output(t, "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dnf", "bookworm", made)
		if err := os.Rename(made, base); err != nil {
			t.Fatal(err)
		}
	}
	b := &bookworm{dir: filepath.Join(t.TempDir(), "root")}
	output(t, "cp", "-a", base, b.dir)
	output(t, "cp", "-a", dist+"/repo", b.dir+"/srv/chmpx")
	hosts := []byte("127.0.0.1 localhost\n::1 localhost\n") // as an installer of Debian writes it
	err = errors.Join(os.WriteFile(b.dir+"/etc/hosts", hosts, 0o644), os.WriteFile(b.dir+"/etc/apt/sources.list", nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// command is a command that runs inside; boot must not run.
func (b *bookworm) command(t *testing.T, words ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longStop)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"testdata/enter.sh", b.dir}, words...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.Cleanup(func() { // behind the end of all that was inside
		if cmd.Process == nil {
			return
		}
		stop, tick := time.After(10*time.Second), time.NewTicker(50*time.Millisecond)
		defer tick.Stop()
		for _, top := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
			dir := filepath.Join(top, "chmpx-test-"+strconv.Itoa(cmd.Process.Pid))
			for !removeCgroups(dir) {
				select {
				case <-tick.C:
				case <-stop:
					t.Errorf("processes are left in %s", dir)
					return
				}
			}
		}
	})
	return cmd
}

// removeCgroups removes a control group, and those in it, and reports whether
// it is gone: it stays as long as it has processes.
func removeCgroups(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	for _, e := range entries {
		if e.IsDir() {
			removeCgroups(filepath.Join(dir, e.Name()))
		}
	}
	return os.Remove(dir) == nil
}

// run runs commands inside, without systemd.
func (b *bookworm) run(t *testing.T, script string) string {
	t.Helper()
	return b.finish(t, script, b.command(t, "sh", "-e", "-c", script))
}

// finish runs a command that has a script, which must succeed.
func (b *bookworm) finish(t *testing.T, script string, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out.String())
	}
	return out.String()
}

// booted is a root whose systemd runs.
type booted struct {
	*bookworm
	init int // process id, as seen from here
}

// boot starts systemd, and ends it with the test.
func (b *bookworm) boot(t *testing.T) *booted {
	t.Helper()
	cmd := b.command(t, "/sbin/init", "--log-target=null", "--show-status=no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // unshare takes all that is inside with it
		_ = cmd.Wait()
	})
	d := &booted{bookworm: b}
	stop, tick := time.After(longStop), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			t.Fatal("systemd does not come up")
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		d.init, err = strconv.Atoi(strings.TrimSpace(string(children)))
		if err == nil && d.nsenter(t, "systemctl is-system-running --wait").Run() == nil {
			return d
		}
	}
}

// nsenter is a command that joins what runs.
func (d *booted) nsenter(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longStop)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(d.init), "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd",
		"sh", "-e", "-c", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "HOME=/root"}
	return cmd
}

// do runs commands beside systemd.
func (d *booted) do(t *testing.T, script string) string {
	t.Helper()
	return d.finish(t, script, d.nsenter(t, script))
}

// files lists the root, without what package managers and systemd keep for themselves.
func (b *bookworm) files(t *testing.T) []string {
	t.Helper()
	var all []string
	skip := []string{"/var/lib/dpkg", "/var/lib/apt", "/var/lib/dnf", "/var/lib/rpm", "/var/cache", "/var/log", "/etc/apt", "/etc/yum.repos.d",
		"/var/lib/systemd", "/root/.rpmdb", "/usr/lib/sysimage", "/tmp", "/var/tmp", "/proc", "/sys", "/dev", "/run"}
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := strings.TrimPrefix(path, b.dir)
		if slices.Contains(skip, inside) {
			return filepath.SkipDir
		}
		all = append(all, inside)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// nothingLeft checks that the root has the files that it had.
func (b *bookworm) nothingLeft(t *testing.T, before []string) {
	t.Helper()
	for _, file := range b.files(t) {
		if !slices.Contains(before, file) {
			t.Errorf("left behind: %s", file)
		}
	}
}

// docs/install.md holds in a Debian without systemd running: install, edit one
// file, start the helper, a ring is up; purging leaves nothing.
func TestInstallDebian(t *testing.T) {
	b := newBookworm(t)
	before := b.files(t)
	out := b.run(t, strings.Join(blocks(t, "install.md", "debian"), "\n"))
	for _, want := range []string{"chmpx.ini is good: group MYRING, 1 server", "of group MYRING", "quorum     ok: 1 of 1 voters", "stopping chmpx-service-helper"} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands do not print %q:\n%s", want, out)
		}
	}
	b.nothingLeft(t, before)
}

// The same for an rpm, by dnf in the same root.
func TestInstallFedora(t *testing.T) {
	b := newBookworm(t)
	for _, dir := range []string{"/usr/share/zsh/site-functions", "/usr/share/fish/vendor_completions.d"} { // of Fedora's file system
		if err := os.MkdirAll(b.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := b.files(t)
	out := b.run(t, "mkdir -p /etc/yum.repos.d\n"+strings.Join(blocks(t, "install.md", "fedora"), "\n")+`
/usr/libexec/chmpx-service-helper start &
chmpxctl status -conf /etc/antpickax/chmpx.ini -wait -settled -timeout 60s
chmpxctl status -conf /etc/antpickax/chmpx.ini
echo '# edited' >>/etc/antpickax/chmpx-service-helper.conf
dnf reinstall -y chmpx
grep edited /etc/antpickax/chmpx-service-helper.conf
dnf remove -y chmpx chmpx-devel
rm -r /var/lib/chmpx
rm /etc/antpickax/*.rpmsave && rmdir /etc/antpickax`)
	if !strings.Contains(out, "quorum     ok: 1 of 1 voters") {
		t.Errorf("no ring came up:\n%s", out)
	}
	b.nothingLeft(t, before)
}

// docs/service.md and docs/upgrading-from-chmpx.md hold where systemd runs: the
// package installs a disabled service, whose units verify cleanly; started, it
// survives kill -9 of chmpx and an upgrade of the package; both units work;
// removing stops it, purging leaves nothing. A chmpx.ini that is there stays.
func TestServiceUnderSystemd(t *testing.T) {
	b := newBookworm(t)
	before := b.files(t)
	const mine = "/etc/antpickax/chmpx.ini"
	if err := os.Mkdir(b.dir+"/etc/antpickax", 0o755); err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("etc/chmpx.ini.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir+mine, bytes.ReplaceAll(example, []byte("SAMPLE"), []byte("MINE")), 0o644); err != nil {
		t.Fatal(err)
	}
	var short strings.Builder // waits
	for _, word := range []string{"WAIT_SEC_STARTUP", "WAIT_SEC_AFTER_SUBPROCESS_UP", "INTERVAL_SEC_FOR_LOOP"} {
		fmt.Fprintf(&short, "/etc/antpickax/chmpx-service-helper.conf:%s = 1\n", word)
	}
	if err := os.WriteFile(b.dir+"/etc/antpickax/override.conf", []byte(short.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	d := b.boot(t)
	install := blocks(t, "install.md", "debian")
	out := d.do(t, install[0]+`
grep -q MINE /etc/antpickax/chmpx.ini
systemctl is-enabled chmpx.service chmpx-hardened.service || true
systemctl is-active chmpx.service || true
systemd-analyze verify --man=no /usr/lib/systemd/system/chmpx.service /usr/lib/systemd/system/chmpx-hardened.service 2>&1 | sed 's/^/VERIFY: /'`)
	if !strings.HasSuffix(out, "disabled\ndisabled\ninactive\n") {
		t.Errorf("behind the installation:\n%s\nwant both services disabled and nothing from systemd-analyze verify", out)
	}

	all := blocks(t, "service.md", "systemd")
	d.do(t, all[0])
	if out := d.do(t, all[1]); !strings.Contains(out, "StatusText=chmpx runs as process") || !strings.Contains(out, "group MINE") {
		t.Errorf("of a service that runs:\n%s", out)
	}
	d.do(t, strings.Join(blocks(t, "upgrading-from-chmpx.md", "debian"), "\n"))
	d.do(t, `
changed() { until [ -s /run/antpickax/chmpx.pid ] && [ "$(cat /run/antpickax/chmpx.pid)" != "$old" ]; do sleep 0.1; done; }
old=$(cat /run/antpickax/chmpx.pid)
kill -9 $old
changed
until systemctl show -p StatusText chmpx.service | grep "runs as process $(cat /run/antpickax/chmpx.pid)"; do sleep 0.1; done
systemctl is-active chmpx.service
old=$(cat /run/antpickax/chmpx.pid)
apt-get install -y --reinstall chmpx
changed
systemctl is-enabled chmpx.service`)
	for _, commands := range all[2:] {
		d.do(t, commands)
	}
	d.do(t, `
systemctl enable --now chmpx.service
pid=$(cat /run/antpickax/chmpx.pid)
apt-get remove -y chmpx
! kill -0 $pid
test -e /etc/antpickax/chmpx.ini && test -d /var/lib/chmpx
rm /etc/antpickax/override.conf
apt-get purge -y chmpx
! test -e /etc/systemd/system/multi-user.target.wants/chmpx.service`)
	b.nothingLeft(t, before)
}

// What docs say about a checkout holds.
func TestCheckout(t *testing.T) {
	for _, commands := range blocks(t, "install.md", "checkout") {
		if strings.TrimSpace(commands) == "make repo" {
			continue // has made what the other tests look at
		}
		cmd := exec.Command("sh", "-e", "-c", commands)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "CHMPX Version") {
			t.Errorf("%s: %v\n%s", commands, err, out)
		}
	}
}
