package shm

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/internal/rawio"
	"golang.org/x/sys/unix"
)

// Doorbell wakes the side of a segment that waits on it.
type Doorbell interface {
	// Ring wakes the waiter, or makes its next Wait look again. Any goroutine.
	Ring() error
	// Wait calls poll, parks while it returns false, and calls it again after
	// each ring. It returns nil when poll returned true and os.ErrClosed after
	// Close. One goroutine at a time. Before poll returns false it must have
	// called Segment.Sleep and looked at its rings once more.
	Wait(poll func() (done bool)) error
	// Close ends a Wait and releases the descriptor. It does not wait for poll
	// to return, so it may be called with locks that poll takes. Idempotent,
	// any goroutine.
	Close() error
}

// NewEventfd returns a new eventfd for NewEventfdDoorbell: non-blocking, close on exec.
func NewEventfd() (fd int, err error) {
	fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("create eventfd: %w", err)
	}
	return fd, nil
}

// NewEventfdDoorbell makes a doorbell of an eventfd and owns it from then on.
// The eventfd is never read: each write is a new edge for the poller. Only a
// process that calls Wait registers it there, so ringing costs the ringer no
// wake-up of its own.
func NewEventfdDoorbell(fd int) (Doorbell, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("prepare doorbell: %w", err)
	}
	return &eventfdDoorbell{fd: fd}, nil
}

type eventfdDoorbell struct {
	mu     sync.RWMutex // guards what follows; held while fd is written, so that it is not reused meanwhile
	fd     int
	file   *os.File // owns fd once somebody has waited
	parked bool     // a Wait runs; it releases the descriptor if Close comes meanwhile
	closed bool

	waiting sync.Mutex // one Wait at a time; guards poll, raw and look
	poll    func() bool
	raw     syscall.RawConn
	look    func(uintptr) bool // made once, so that Wait does not allocate
}

// one is what a ring adds to the counter: small, so that it never runs full.
var one = binary.NativeEndian.AppendUint64(nil, 1)

func (d *eventfdDoorbell) Ring() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return os.ErrClosed
	}
	switch _, errno := rawio.Write(uintptr(d.fd), one); errno {
	case 0, syscall.EAGAIN: // EAGAIN: somebody filled the counter, the waiter's loss
		return nil
	default:
		return fmt.Errorf("ring doorbell: %w", errno)
	}
}

func (d *eventfdDoorbell) Wait(poll func() bool) error {
	d.waiting.Lock()
	defer d.waiting.Unlock()
	if err := d.begin(); err != nil {
		return err
	}
	defer d.finish() // also when poll panics
	d.poll = poll
	err := d.raw.Read(d.look)
	switch {
	case err == nil:
		return nil
	case d.isClosed():
		return os.ErrClosed
	}
	return fmt.Errorf("wait for doorbell: %w", err)
}

// begin registers the descriptor with the poller when Wait is called first.
func (d *eventfdDoorbell) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	if d.raw == nil {
		d.file = os.NewFile(uintptr(d.fd), "doorbell")
		raw, err := d.file.SyscallConn()
		if err != nil {
			return fmt.Errorf("wait for doorbell: %w", err)
		}
		d.raw, d.look = raw, func(uintptr) bool { return d.poll() }
	}
	d.parked = true
	return nil
}

// finish ends a Wait.
func (d *eventfdDoorbell) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.poll, d.parked = nil, false
	if d.closed {
		_ = d.file.Close() // an eventfd has nothing that closing could lose
	}
}

func (d *eventfdDoorbell) isClosed() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.closed
}

func (d *eventfdDoorbell) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil
	case d.parked:
		// Closing the file would wait for the poll that runs, which may wait
		// for a lock of our caller. A deadline ends the Wait, which closes.
		if err := d.file.SetReadDeadline(time.Unix(1, 0)); err != nil {
			return fmt.Errorf("end wait for doorbell: %w", err)
		}
		d.closed = true
		return nil
	}
	d.closed = true
	if d.file != nil {
		return d.file.Close()
	}
	return unix.Close(d.fd)
}

// NewChanDoorbell returns a doorbell within one process, for segments on the heap.
func NewChanDoorbell() Doorbell {
	return &chanDoorbell{rung: make(chan struct{}, 1), closed: make(chan struct{})}
}

type chanDoorbell struct {
	rung   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (d *chanDoorbell) Ring() error {
	select {
	case <-d.closed:
		return os.ErrClosed
	default:
	}
	select {
	case d.rung <- struct{}{}:
	default: // a ring is pending already
	}
	return nil
}

func (d *chanDoorbell) Wait(poll func() bool) error {
	for {
		select {
		case <-d.closed:
			return os.ErrClosed
		default:
		}
		if poll() {
			return nil
		}
		select {
		case <-d.closed:
		case <-d.rung:
		}
	}
}

func (d *chanDoorbell) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}
