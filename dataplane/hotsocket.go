package dataplane

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hotSocket works on the descriptor of a connection that the hot waiter may read.
// The Go scheduler does not know it, it sees the gates.
type hotSocket struct {
	input *gate // the reader waits here
	room  *gate // and the writer here

	mu     sync.RWMutex // guards closed; held while fd is written, so that it is not reused meanwhile
	fd     int
	closed bool
}

// newHotSocket takes the descriptor of a connection over.
func newHotSocket(conn net.Conn, rc syscall.RawConn) (s *hotSocket, err error) {
	s = &hotSocket{}
	if cerr := rc.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		return nil, fmt.Errorf("take descriptor of link: %w", errors.Join(err, cerr))
	}
	if s.input, err = newGate(s.fd, unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
		return nil, errors.Join(err, unix.Close(s.fd))
	}
	if s.room, err = newGate(s.fd, unix.EPOLLOUT); err != nil {
		return nil, errors.Join(err, s.input.close(), unix.Close(s.fd))
	}
	_ = conn.Close() // ours is another descriptor of it
	return s, nil
}

// receive stays inside one wait for the life of the connection, so that a
// wake-up costs one edge of the poller and no more.
func (s *hotSocket) receive(in *intake) error {
	var failed error
	in.gate = s.input
	err := s.input.wait(func(uintptr) bool {
		if failed = in.readAll(uintptr(s.fd)); failed != nil {
			return true
		}
		in.l.park()
		return false
	})
	in.end()
	return errors.Join(failed, err)
}

func (s *hotSocket) writeSome(data []byte) (rest []byte, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return data, net.ErrClosed
	}
	return writeNow(uintptr(s.fd), data)
}

func (s *hotSocket) write(data []byte) (err error) {
	werr := s.room.wait(func(uintptr) bool {
		data, err = s.writeSome(data)
		return len(data) == 0 || err != nil
	})
	return errors.Join(err, werr)
}

func (s *hotSocket) interrupt() {
	s.input.interrupt()
	s.room.interrupt()
}

// descriptor returns its number, -1 when it is closed.
func (s *hotSocket) descriptor() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return -1
	}
	return s.fd
}

func (s *hotSocket) close() error {
	s.interrupt()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	err := unix.Close(s.fd)
	s.mu.Unlock()
	return errors.Join(err, s.input.close(), s.room.close()) // waits for the writer, which may want mu
}
