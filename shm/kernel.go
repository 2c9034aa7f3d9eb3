package shm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Kernel returns the System of real nodes and programs: memfds, eventfds and
// unix sockets.
func Kernel() System { return kernel{} }

type kernel struct{}

func (kernel) Listen(path string) (Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old attach socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for programs: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("set mode of attach socket: %w", err)
	}
	return kernelListener{ln}, nil
}

func (kernel) Dial(ctx context.Context, path string) (Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to node: %w", err)
	}
	return kernelConn{conn.(*net.UnixConn)}, nil
}

func (kernel) Create(size int) (fd int, mem []byte, err error) { return CreateMemfd(size) }
func (kernel) Check(fd int) (size int, err error)              { return CheckMemfd(fd) }
func (kernel) Identify(fd int) (MemfdID, error)                { return IdentifyMemfd(fd) }
func (kernel) Map(fd int) (mem []byte, err error)              { return MapMemfd(fd) }
func (kernel) Remap(fd int) (mem []byte, err error)            { return RemapMemfd(fd) }
func (kernel) Unmap(mem []byte) error                          { return Unmap(mem) }
func (kernel) NewBell() (fd int, err error)                    { return NewEventfd() }
func (kernel) Doorbell(fd int) (Doorbell, error)               { return NewEventfdDoorbell(fd) }
func (kernel) Close(fd int) error                              { return unix.Close(fd) }

func (kernel) Duplicate(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

type kernelListener struct{ ln *net.UnixListener }

func (l kernelListener) Accept() (Conn, error) {
	conn, err := l.ln.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return kernelConn{conn}, nil
}

func (l kernelListener) Close() error { return l.ln.Close() }

type kernelConn struct{ *net.UnixConn }

func (c kernelConn) Send(data []byte, fds ...int) error { return SendFds(c.UnixConn, data, fds...) }

func (c kernelConn) Receive(buf []byte, want int) (n int, fds []int, err error) {
	return RecvFds(c.UnixConn, buf, want)
}
