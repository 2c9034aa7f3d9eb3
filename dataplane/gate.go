package dataplane

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gate waits for one kind of event of a descriptor. It is an epoll within the
// one of the Go scheduler, which has no way to be told not to look at a
// descriptor: while the hot waiter reads a socket, each arrival would wake a
// thread for nothing.
type gate struct {
	epoll  int
	fd     int
	events uint32
	file   *os.File // owns epoll
	raw    syscall.RawConn
}

// newGate returns an open gate of fd, which the caller keeps open for longer.
func newGate(fd int, events uint32) (*gate, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	g := &gate{epoll: epoll, fd: fd, events: events | unix.EPOLLET}
	if err = unix.SetNonblock(epoll, true); err == nil { // the scheduler waits for no other
		err = g.open()
	}
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("prepare epoll: %w", err)
	}
	g.file = os.NewFile(uintptr(epoll), "gate")
	if g.raw, err = g.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare epoll: %w", err), g.file.Close())
	}
	return g, nil
}

// wait calls look, and again after each event, until it returns true or the
// wait is interrupted.
func (g *gate) wait(look func(uintptr) (done bool)) error { return g.raw.Read(look) }

// shut lets no event pass.
func (g *gate) shut() error { return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_DEL, g.fd, nil) }

// open lets events pass, at once if there is one to be seen. The kernel says
// so for a descriptor that is new; for one that is changed only if it was not
// ready when it was seen last.
func (g *gate) open() error {
	return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, g.fd, &unix.EpollEvent{Events: g.events})
}

// interrupt ends a wait, and all that come.
func (g *gate) interrupt() { _ = g.file.SetReadDeadline(time.Unix(1, 0)) }

func (g *gate) close() error { return g.file.Close() }
