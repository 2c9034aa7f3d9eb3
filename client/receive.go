package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// Message is a message that this server program has taken.
type Message struct {
	Hash        uint64
	Payload     []byte
	MaybeRepeat bool           // a server program may have taken it before
	WantsReply  bool           // its sender waits for a reply
	Session     wire.SessionID // attachment of the sender
	Seq         uint64         // of the message in its session; equal for repeats by the ring
	From        ring.ID        // node of the sender

	deadlineMs int64
	ticket     uint64 // AckOnDone: which of the messages of its segment it is
	segment    uint64 // AckOnDone: which segment
}

// receiver is the reading end of the request ring, for any number of goroutines.
type receiver struct {
	mu    sync.Mutex    // guards what follows; not held while one waits
	at    *attachment   // nil while detached
	ring  *shm.Consumer // of the newest segment
	taken uint64

	closed bool // an attachment that comes now is not read

	ackOnDone bool   // fixed
	open      opened // AckOnDone: messages handed out
}

// set lets receivers read from at, nil for nobody. A segment that goes on is
// read on where it was left: what lies before may be in the works.
func (r *receiver) set(at *attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = at
	if at == nil {
		return
	}
	if !at.resumed {
		r.ring = at.seg.Consumer(shm.ToProgram, shm.Request)
		r.open = opened{segment: segments.Add(1)}
		return
	}
	err := shm.Guard(func() error { // what was done while there was no node
		if bell := r.release(r.open.end(r.ring)); bell != nil {
			return bell.Ring()
		}
		return nil
	})
	if err != nil {
		at.fail(fmt.Errorf("receive: %w", err))
	}
}

// Receive waits for the next message and takes it: once Receive has returned
// it, the ring will not give it to anybody else unless this program's node
// ends before it has noticed. With Options.AckOnDone it is taken by Done. The
// message is the caller's. Any number of goroutines may call it. While there is no node nothing is handed out. A
// Client that is not RoleServer gets ErrNotServer.
func (c *Client) Receive(ctx context.Context) (*Message, error) {
	if c.request.Role != RoleServer {
		return nil, ErrNotServer
	}
	m := new(Message)
	if err := c.receive(ctx, m, false); err != nil {
		return nil, err
	}
	return m, nil
}

// receive takes the next message into m and reuses its payload buffer. armed:
// the end of ctx kicks the leader already.
func (c *Client) receive(ctx context.Context, m *Message, armed bool) error {
	for {
		if c.isClosed() {
			return ErrClosed
		}
		if c.take(m) {
			return nil
		}
		c.in.blocked.Add(1)
		c.leadAlone(leaderWait{ctx: ctx, recv: true, armed: armed})
		err := c.awaitMessage(ctx)
		c.unblock()
		if err != nil {
			return err
		}
	}
}

