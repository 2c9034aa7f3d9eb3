package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errProcessEnded says that a program has died although its attach socket is
// still open: a child has inherited it.
var errProcessEnded = errors.New("the process has ended")

// process is the one at the other end of an attach socket.
type process struct {
	pid int32
	uid uint32
	fd  *os.File // pidfd; nil if the kernel gives none
}

// peerProcess asks the kernel who connected. The pid alone could be another
// process's by now; SO_PEERPIDFD (Linux 6.5) cannot, and before that the
// descriptor is opened while the socket is fresh. A connection without
// descriptor is within this process.
func peerProcess(conn net.Conn) (pr process, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return process{pid: int32(os.Getpid()), uid: uint32(os.Geteuid())}, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return pr, fmt.Errorf("ask for peer of attach socket: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); failed != nil {
			return
		}
		pr.pid, pr.uid = cred.Pid, cred.Uid
		pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if err != nil {
			if pidfd, err = unix.PidfdOpen(int(cred.Pid), 0); err != nil {
				return // for example of another pid namespace: its socket says when it ends
			}
		}
		unix.CloseOnExec(pidfd)
		if err := unix.SetNonblock(pidfd, true); err != nil {
			_ = unix.Close(pidfd)
			return
		}
		pr.fd = os.NewFile(uintptr(pidfd), "pidfd")
	})
	if err = errors.Join(err, failed); err != nil {
		return pr, fmt.Errorf("ask for peer of attach socket: %w", err)
	}
	return pr, nil
}

// await returns true when the process has ended, and false when it cannot be
// known or close was called.
func (pr *process) await() bool {
	if pr.fd == nil {
		return false
	}
	raw, err := pr.fd.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		ended = n > 0
		return ended || err != nil && !errors.Is(err, unix.EINTR)
	})
	return err == nil && ended
}

// close ends await and gives the descriptor back.
func (pr *process) close() {
	if pr.fd != nil {
		_ = pr.fd.Close()
	}
}
