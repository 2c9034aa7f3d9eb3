package dataplane

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/internal/rawio"
)

// socket is the connection of a link after the hellos.
type socket interface {
	// receive reads into in until the connection ends or in refuses; the error
	// says why, and is never nil. One goroutine.
	receive(in *intake) error
	// writeSome writes what can be written without waiting and returns the rest,
	// for write. Who claimed the link calls it.
	writeSome(data []byte) (rest []byte, err error)
	// write waits until all is written. The link's writer calls it.
	write(data []byte) error
	// interrupt ends all that waits; it never blocks.
	interrupt()
	// close follows the end of receive, or comes in its place.
	close() error
}

// newSocket returns the fastest socket that the connection can be, which owns it.
func newSocket(conn net.Conn, hot bool) (socket, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return &connSocket{owned{conn}}, nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take descriptor of link: %w", err)
	}
	if hot {
		if s, err := newHotSocket(conn, rc); err == nil {
			return s, nil
		} // out of descriptors: the connection is as good without more
	}
	s := &rawSocket{owned: owned{conn}, rc: rc}
	s.tryWrite = s.writeRest
	return s, nil
}

// owned is a connection that the Go scheduler knows.
type owned struct{ conn net.Conn }

func (o owned) interrupt() {
	// A deadline in the past wakes reads and writes; Close would wait for them.
	_ = o.conn.SetDeadline(time.Unix(1, 0))
}

func (o owned) close() error { return o.conn.Close() }

// rawSocket works on the descriptor of a connection.
type rawSocket struct {
	owned
	rc       syscall.RawConn
	tryWrite func(fd uintptr) bool // writeRest, made once
	rest     []byte                // of the writer: what is left, and why it failed
	failed   error
}

// receive stays inside one RawConn.Read for the life of the connection, so that
// a wake-up costs one edge of the poller and no more.
func (s *rawSocket) receive(in *intake) error {
	var failed error
	err := s.rc.Read(func(fd uintptr) bool {
		failed = in.readAll(fd)
		return failed != nil
	})
	return errors.Join(failed, err)
}

func (s *rawSocket) writeSome(data []byte) (rest []byte, err error) {
	s.rest, s.failed = data, nil
	if err := s.rc.Write(s.tryWrite); err != nil {
		return s.rest, err
	}
	return s.rest, s.failed
}

func (s *rawSocket) writeRest(fd uintptr) bool {
	s.rest, s.failed = writeNow(fd, s.rest)
	return true
}

func (s *rawSocket) write(data []byte) (err error) {
	werr := s.rc.Write(func(fd uintptr) bool {
		data, err = writeNow(fd, data)
		return len(data) == 0 || err != nil
	})
	return errors.Join(err, werr)
}

// writeNow writes until done, an error or a full socket.
func writeNow(fd uintptr, data []byte) ([]byte, error) {
	for len(data) > 0 {
		n, errno := rawio.Write(fd, data)
		switch errno {
		case 0:
			data = data[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return data, nil
		default:
			return data, fmt.Errorf("write: %w", errno)
		}
	}
	return nil, nil
}

// connSocket is any other connection: within the process, or encrypted. Such a
// connection cannot be asked what it takes at once, so all writing is the
// link's writer's.
type connSocket struct{ owned }

func (s *connSocket) receive(in *intake) error {
	for {
		n, err := s.conn.Read(in.space())
		if n > 0 {
			if err := in.arrived(n); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *connSocket) writeSome(data []byte) (rest []byte, err error) { return data, nil }

func (s *connSocket) write(data []byte) error {
	_, err := s.conn.Write(data)
	return err
}
