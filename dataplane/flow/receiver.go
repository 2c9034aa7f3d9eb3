package flow

import (
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// message handles TypeMessage by the rules of the receiver, in their order.
// What is known to be taken or given to a program is answered before the
// frame's epoch is looked at: that stays true under any table, and refusing it
// would make its sender give it to somebody else as well.
func (c *Core) message(nowNs int64, p *Peer, h *wire.Header, payload []byte) {
	if h.LowDelta >= Window || h.PredDelta >= Window {
		c.stats.Violations++
		return
	}
	set := c.inSetOf(p, h)
	if low := h.Low(); low > set.low {
		set.advance(low)
	}
	seq := h.Seq
	switch {
	case seq < set.low || set.taken.has(seq) && !fault.Bug(fault.SkipDedup): // within the window of low: its delta is, and low is not lower
		c.stats.Known++
		c.ack(set, seq)
		c.recallLost(&set.id, seq) // its asker's node may have been started after it was told
	case set.accepted.has(seq):
		c.stats.Known++
		set.attempts[seq%Window] = h.Attempt
	case h.Kind != wire.KindHash && c.adopt(set, h):
		c.stats.Known++
	case h.Epoch.Compare(c.epoch) > 0:
		c.wantTable(nowNs, p, h.Epoch)
		c.later(set, h, waitNode, &c.waiters)
	case !c.mayHave(h) || h.Epoch.Compare(c.admitted) < 0:
		c.stats.Moved++
		c.answer(p, wire.Header{
			Type: wire.TypeMoved, Flags: set.doubt(h), Session: set.id, Seq: seq, Attempt: h.Attempt, Epoch: c.epoch,
		}, true)
	case h.Kind == wire.KindHash && c.seal.HasHash(h.Hash):
		c.later(set, h, waitNode, &c.waiters)
	default:
		c.accept(set, h, payload)
	}
}

// accept gives a message of ours to a program, unless it must wait.
func (c *Core) accept(set *inSet, h *wire.Header, payload []byte) {
	if pred := h.Pred(); pred >= set.low && pred != 0 && !set.holds(pred) {
		c.later(set, h, 0, nil) // it was refused, or is still elsewhere; what lifts that lifts this
		return
	}
	d := &c.delivery
	*d = Delivery{
		Stream: Requests, From: set.peer.id, Session: set.id, Seq: h.Seq, Hash: h.Hash, Kind: h.Kind,
		Flags: h.Flags&^wire.FlagStandIn | set.doubt(h), DeadlineMs: h.DeadlineMs, Payload: payload,
	}
	if h.Kind == wire.KindHash {
		c.giveByHash(set, h, d)
	} else {
		c.spread(set, h, d)
	}
	d.Payload = nil
}

// giveByHash gives a message to the program that acts for its hash.
func (c *Core) giveByHash(set *inSet, h *wire.Header, d *Delivery) {
	if c.forAnother(h.Hash) && !fault.Bug(fault.StandInUnmarked) {
		d.Flags |= wire.FlagMaybeRepeat // a stand-in cannot know what the owner was given
	}
	s, free := c.choose(h.Hash)
	if !free {
		c.later(set, h, waitNode, &c.waiters)
		return
	}
	end, ok := c.ports.Deliver(s, d)
	if d.TooLarge {
		c.tooLarge(set, h)
		return
	}
	if !ok {
		s.program.fullAt = max(s.program.fullAt, s.program.untaken())
		c.later(set, h, s.program.waitBit(), &s.program.waiters)
		return
	}
	c.given(set, h, s, end)
}

// given notes that the program of s has been given a message.
func (c *Core) given(set *inSet, h *wire.Header, s *Session, end uint64) {
	c.stats.Accepted++
	if h.Kind == wire.KindHash && c.forAnother(h.Hash) {
		c.stats.StoodIn++
	}
	set.accepted.add(h.Seq)
	set.attempts[h.Seq%Window] = h.Attempt
	set.untaken++
	c.untaken++
	s.program.push(handed{set: set, seq: h.Seq, hash: h.Hash, kind: h.Kind, end: end})
	if h.Flags&wire.FlagWantsReply != 0 {
		s.program.open.add(set.peer.id, &set.id, h.Seq)
		c.lost.drop(&set.id, h.Seq) // the program may answer what another one took
	}
}

// Who a refused session waits for, as bits of inSet.waits. Programs share the
// lower 63: a session that waits for one of two with the same bit may miss the
// other's room and tries again by its own back-off.
const waitNode = 1 << 63

// later refuses one transmission for now, and remembers the session in a list,
// nil for none, if it is to hear when who says so has room again.
func (c *Core) later(set *inSet, h *wire.Header, who uint64, list *[]*inSet) {
	c.stats.Later++
	c.answer(set.peer, wire.Header{
		Type: wire.TypeLater, Flags: set.doubt(h) | h.Flags&wire.FlagMaybeRepeat, Session: set.id, Seq: h.Seq, Attempt: h.Attempt,
	}, true)
	if list != nil {
		c.remember(set, who, list)
	}
}

// tooLarge refuses a message for good: its sender gives it up.
func (c *Core) tooLarge(set *inSet, h *wire.Header) {
	c.stats.TooLarge++
	c.answer(set.peer, wire.Header{
		Type: wire.TypeLater, Flags: set.doubt(h) | wire.FlagTooLarge, Session: set.id, Seq: h.Seq, Attempt: h.Attempt,
	}, true)
}

// remember notes that a session waits. Not more of them are kept than
// sessions; the rest tries again by its own back-off.
func (c *Core) remember(set *inSet, who uint64, list *[]*inSet) {
	if set.waits&who == 0 && len(*list) < c.cfg.SessionsMax {
		set.waits |= who
		*list = append(*list, set)
	}
}

// lift tells every session of a list that there is room, and empties it.
func (c *Core) lift(list *[]*inSet, who uint64) {
	for i, set := range *list {
		set.waits &^= who
		c.stats.Rooms++
		c.answer(set.peer, wire.Header{Type: wire.TypeRoom, Session: set.id}, true)
		(*list)[i] = nil
	}
	*list = (*list)[:0]
}

// liftWaiters lifts the refusals that no single program caused: the view has
// changed, a program has come, a fence has been passed.
func (c *Core) liftWaiters() {
	if len(c.waiters) > 0 {
		c.lift(&c.waiters, waitNode)
	}
}

// Taken tells the head cursor of the request in-ring of s: everything up to it
// has been taken and is acknowledged.
func (c *Core) Taken(_ int64, s *Session, head uint64) {
	pr := &s.program
	n := 0
	for pr.taken < pr.given {
		r := pr.at(pr.taken)
		if int64(head-r.end) < 0 {
			break
		}
		c.take(r)
		*r = handed{}
		pr.taken++
		n++
	}
	if n == 0 {
		return
	}
	c.stats.Taken += uint64(n)
	pr.displaced = pr.displaced && pr.untaken() > 0
	if len(c.chain)+len(c.restored) > 0 {
		c.prune()
	}
	if len(pr.waiters) > 0 && pr.untaken() <= pr.fullAt/2 {
		pr.fullAt = 0
		c.lift(&pr.waiters, pr.waitBit())
	}
}

// left counts a record that is no longer untaken.
func (c *Core) left(r *handed) {
	c.untaken--
	r.set.untaken--
	if r.set.dead {
		c.orphans--
	}
	if r.sealed {
		c.sealed--
	}
}

// take notes that a program has taken a record.
func (c *Core) take(r *handed) {
	set := r.set
	c.left(r)
	if r.seq >= set.low {
		set.accepted.del(r.seq)
		set.taken.add(r.seq)
	}
	c.ack(set, r.seq)
	c.recallLost(&set.id, r.seq)
}

// Delivered reports whether s has records that its program has not taken, so
// that its head is worth looking at.
func (c *Core) Delivered(s *Session) bool { return s.program.untaken() > 0 }

// Drained reports whether no untaken record lies in a sealed slot. True when
// nothing is sealed.
func (c *Core) Drained() bool { return c.sealed == 0 }

// Displaced reports whether the program of s has untaken records that it must
// not take any more: another node may own them by the present view (this node
// was declared down, or suspended). The owner takes the program's ring away
// before it can (cuts it off) and calls Detach.
func (c *Core) Displaced(s *Session) bool { return s.program.displaced }

// reviewUntaken counts the untaken records in sealed slots and finds displaced
// programs, after the view has changed.
func (c *Core) reviewUntaken() {
	c.sealed = 0
	for _, s := range c.sessions {
		pr := &s.program
		for i := pr.taken; i < pr.given; i++ {
			r := pr.at(i)
			if r.sealed = r.kind == wire.KindHash && c.seal.HasHash(r.hash); r.sealed {
				c.sealed++
			}
			pr.displaced = pr.displaced || !c.mayKeep(r)
		}
	}
}

// displaceAll marks every program with untaken records as displaced, unless
// they are copies, which go to nobody else.
func (c *Core) displaceAll() {
	for _, s := range c.sessions {
		pr := &s.program
		for i := pr.taken; i < pr.given; i++ {
			pr.displaced = pr.displaced || !isFan(pr.at(i).kind)
		}
	}
}
