package shm

import (
	"context"
	"net"
)

// System makes the descriptors of segments and doorbells and hands them from a
// node to its programs. A descriptor is a number of this process; whoever made
// or received one closes it. Any goroutine may call any method.
type System interface {
	// Listen listens at a path for programs. What a dead process left there is
	// replaced: the caller knows that nobody serves it. Only the user and group of this
	// process can connect.
	Listen(path string) (Listener, error)
	// Dial connects to who listens at a path.
	Dial(ctx context.Context, path string) (Conn, error)

	// Create, Check, Identify, Map, Remap and Unmap do what CreateMemfd,
	// CheckMemfd, IdentifyMemfd, MapMemfd, RemapMemfd and Unmap say.
	Create(size int) (fd int, mem []byte, err error)
	Check(fd int) (size int, err error)
	Identify(fd int) (MemfdID, error)
	Map(fd int) (mem []byte, err error)
	Remap(fd int) (mem []byte, err error)
	Unmap(mem []byte) error

	// NewBell returns a descriptor for Doorbell.
	NewBell() (fd int, err error)
	// Doorbell makes a doorbell of a descriptor and owns it from then on.
	Doorbell(fd int) (Doorbell, error)
	// Duplicate returns another descriptor of the same thing.
	Duplicate(fd int) (int, error)
	// Close gives a descriptor back.
	Close(fd int) error
}

// Listener waits for programs.
type Listener interface {
	// Accept returns the next connection; net.ErrClosed after Close.
	Accept() (Conn, error)
	Close() error
}

// Conn connects a program and a node, and carries descriptors. It ends when
// either side, or its process, does.
type Conn interface {
	net.Conn
	// Send and Receive do what SendFds and RecvFds say.
	Send(data []byte, fds ...int) error
	Receive(buf []byte, want int) (n int, fds []int, err error)
}
