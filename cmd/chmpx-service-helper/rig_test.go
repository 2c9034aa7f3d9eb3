package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chmpx/chmpx/internal/freeport"
)

// asHelper makes this test binary the command.
const asHelper = "CHMPX_TEST_SERVICE_HELPER"

// longStop is how long a test waits for what must happen.
const longStop = 2 * time.Minute

// program is the chmpx that is run.
var program string

func TestMain(m *testing.M) {
	if os.Getenv(asHelper) != "" {
		os.Unsetenv(asHelper)
		main()
	}
	os.Exit(testMain(m))
}

// testMain builds chmpx and runs the tests.
func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "chmpx-service-helper")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "chmpx")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/chmpx/chmpx/cmd/chmpx").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build chmpx: %v\n%s", err, out)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // also for another user's chmpx
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// rig is a directory of configuration files and what listens as systemd.
type rig struct {
	t      *testing.T
	dir    string
	told   chan string // what the helper told systemd, a line each
	notify string
}

// newRig makes the files: a ring of one server, short waits, then lines.
func newRig(t *testing.T, lines ...string) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	dir, err := os.MkdirTemp("", "service") // short enough for a socket, and open to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, notify: filepath.Join(dir, "notify"), told: make(chan string, 1000)}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with l
		defer close(r.told)
		for buf := make([]byte, 4096); ; {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				r.told <- line
			}
		}
	}()
	r.write("chmpx.ini", r.ini())
	base := []string{"PIDDIR = " + dir + "/pid", "WAIT_SEC_STARTUP = 0", "WAIT_SEC_AFTER_SUBPROCESS_UP = 0", "INTERVAL_SEC_FOR_LOOP = 1"}
	r.write("chmpx-service-helper.conf", strings.Join(append(base, lines...), "\n")+"\n")
	return r
}

// ini is a configuration on free ports, with all files in the rig's directory.
func (r *rig) ini() string {
	ports, err := freeport.Take(2)
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf("[GLOBAL]\nFILEVERSION = 1\nGROUP = SERVICE\nDELIVERMODE = HASH\nMODE = SERVER\nSELFCTLPORT = %[2]d\nRUNDIR = %[3]s/run\n"+
		"[SVRNODE]\nNAME = localhost\nPORT = %[1]d\nCTLPORT = %[2]d\n[SLVNODE]\nNAME = localhost\nCTLPORT = 1\n", ports[0], ports[1], r.dir)
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// helper is a running command.
type helper struct {
	r     *rig
	cmd   *exec.Cmd
	lines chan string // what it prints
	seen  []string
}

// command is the command with words, not started.
func (r *rig) command(words ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), longStop)
	r.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], append(words, "-confdir", r.dir, "-program", program)...)
	cmd.Env = append(os.Environ(), asHelper+"=1", "NOTIFY_SOCKET="+r.notify, "STATE_DIRECTORY="+r.path("state"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts the command; what is left of it ends with the test.
func (r *rig) start(words ...string) *helper {
	r.t.Helper()
	h := &helper{r: r, cmd: r.command(words...), lines: make(chan string, 1000)}
	read, write, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	h.cmd.Stdout, h.cmd.Stderr = write, write
	if err := h.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	write.Close()
	go func() { // ends with the last process that has the pipe
		defer close(h.lines)
		defer read.Close()
		for s := bufio.NewScanner(read); s.Scan(); {
			h.lines <- s.Text()
		}
	}()
	r.t.Cleanup(func() {
		if h.cmd.ProcessState == nil {
			_ = h.cmd.Process.Signal(syscall.SIGCONT)
			_ = h.cmd.Process.Signal(syscall.SIGTERM)
			_ = h.cmd.Wait()
		}
	})
	return h
}

// expect waits for a line with a text.
func (h *helper) expect(text string) {
	h.r.t.Helper()
	stop := time.After(longStop)
	for {
		select {
		case line, ok := <-h.lines:
			h.seen = append(h.seen, line)
			if strings.Contains(line, text) {
				return
			}
			if !ok {
				h.r.t.Fatalf("it ended without saying %q:\n%s", text, strings.Join(h.seen, "\n"))
			}
		case <-stop:
			h.r.t.Fatalf("it does not say %q:\n%s", text, strings.Join(h.seen, "\n"))
		}
	}
}

// runs waits until chmpx counts as started and returns its process id.
func (h *helper) runs() int {
	h.r.t.Helper()
	h.expect("chmpx runs as process")
	pid := h.r.pid("chmpx.pid")
	h.r.until(fmt.Sprintf("process %d, which the pid file names, being chmpx", pid), func() bool { return h.r.proc(pid, "comm") == "chmpx\n" })
	return pid
}

// stop ends the command by a signal: it must exit with 0 soon and leave nothing.
func (h *helper) stop(sig syscall.Signal) {
	h.r.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.r.t.Fatal(err)
	}
	h.expect(fmt.Sprintf("Caught signal %d, try to stop subprocess and exit.", int(sig)))
	h.exits(0)
	h.r.clean()
}

// exits waits for the end of the command.
func (h *helper) exits(code int) {
	h.r.t.Helper()
	for line := range h.lines { // ends with the processes; the command's context is the long stop
		h.seen = append(h.seen, line)
	}
	err := h.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.r.t.Fatal(err)
	}
	if got := h.cmd.ProcessState.ExitCode(); got != code {
		h.r.t.Fatalf("it ended with %v, want exit code %d:\n%s", h.cmd.ProcessState, code, strings.Join(h.seen, "\n"))
	}
}

// said reports whether the command has printed a text.
func (h *helper) said(text string) bool { return strings.Contains(strings.Join(h.seen, "\n"), text) }

// clean checks that no pid file is left.
func (r *rig) clean() {
	r.t.Helper()
	left, err := os.ReadDir(r.path("pid"))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		r.t.Errorf("left in PIDDIR: %v, %v", left, err)
	}
}

// pid returns the process id that a file in PIDDIR names.
func (r *rig) pid(name string) int {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.path("pid"), name))
	if err != nil {
		r.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// gets waits until the helper tells systemd a line that begins so.
func (r *rig) gets(begin string) {
	r.t.Helper()
	stop := time.After(longStop)
	for {
		select {
		case line := <-r.told:
			if strings.HasPrefix(line, begin) {
				return
			}
		case <-stop:
			r.t.Fatalf("systemd is not told %q", begin)
		}
	}
}

// proc returns a file of a process. It waits while there is nothing in it: who
// started a process goes on before the kernel has its name, words and environment in place.
func (r *rig) proc(pid int, file string) (text string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s of process %d", file, pid), func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			r.t.Fatal(err)
		}
		text = string(b)
		return text != ""
	})
	return text
}

// arguments returns the words of a process.
func (r *rig) arguments(pid int) []string {
	r.t.Helper()
	return strings.Split(strings.TrimSuffix(r.proc(pid, "cmdline"), "\x00"), "\x00")
}

// until waits for a condition.
func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	stop, tick := time.After(longStop), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-stop:
			r.t.Fatalf("waited for %s", what)
		}
	}
}

// gone reports whether a process has ended.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
