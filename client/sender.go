package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// sender is the writing end of one out-ring, for any number of goroutines.
type sender struct {
	mu     sync.Mutex // guards what follows; held while a record is written, never while one waits
	at     *attachment
	prod   *shm.Producer // nil while detached
	seq    uint64        // of the newest record
	closed bool

	watched watched // of requests: messages whose end Options.Undelivered wants to know

	waiting atomic.Int32  // goroutines that wait for room
	room    chan struct{} // capacity 1: one of them should look again

	drains   atomic.Int32  // calls of Drain that wait; each is told of all room, and takes none
	drainsMu sync.Mutex    // guards drained; nothing is called under it
	drained  chan struct{} // closed when they should look again
}

// look makes one of the waiting goroutines look again; any goroutine.
func (s *sender) look() {
	if s.drains.Load() > 0 {
		s.drainsMu.Lock()
		if s.drained != nil {
			close(s.drained)
			s.drained = nil
		}
		s.drainsMu.Unlock()
	}
	if s.waiting.Load() == 0 {
		return
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// looked returns what is closed at the next look.
func (s *sender) looked() <-chan struct{} {
	s.drainsMu.Lock()
	defer s.drainsMu.Unlock()
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	return s.drained
}

// sent returns the sequence of the newest record; any goroutine.
func (s *sender) sent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// message is what the caller wants to send, before it has a sequence.
type message struct {
	hash       uint64
	deadlineMs int64
	kind       wire.Kind
	flags      wire.Flags
	payload    []byte
	want       outcome // what answer waits for, if it waits
	answer     answer
	gather     *gather // of requests to many
}

// fitsAnyRing is the largest payload that the rings of all nodes hold, however
// they are configured.
var fitsAnyRing = wire.MessageBytesMax(shm.RingBytesMin)

// mayBeGivenUp reports whether the ring may give the message up when nobody
// waits for it, or no longer: Broadcast and Replicate return before that.
func (m *message) mayBeGivenUp() bool {
	waits := m.answer.call != nil || m.answer.done != nil || m.gather != nil
	return (m.deadlineMs != 0 || m.kind != wire.KindHash || len(m.payload) > fitsAnyRing) && (!waits || m.want == wantReceivers)
}

// errNoRoom says that a record could not be written now; it never leaves the package.
var errNoRoom = errors.New("client: no room now")

// send writes a message into the request ring, waiting for room if wait is true.
func (c *Client) send(ctx context.Context, m *message, wait bool) (seq uint64, err error) {
	if len(m.payload) > c.messageBytesMax {
		return 0, c.tooLarge(m.payload)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotDelivered, err)
	}
	if seq, err = c.writeRequest(m); err == nil {
		return seq, nil
	}
	if !wait {
		return 0, c.refuse(err)
	}
	err = c.waitRoom(ctx, &c.requests, err, func() (err error) {
		seq, err = c.writeRequest(m)
		return err
	})
	return seq, err
}

// sendReply writes the reply to a message into the reply ring, waiting for room.
func (c *Client) sendReply(ctx context.Context, m *Message, payload []byte) error {
	if len(payload) > c.messageBytesMax {
		return c.tooLarge(payload)
	}
	err := c.writeReply(m, payload)
	if err == nil {
		return nil
	}
	return c.waitRoom(ctx, &c.replies, err, func() error { return c.writeReply(m, payload) })
}

// refuse returns the error of a message that was not written because of err
// and does not wait. It may run on the leader, so nothing here waits either.
func (c *Client) refuse(err error) error {
	switch {
	case errors.Is(err, ErrClosed):
		return fmt.Errorf("%w: %w", ErrNotDelivered, ErrClosed)
	case !errors.Is(err, errNoRoom):
		c.requests.abandon(err)
	}
	return fmt.Errorf("%w: %w", ErrNotDelivered, ErrBackpressure)
}

func (c *Client) tooLarge(payload []byte) error {
	return fmt.Errorf("%w: %w: %d bytes, at most %d", ErrNotDelivered, ErrTooLarge, len(payload), c.messageBytesMax)
}

// writeRequest writes a message if there is room, and wakes the node.
func (c *Client) writeRequest(m *message) (uint64, error) {
	seq, bell, err := c.putRequest(m)
	if bell != nil {
		_ = bell.Ring() // without the mutex; fails only when the attachment has ended
	}
	return seq, err
}

func (c *Client) putRequest(m *message) (seq uint64, bell shm.Doorbell, err error) {
	s := &c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if seq != 0 && err != nil { // a fault while publishing
			c.pending.take(seq, m.want)
			c.gathers.take(seq)
		}
	}()
	defer shm.Catch(shm.Arm(), &err)
	watch := c.reports != nil && m.mayBeGivenUp()
	if watch && s.prod != nil && !s.watched.room() {
		s.at.seg.WantRoom(shm.ProgramSide)
		return 0, s.at.bell, errNoRoom // the leader must see what became of older ones
	}
	rec, err := s.reserve(wire.OutRequestBytes + len(m.payload))
	if err != nil {
		return 0, nil, err
	}
	fault.Crash(fault.SendReserved)
	r := wire.OutRequest{Seq: s.seq + 1, Hash: m.hash, DeadlineUnixMs: m.deadlineMs, Flags: m.flags, Kind: m.kind}
	r.Put(rec)
	copy(rec[wire.OutRequestBytes:], m.payload)
	end := s.prod.Commit()
	fault.Crash(fault.SendCommitted)
	s.seq++
	seq = s.seq
	switch { // before it is published: the answer may come at once
	case m.gather != nil:
		c.gathers.put(seq, m.gather)
	case m.answer.call != nil, m.answer.done != nil:
		c.pending.put(seq, m.want, m.answer)
	}
	if watch {
		c.watch(seq, m.hash, end)
	}
	bell = s.publish()
	fault.Crash(fault.SendPublished)
	return seq, bell, nil
}