// awaitMessage returns nil when it is worth while to look at the ring again.
func (c *Client) awaitMessage(ctx context.Context) error {
	select {
	case <-c.in.message:
		return nil
	default:
	}
	c.needLeader()
	select {
	case <-c.in.message:
		return nil
	case <-c.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take takes the next message out of the ring, if there is one.
func (c *Client) take(m *Message) bool {
	ok, more, bell, err := c.received.next(m)
	if bell != nil {
		_ = bell.Ring() // fails only when the attachment has ended
	}
	if err != nil {
		c.received.abandon(err)
	}
	if more {
		notify(c.in.message) // even if nobody is seen to wait: somebody may be about to
	}
	return ok
}

// next copies the next message out and then releases it: from then on it
// counts as taken. more: another is there. bell must be rung unless it is nil.
func (r *receiver) next(m *Message) (ok, more bool, bell shm.Doorbell, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer shm.Catch(shm.Arm(), &err)
	if r.at == nil || r.closed {
		return false, false, nil, nil
	}
	rec, _, end, ok, err := r.ring.Next()
	if err != nil {
		return false, false, nil, err
	}
	if !ok {
		return false, false, r.release(r.open.end(r.ring)), nil // of records that were struck out
	}
	var h wire.InRequest
	payload, err := h.Get(rec)
	if err != nil {
		return false, false, nil, err
	}
	m.Payload = append(m.Payload[:0], payload...)
	m.Hash, m.Session, m.Seq, m.From, m.deadlineMs = h.Hash, h.Session, h.Seq, h.From, h.DeadlineUnixMs
	m.MaybeRepeat = h.Flags&wire.FlagMaybeRepeat != 0
	m.WantsReply = h.Flags&wire.FlagWantsReply != 0
	r.taken++
	if r.ackOnDone {
		m.ticket, m.segment = r.open.push(end), r.open.segment
	}
	fault.Crash(fault.ReceiveCopied)
	more = !r.ring.Empty()
	bell = r.release(r.open.end(r.ring))
	fault.Crash(fault.ReceiveReleased)
	return true, more, bell, nil
}

// release gives room back and returns the doorbell to ring, nil for none; mu is held.
func (r *receiver) release(end uint64) shm.Doorbell {
	r.ring.Release(end)
	if r.at.seg.RoomWanted(shm.NodeSide) {
		return r.at.nodeBell
	}
	return nil
}

// close ends all taking; any goroutine.
func (r *receiver) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// abandon ends an attachment whose request ring cannot be read.
func (r *receiver) abandon(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at != nil {
		r.at.fail(fmt.Errorf("receive: %w", err))
		r.at = nil
	}
}

// Reply sends the reply to a message that WantsReply. It waits for room until
// ctx ends. It may be called once for each message, from any goroutine; a
// reply after the asker has given up is dropped by the ring.
func (c *Client) Reply(ctx context.Context, m *Message, payload []byte) error {
	if !m.WantsReply {
		return ErrNoReplyWanted
	}
	return c.sendReply(ctx, m, payload)
}

// Handler answers one message. m and its payload are valid only during the
// call; the reply may be m.Payload itself. The reply is sent if m wants one;
// after an error none is, and the asker waits for its context.
type Handler func(ctx context.Context, m *Message) (reply []byte, err error)

// Serve takes messages and answers them with h on threads goroutines, each
// reusing its buffer, until ctx ends (it returns nil) or the Client is closed
// (ErrClosed). With Options.AckOnDone a message is Done when h has returned and
// its reply, if there is one, is accepted or given up. It returns when every call of h has. A Client that is not
// RoleServer gets ErrNotServer.
func (c *Client) Serve(ctx context.Context, threads int, h Handler) error {
	if c.request.Role != RoleServer {
		return ErrNotServer
	}
	if threads < 1 {
		return fmt.Errorf("%w: %d threads", ErrOptions, threads)
	}
	var wg sync.WaitGroup
	errs := make([]error, threads)
	for i := range threads {
		wg.Go(func() { errs[i] = c.serve(ctx, h) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *Client) serve(ctx context.Context, h Handler) error {
	// Once for all waits: each would cost an allocation.
	defer context.AfterFunc(ctx, c.kick)()
	m := new(Message)
	for ctx.Err() == nil {
		err := c.receive(ctx, m, true)
		if err == nil {
			if err = c.handle(ctx, m, h); err == nil || !c.isClosed() {
				c.Done(m)
			}
		}
		if err != nil && c.isClosed() { // h may have met another Client that is closed
			return ErrClosed
		}
	}
	return nil
}

// handle answers one message. Its error matters only when the Client is closed.
func (c *Client) handle(ctx context.Context, m *Message, h Handler) error {
	buf := m.Payload // h may change the field; the buffer stays
	reply, err := h(ctx, m)
	if err == nil && m.WantsReply {
		err = c.sendReply(ctx, m, reply)
	}
	m.Payload = buf
	if err != nil {
		c.unanswered.Add(1)
		c.log.Debug("message was not answered", "hash", m.Hash, "session", m.Session, "seq", m.Seq, "error", err)
	}
	return err
}
