package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is a program that was started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has been waited for
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// state says how the process ended; only after ended is closed.
func (p *process) state() *os.ProcessState { return p.cmd.ProcessState }

// signal sends a signal; to a process that has ended it does nothing.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// launch starts the program. If this process is killed the program gets
// SIGTERM, so that it does not go on without its service. It is a process group
// of its own, so that a Ctrl-C in a terminal reaches it once, as SIGHUP from us.
func (v *supervisor) launch() (*process, error) {
	s := v.settings
	cmd := exec.Command(v.options.Program, append([]string{"-conf", s.IniFile}, s.ProgramOptions...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Env = environment()
	if err := runAs(cmd, s.User); err != nil {
		return nil, fmt.Errorf("SUBPROCESS_USER %q: %w", s.User, err)
	}
	out, closeOut, err := openOutput(v.options.Output, s.LogDir, s.SubprocessLogFile)
	if err != nil {
		return nil, fmt.Errorf("open SUBPROCESS_LOGFILE: %w", err)
	}
	defer closeOut() // the process has its own
	cmd.Stdout, cmd.Stderr = out, out
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() { // ends with the process
		runtime.LockOSThread() // the kernel sends Pdeathsig when the thread that started the process ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // state has it
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	return p, nil
}

// environment is that of this process without what is systemd's and ours alone.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "NOTIFY_SOCKET=") })
}

// runAs lets a command run as another user, who gets the directories that
// systemd has made for the service. An empty name, or this user's, changes nothing.
func runAs(cmd *exec.Cmd, name string) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return fmt.Errorf("read the user's id: %w", err)
	}
	if int(uid) == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can start a process as another user")
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return fmt.Errorf("read the id of the user's group: %w", err)
	}
	groups, err := groupsOf(u)
	if err != nil {
		return err
	}
	for _, key := range []string{"STATE_DIRECTORY", "RUNTIME_DIRECTORY"} {
		for dir := range strings.SplitSeq(os.Getenv(key), ":") {
			if err := giveTo(dir, uint32(uid), uint32(gid)); err != nil {
				return fmt.Errorf("give %s to the user: %w", key, err)
			}
		}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groups}
	cmd.Env = append(cmd.Env, "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	return nil
}

// groupsOf returns the groups of a user.
func groupsOf(u *user.User) ([]uint32, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("find the user's groups: %w", err)
	}
	var groups []uint32
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the id of a group: %w", err)
		}
		groups = append(groups, uint32(n))
	}
	return groups, nil
}

// giveTo makes a directory, with all that is in it, a user's own. One that is
// the user's already stays as it is.
func giveTo(dir string, uid, gid uint32) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == uid && st.Gid == gid {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(uid), int(gid))
	})
}
