package service

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// pidLock is the pid file of the running service. The lock on the file, which
// ends with the process, says whether it runs; the number in it is for others.
type pidLock struct{ f *os.File }

// lockPidFile claims the pid file; ErrRunning names the process that has it.
func lockPidFile(path string) (*pidLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open SERVICE_PIDFILE: %w", err)
		}
		lock := syscall.Flock_t{Type: syscall.F_WRLCK}
		if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &lock); err != nil {
			pid := lockOwner(f)
			_ = f.Close()
			return nil, fmt.Errorf("%w: process %d of %s has not stopped yet", ErrRunning, pid, path)
		}
		if !isFile(f, path) { // its owner has removed it in between
			_ = f.Close()
			continue
		}
		if err := f.Truncate(0); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("write SERVICE_PIDFILE: %w", err)
		}
		if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("write SERVICE_PIDFILE: %w", err)
		}
		return &pidLock{f}, nil
	}
}

// release removes the file and gives it up.
func (l *pidLock) release() {
	_ = os.Remove(l.f.Name()) // the lock, not the file, says who runs
	_ = l.f.Close()
}

// isFile reports whether path still names f.
func isFile(f *os.File, path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	own, err := f.Stat()
	return err == nil && os.SameFile(own, there)
}

// lockOwner returns the process that has the lock of a file, 0 if nobody has.
func lockOwner(f *os.File) int {
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil || lock.Type == syscall.F_UNLCK {
		return 0
	}
	return int(lock.Pid)
}

// running returns the process of the service whose pid file this is, 0 if none runs.
func running(path string) (int, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open SERVICE_PIDFILE: %w", err)
	}
	defer f.Close()
	return lockOwner(f), nil
}

// readPid returns the process that a pid file names, 0 if there is none.
func readPid(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}

// alive reports whether a process runs; one that has ended and was not waited
// for does not.
func alive(pid int) bool {
	if pid == 0 {
		return false
	}
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // others may hide what they are
	}
	state := stat[bytes.LastIndexByte(stat, ')')+1:] // the name before may hold anything
	return !bytes.HasPrefix(state, []byte(" Z"))
}

// isProgram reports whether a process runs and is called like program: after a
// restart of the machine a pid file may name anybody.
func isProgram(pid int, program string) bool {
	if !alive(pid) {
		return false
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return true
	}
	const commMax = 15 // the kernel keeps no more of a name
	base := filepath.Base(program)
	return strings.TrimSpace(string(comm)) == base[:min(len(base), commMax)]
}
