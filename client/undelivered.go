package client

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Undelivered names a message that was accepted and that the ring has given up.
type Undelivered struct {
	Seq            uint64 // of the message in this Client's Session, from 1
	Hash           uint64 // that it was sent by; 0 for SendRandom and Broadcast
	MaybeDelivered bool   // a server program may have taken it
}

const (
	// reportsMax bounds the calls of Options.Undelivered that wait.
	reportsMax = 1024
	// watchedMax bounds the messages that may be given up and of which the
	// leader has not seen what became; then senders wait as for room.
	watchedMax = 1 << 15
)

// watched holds the messages that may be given up, oldest first, from before
// they are published until the node has given their room back and everything
// that it wrote before is read. Guarded by the mutex of the sender.
type watched struct {
	ring        []watchedSend // circular, length a power of two
	first, last uint64        // first <= last count for ever
	queued      uint64        // reports that Options.Undelivered is to be called for
	any         atomic.Bool   // first != last, for those who do not hold the mutex
}

type watchedSend struct {
	seq, hash, end uint64
	told           bool // its sender knows: the next node may find it once more, behind an older one
}

func (w *watched) at(i uint64) *watchedSend { return &w.ring[i&uint64(len(w.ring)-1)] }

func (w *watched) room() bool { return w.last-w.first < watchedMax }

func (w *watched) push(s watchedSend) {
	if w.last-w.first == uint64(len(w.ring)) {
		old := watched{ring: w.ring, first: w.first, last: w.last}
		w.ring = make([]watchedSend, max(64, 2*len(old.ring)))
		for i := old.first; i < old.last; i++ {
			*w.at(i) = *old.at(i)
		}
	}
	w.last++
	*w.at(w.last - 1) = s
}

// find returns a message, nil if it is not there; sequences grow.
func (w *watched) find(seq uint64) *watchedSend {
	low, high := w.first, w.last
	for low < high {
		if mid := low + (high-low)/2; w.at(mid).seq < seq {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < w.last && w.at(low).seq == seq {
		return w.at(low)
	}
	return nil
}

// tell notes that the end of a message is told. It returns nil if the message
// is not watched, or was told before.
func (w *watched) tell(seq uint64) *watchedSend {
	m := w.find(seq)
	if m == nil || m.told {
		return nil
	}
	m.told = true
	return m
}

// knownTo reports whether it is known what became of everything up to seq.
func (w *watched) knownTo(seq uint64) bool { return w.first == w.last || w.at(w.first).seq > seq }

// watch remembers a message that is about to be published; requests.mu is held.
// While there are any somebody must lead, to hear of them.
func (c *Client) watch(seq, hash, end uint64) {
	w := &c.requests.watched
	w.push(watchedSend{seq: seq, hash: hash, end: end})
	if !w.any.Swap(true) {
		c.in.async.Add(1)
		c.needLeader()
	}
}

// forgetWatched drops the oldest messages, as far as they have passed.
func (c *Client) forgetWatched(passed func(m *watchedSend) bool) {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	w := &c.requests.watched
	for w.first < w.last && passed(w.at(w.first)) {
		w.first++
	}
	if w.first == w.last && w.any.Swap(false) {
		c.in.async.Add(-1)
	}
}

// moveWatched tells where a record ends in the ring that it was copied to.
func (c *Client) moveWatched(seq, end uint64) {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	if m := c.requests.watched.find(seq); m != nil {
		m.end = end
	}
}

// loseWatched reports the messages after a sequence and before another one, of which
// nobody knows what became. They are the oldest, or the newest.
func (c *Client) loseWatched(after, before uint64) {
	c.requests.mu.Lock()
	w := &c.requests.watched
	first, last := w.first, w.last
	for first < last && w.at(first).seq <= after {
		first++
	}
	for first < last && w.at(last-1).seq >= before {
		last--
	}
	for i := first; i < last; i++ {
		if m := w.at(i); !m.told {
			c.report(Undelivered{Seq: m.seq, Hash: m.hash, MaybeDelivered: true})
		}
	}
	if last == w.last {
		w.last = first
	} else if first == w.first {
		w.first = last
	}
	c.requests.mu.Unlock()
	c.forgetWatched(func(*watchedSend) bool { return false }) // perhaps none is left
}

// releasedTo returns the node's head in the request out-ring if messages are
// watched, else 0.
func (c *Client) releasedTo() uint64 {
	if !c.requests.watched.any.Load() {
		return 0
	}
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	if c.requests.prod == nil {
		return 0
	}
	return c.requests.prod.Head()
}

// givenUp handles ControlUndelivered.
func (c *Client) givenUp(seq uint64, maybe bool) {
	err := errGivenUp
	if maybe {
		err = errMaybeGivenUp
	}
	w := &c.requests.watched
	if a, want, ok := c.pending.takeAny(seq); ok {
		c.requests.mu.Lock()
		w.tell(seq)
		c.requests.mu.Unlock()
		c.end(a, want, result{err: err})
		return
	}
	if g := c.gathers.get(seq); g != nil {
		g.fail(err)
		return
	}
	if c.reports == nil {
		return
	}
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	if m := w.tell(seq); m != nil { // else somebody had waited for it, or it was told before
		c.report(Undelivered{Seq: seq, Hash: m.hash, MaybeDelivered: maybe})
	}
}

// report hands over to the goroutine that calls Options.Undelivered. requests.mu
// is held: who sees that a message is not watched any more finds it reported.
func (c *Client) report(u Undelivered) {
	c.undelivered.Add(1)
	select {
	case c.reports <- u:
		c.requests.watched.queued++
	default:
		c.undeliveredMissed.Add(1)
	}
}

// What the sender of a message that was given up is told.
var (
	errGivenUp      = fmt.Errorf("%w: given up: %w", ErrNotDelivered, context.DeadlineExceeded)
	errMaybeGivenUp = fmt.Errorf("%w: given up: %w", ErrMaybeDelivered, context.DeadlineExceeded)
)

// runReports calls Options.Undelivered until Close.
func (c *Client) runReports(report func(Undelivered)) {
	for {
		select {
		case u := <-c.reports:
			report(u)
			c.undeliveredTold.Add(1)
		case <-c.closing:
			c.undeliveredMissed.Add(uint64(len(c.reports)))
			return
		}
	}
}

// drainReports waits until it is known what became of all messages up to seq,
// and Options.Undelivered has been called for those given up.
func (c *Client) drainReports(ctx context.Context, seq uint64) error {
	if c.reports == nil {
		return nil
	}
	var queued uint64 // reports about them have at most this number
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for known := false; ; {
		if !known {
			c.requests.mu.Lock()
			known, queued = c.requests.watched.knownTo(seq), c.requests.watched.queued
			c.requests.mu.Unlock()
		}
		switch {
		case !known:
			c.kick() // what was settled without a word is noticed when somebody looks
		case c.undeliveredTold.Load() >= queued:
			return nil
		}
		select {
		case <-again.C:
		case <-c.closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
