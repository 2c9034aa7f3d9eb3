package client

import (
	"sync/atomic"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
)

// Done says that this program is done with a message: with Options.AckOnDone it
// counts as taken now, and is not given to anybody else. Messages may be done
// in any order; the ring gives their room back in the order in which it gave
// them out, so one that is never done will hold up all others. Done may be
// called from any goroutine; a second time, for a message of another Client, or
// without AckOnDone it does nothing. A message from before a node that did not
// take the segment back may come again, marked MaybeRepeat, although it is Done.
func (c *Client) Done(m *Message) {
	if !c.received.ackOnDone {
		return
	}
	bell, err := c.received.done(m)
	if bell != nil {
		_ = bell.Ring() // fails only when the attachment has ended
	}
	if err != nil {
		c.received.abandon(err)
	}
}

func (r *receiver) done(m *Message) (bell shm.Doorbell, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer shm.Catch(shm.Arm(), &err)
	if m.segment != r.open.segment || !r.open.done(m.ticket) || r.at == nil || r.closed {
		return nil, nil // without a node: when there is one
	}
	fault.Crash(fault.DoneNoted)
	bell = r.release(r.open.end(r.ring))
	fault.Crash(fault.DoneReleased)
	return bell, nil
}

// segments counts the segments of all Clients.
var segments atomic.Uint64

// opened holds the messages of one segment that were handed out and may not be
// done: all after the oldest one that is not. The in-ring bounds them. Without
// AckOnDone it stays empty.
type opened struct {
	segment     uint64        // of segments: tells messages of another one
	ring        []openMessage // circular, length a power of two
	first, last uint64        // tickets: first <= last, count for ever
	passed      uint64        // end of the last one before first
}

type openMessage struct {
	end  uint64 // cursor in the in-ring
	done bool
}

func (o *opened) at(i uint64) *openMessage { return &o.ring[i&uint64(len(o.ring)-1)] }

// push adds a message and returns its ticket.
func (o *opened) push(end uint64) (ticket uint64) {
	if o.last-o.first == uint64(len(o.ring)) {
		old := *o
		o.ring = make([]openMessage, max(64, 2*len(old.ring)))
		for i := old.first; i < old.last; i++ {
			*o.at(i) = *old.at(i)
		}
	}
	o.last++
	*o.at(o.last - 1) = openMessage{end: end}
	return o.last - 1
}

// done marks a message and reports whether it was open.
func (o *opened) done(ticket uint64) bool {
	if ticket < o.first || ticket >= o.last || o.at(ticket).done {
		return false
	}
	o.at(ticket).done = true
	for o.first < o.last && o.at(o.first).done {
		o.passed = o.at(o.first).end
		o.first++
	}
	return true
}

// end returns the cursor up to which the ring may be released: when nothing is
// open all that was read, records that were struck out included.
func (o *opened) end(ring *shm.Consumer) uint64 {
	if o.first == o.last {
		return ring.Read()
	}
	return o.passed
}
