package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// producers are the writing ends of a segment.
type producers struct{ requests, replies *shm.Producer }

func newProducers(at *attachment) producers {
	return producers{at.seg.Producer(shm.ToNode, shm.Request), at.seg.Producer(shm.ToNode, shm.Reply)}
}

// keep watches the attachment and replaces it when its node is gone, until
// Close. It owns every attachment: it alone installs and frees them.
func (c *Client) keep(ctx context.Context, at *attachment) {
	for {
		at.watch()
		c.detach(at)
		if ctx.Err() == nil {
			c.log.Warn("lost the node", "node", at.reply.Node, "error", at.why)
		}
		sent := c.requests.sent()
		next, ends := c.reattach(ctx, at)
		at.free()
		if next == nil {
			break
		}
		at = next
		c.reattached.Add(1)
		if at.resumed {
			c.resumed.Add(1)
		}
		c.log.Info("attached again", "node", at.reply.Node, "session", at.reply.Session, "resumed", at.resumed)
		c.install(at, ends)
		c.gathers.failAll(sent, errNodeEnded)
		c.lostUpTo.Store(sent)
		notify(c.lost)
	}
	c.giveUpAfter(0, ErrClosed)
}

// giveUpAfter ends what waits for messages after the sequence, because of err.
func (c *Client) giveUpAfter(seq uint64, err error) {
	for want := range outcomes {
		for _, a := range c.pending.takeAll(want, seq, math.MaxUint64) {
			c.end(a, want, result{err: fmt.Errorf("%w: %w", ErrMaybeDelivered, err)})
		}
	}
}

// lostReplyWait is how long after a new attachment a request from before it may
// still be answered. A reply that was on its way when the node ended is not
// kept for ever by its sender: such a request would wait in vain.
const lostReplyWait = 10 * time.Second

// errNodeEnded is what such a request gets.
var errNodeEnded = fmt.Errorf("%w: the node that carried the request ended, and no reply came since", ErrMaybeDelivered)

// runExpirer gives up requests that a lost node left without reply, until Close.
func (c *Client) runExpirer(wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	upTo := uint64(0)
	for {
		select {
		case <-c.closing:
			return
		case <-c.lost:
			upTo = c.lostUpTo.Load()
			t.Reset(wait)
		case <-t.C:
			for _, a := range c.pending.takeAll(wantReply, 0, upTo) {
				c.end(a, wantReply, result{err: errNodeEnded})
			}
		}
	}
}

// install makes at the present attachment. Close may have come meanwhile; then
// it did not see at, so it is failed here.
func (c *Client) install(at *attachment, ends producers) {
	c.node.Store(uint64(at.reply.Node))
	c.current.Store(at) // first: who leads in a moment can be kicked
	c.in.lead.Lock()
	c.in.at = at
	c.in.lead.Unlock()
	c.requests.set(at, ends.requests)
	c.replies.set(at, ends.replies)
	c.received.set(at)
	if c.isClosed() {
		at.fail(ErrClosed)
	}
	c.requests.look()
	c.replies.look()
	notify(c.in.message)
	notify(c.in.standby)
}

// detach takes an ended attachment out of use. When it returns nobody but the
// keeper touches its segment.
func (c *Client) detach(at *attachment) {
	c.current.Store(nil)
	at.end() // ends the leader's wait
	c.requests.set(nil, nil)
	c.replies.set(nil, nil)
	c.received.set(nil)
	c.in.lead.Lock()
	defer c.in.lead.Unlock()
	c.in.at = nil
	// Replies that came before the end are as good as any. Untaken messages
	// are not taken: their senders send them again.
	_ = shm.Guard(func() error {
		for {
			worked, err := c.drain(at)
			if !worked || err != nil {
				return err
			}
		}
	})
	c.serving.set(-1)
}

func (s *sender) set(at *attachment, prod *shm.Producer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.prod = at, prod
}

// intact reports whether the request in-ring could be read to the end.
func (r *receiver) intact() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring.Err() == nil
}

// reattach attaches with the same session: it hands the segment back, and if
// the node does not take it, copies what the old node has not settled into a
// new one. It tries until it succeeds, or returns nil when ctx ends.
func (c *Client) reattach(ctx context.Context, old *attachment) (*attachment, producers) {
	pause := attachBackoffMin
	back := old
	if !c.received.intact() {
		back = nil
	}
	var warned any // cause of the last warning
	for wait(ctx, pause) {
		pause = min(2*pause, attachBackoffMax)
		next, err := dial(ctx, c.system, c.paths, &c.request, back)
		if back != nil && causeOf(err) == wire.AttachRefusedSegment {
			c.log.Warn("the node does not take the segment back, its records are copied into a new one", "error", err)
			back = nil
			next, err = dial(ctx, c.system, c.paths, &c.request, nil)
		}
		if err == nil {
			var ends producers
			if ends, err = c.adopt(old, next); err == nil {
				return next, ends
			}
			next.end()
			next.free()
		}
		if ctx.Err() != nil {
			break
		}
		c.log.Debug("attach again", "error", err)
		if cause := causeOf(err); cause != nil && cause != warned {
			warned = cause
			c.log.Warn("the node does not take this program back", "error", err)
		}
	}
	return nil, producers{}
}

// causeOf says which refusal an error is, nil for none: a warning for each of
// them is enough.
func causeOf(err error) any {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.code
	case errors.Is(err, ErrNoRoom):
		return ErrNoRoom
	case errors.Is(err, errAdopt):
		return errAdopt
	case errors.Is(err, ErrForeignDir):
		return ErrForeignDir
	}
	return nil
}