// writeReply is writeRequest for replies.
func (c *Client) writeReply(m *Message, payload []byte) error {
	bell, err := c.putReply(m, payload)
	if bell != nil {
		_ = bell.Ring()
	}
	return err
}

func (c *Client) putReply(m *Message, payload []byte) (bell shm.Doorbell, err error) {
	s := &c.replies
	s.mu.Lock()
	defer s.mu.Unlock()
	defer shm.Catch(shm.Arm(), &err)
	rec, err := s.reserve(wire.OutReplyBytes + len(payload))
	if err != nil {
		return nil, err
	}
	fault.Crash(fault.ReplyReserved)
	r := wire.OutReply{Seq: s.seq + 1, ToNode: m.From, ToSession: m.Session, ToSeq: m.Seq, DeadlineUnixMs: m.deadlineMs}
	r.Put(rec)
	copy(rec[wire.OutReplyBytes:], payload)
	s.prod.Commit()
	fault.Crash(fault.ReplyCommitted)
	s.seq++
	bell = s.publish()
	fault.Crash(fault.ReplyPublished)
	return bell, nil
}

// reserve returns room for a record, or errNoRoom after it has told the node
// that room is wanted; mu is held.
func (s *sender) reserve(n int) ([]byte, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if s.prod == nil {
		return nil, errNoRoom
	}
	rec, ok, err := s.prod.Reserve(n)
	if !ok && err == nil {
		s.at.seg.WantRoom(shm.ProgramSide)
		rec, ok, err = s.prod.Reserve(n) // the release may have come before the flag
	}
	if err == nil && !ok {
		err = errNoRoom
	}
	return rec, err
}

// publish makes what was committed visible and returns the doorbell to ring,
// nil if the node does not sleep; mu is held.
func (s *sender) publish() shm.Doorbell {
	s.prod.Publish()
	if s.at.seg.WakeNeeded(shm.NodeSide) {
		return s.at.nodeBell
	}
	return nil
}

// waitRoom repeats a write that failed with err until it succeeds, or must not
// be repeated.
func (c *Client) waitRoom(ctx context.Context, s *sender, err error, write func() error) error {
	c.roomWaits.Add(1)
	switch err = c.awaitRoom(ctx, s, err, write); {
	case err == nil:
		return nil
	case errors.Is(err, ErrClosed):
		return fmt.Errorf("%w: %w", ErrNotDelivered, err)
	case c.current.Load() == nil:
		return fmt.Errorf("%w: %w: %w: %w", ErrNotDelivered, ErrBackpressure, ErrNoNode, err)
	}
	return fmt.Errorf("%w: %w: %w", ErrNotDelivered, ErrBackpressure, err)
}

// abandon ends an attachment whose memory cannot be trusted; the keeper
// attaches again and copies what can be read.
func (s *sender) abandon(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prod != nil {
		s.at.fail(err)
		s.prod = nil
	}
}