// errAdopt says that a new attachment cannot take over what the old one holds.
var errAdopt = errors.New("client: the new segment does not fit")

// adopt goes on in next, which nobody else uses yet, with what old held: the
// same segment, or else the unsettled records are copied, in order and with
// their sequences. They always fit: the rings are as large, and begin without
// the gap that a record at the end may leave.
func (c *Client) adopt(old, next *attachment) (ends producers, err error) {
	if next.reply.Session != c.request.Session {
		return ends, fmt.Errorf("%w: it is of session %v instead of %v", errAdopt, next.reply.Session, c.request.Session)
	}
	if n := int(next.reply.RingBytes); n < c.ringBytes {
		return ends, fmt.Errorf("%w: rings of %d bytes instead of %d", errAdopt, n, c.ringBytes)
	}
	if next.resumed {
		if err = shm.Guard(func() error { ends = newProducers(next); return nil }); err == nil {
			next.takeOver(old)
			fault.Crash(fault.HandBackDone)
			c.lookBack(next)
		}
		return ends, err
	}
	if err := shm.Guard(func() error { ends = newProducers(next); return nil }); err != nil {
		return ends, err
	}
	c.lookBack(old)
	requests, lastSeq, oldErr, err := copyRing(old, ends.requests, shm.Request, markRepeat, c.moveWatched)
	if err != nil {
		return ends, err
	}
	replies, _, oldErr2, err := copyRing(old, ends.replies, shm.Reply, checkReply, func(uint64, uint64) {})
	if err != nil {
		return ends, err
	}
	if oldErr = errors.Join(oldErr, oldErr2); oldErr != nil {
		c.log.Error("the segment of the lost node is damaged, unsettled records may be lost",
			"requests", requests, "replies", replies, "error", oldErr)
		c.giveUpAfter(lastSeq, oldErr)
		c.loseWatched(lastSeq, math.MaxUint64)
	}
	fault.Crash(fault.CopyCommitted)
	return ends, shm.Guard(func() error {
		ends.requests.Publish()
		ends.replies.Publish()
		if next.seg.WakeNeeded(shm.NodeSide) {
			return next.nodeBell.Ring()
		}
		return nil
	})
}

// lookBack finds out what became of messages that the lost node had settled.
// at holds its segment, in which the next one may have gone on: so first how far
// it has come is read, then what was written about messages before. If it cannot
// be read, nobody knows.
func (c *Client) lookBack(at *attachment) {
	c.in.lead.Lock()
	defer c.in.lead.Unlock()
	oldest, unread := c.requests.sent()+1, false
	err := shm.Guard(func() error {
		rec, _, _, ok, err := at.seg.Consumer(shm.ToNode, shm.Request).Next()
		if err == nil && ok {
			var r wire.OutRequest
			_, err = r.Get(rec)
			oldest = r.Seq
		}
		if err == nil {
			unread = true                                            // until it has been
			at.control = at.seg.Consumer(shm.ToProgram, shm.Control) // what the leader could not read is there again
			_, err = c.drainControl(at)
		}
		return err
	})
	if err != nil && unread { // their ends are those of a ring that is over: nobody would ever miss them
		c.loseWatched(0, oldest)
	}
	var settled result
	if err != nil {
		settled.err, oldest = errNodeEnded, math.MaxUint64
	}
	for _, a := range c.pending.takeAll(wantSettled, 0, oldest-1) {
		c.end(a, wantSettled, settled)
	}
	for _, a := range c.pending.takeAll(wantReceivers, 0, oldest-1) {
		c.end(a, wantReceivers, result{err: errNodeEnded})
	}
	if err != nil {
		return
	}
	c.forgetWatched(func(m *watchedSend) bool { return m.seq < oldest })
}

// copyRing copies the unreleased records of an out-ring. edit checks a copy,
// changes it and returns its sequence. oldErr says why it stopped early
// because of the old ring, err that the new one cannot be written. copied hears
// where each ends now.
func copyRing(old *attachment, to *shm.Producer, c shm.Class, edit func(rec []byte) (uint64, error), copied func(seq, end uint64)) (n int, lastSeq uint64, oldErr, err error) {
	var rec []byte
	var from *shm.Consumer
	oldErr = shm.Guard(func() error { from = old.seg.Consumer(shm.ToNode, c); return nil })
	for oldErr == nil {
		var more bool
		oldErr = shm.Guard(func() error {
			shared, _, _, ok, err := from.Next()
			rec, more = append(rec[:0], shared...), ok
			return err
		})
		if !more || oldErr != nil {
			break
		}
		seq, bad := edit(rec)
		if bad != nil {
			oldErr = bad
			break
		}
		if err = shm.Guard(func() error { return appendRecord(to, rec) }); err != nil {
			return n, lastSeq, oldErr, err
		}
		copied(seq, to.Tail())
		lastSeq = seq
		n++
	}
	return n, lastSeq, oldErr, nil
}

func appendRecord(to *shm.Producer, rec []byte) error {
	shared, ok, err := to.Reserve(len(rec))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: no room for what the old one holds", errAdopt)
	}
	copy(shared, rec)
	to.Commit()
	return nil
}

// markRepeat marks a message: the lost node may have delivered it, unless it gave it up.
func markRepeat(rec []byte) (uint64, error) {
	var r wire.OutRequest
	if _, err := r.Get(rec); err != nil {
		return 0, err
	}
	r.Again()
	r.Put(rec)
	return r.Seq, nil
}

func checkReply(rec []byte) (uint64, error) {
	var r wire.OutReply
	_, err := r.Get(rec)
	return r.Seq, err
}
