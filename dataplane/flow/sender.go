package flow

import (
	"math/bits"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// chainBuckets is the number of chains that a session's records are sorted
// into by hash, so that the predecessor of a record is found without a map.
const chainBuckets = 256

func chainOf(hash uint64) uint64 { return hash * 0x9e3779b97f4a7c15 >> 56 }

// link puts a new record at the end of the chain of its hash.
func (s *Session) link(e *entry) {
	if s.chains == nil {
		s.chains = new([chainBuckets]uint64)
	}
	b := chainOf(e.rec.Hash)
	e.prev, s.chains[b] = s.chains[b], e.rec.Seq
}

// pred returns the newest unsettled record before e with the same hash, nil if
// there is none. What is settled is taken out of the chain on the way.
func (s *Session) pred(e *entry) *entry {
	w := &s.requests
	for link := &e.prev; *link >= w.low; {
		switch q := w.slot(*link); {
		case q.state == settled:
			*link = q.prev
		case q.rec.Hash == e.rec.Hash && q.rec.Kind == wire.KindHash:
			return q
		default:
			link = &q.prev
		}
	}
	return nil
}

// forward transmits a pending message if nothing forbids it, and reports
// whether it did. A message past its deadline is settled instead; the caller
// looks at its state and calls release.
func (c *Core) forward(nowNs int64, s *Session, e *entry) bool {
	if e.state == unsent && e.rec.DeadlineNs != 0 && nowNs >= e.rec.DeadlineNs {
		c.stats.Expired++
		c.giveUpMessage(s, e)
		return false
	}
	if c.tryForward(nowNs, s, e) {
		return true
	}
	c.dueDeadline(s, e)
	return false
}

// giveUpMessage settles a message that nobody has, or that was given up before
// and has come back; release must follow.
func (c *Core) giveUpMessage(s *Session, e *entry) {
	c.ports.Outcome(s, &e.rec, false, e.rec.Flags&wire.FlagMaybeRepeat != 0)
	s.requests.settle(e)
}

// dueDeadline makes Tick look at an unsent message when its deadline passes.
func (c *Core) dueDeadline(s *Session, e *entry) {
	if e.state == unsent && e.rec.DeadlineNs != 0 {
		c.due(&s.requests, e.rec.DeadlineNs)
	}
}

func (c *Core) tryForward(nowNs int64, s *Session, e *entry) bool {
	if c.isRandom(e) {
		return c.tryRandom(nowNs, s, e)
	}
	p := e.dest
	if e.state == unsent {
		if p = c.route(e.rec.Hash); p == nil || !p.ready || e.need.Compare(c.epoch) > 0 {
			return false
		}
	}
	if !p.up || p.full {
		return false
	}
	pr := s.pair(p)
	if pr.limited {
		if e.rec.Seq <= pr.refused && !s.around {
			s.passedOver = true
			return false
		}
		if !c.mayTry(nowNs, s, pr) {
			return false
		}
	}
	pred := s.pred(e)
	if pred != nil && (pred.state == unsent || pred.dest != p || pred.resend) {
		pred.waited = true
		return false
	}
	return c.transmit(nowNs, s, e, p, pr, pred)
}

// travelling are the flags that other nodes are told.
const travelling = wire.FlagMaybeRepeat | wire.FlagWantsReply

// transmit puts a message on the link to p and reports whether it had room.
func (c *Core) transmit(nowNs int64, s *Session, e *entry, p *Peer, pr *pair, pred *entry) bool {
	c.address(nowNs, s, e, e.attempt+1)
	if pred != nil {
		c.header.PredDelta = uint16(e.rec.Seq - pred.rec.Seq)
	}
	inPlace := e.rec.Kind == wire.KindHash && c.inPlace(e.rec.Hash, p)
	if inPlace {
		c.header.Flags |= wire.FlagStandIn
	}
	if !c.send(s, e, p, pr, e.resend) {
		return false
	}
	e.inPlace = inPlace || e.inPlace && e.state == out
	e.attempt++
	s.lastTry = max(s.lastTry, e.attempt)
	e.dest, e.inc = p, p.inc
	e.waited = false // who waited for it comes later in the same scan
	s.requests.sent(e)
	return true
}

// address writes the header of a message for its next transmission.
func (c *Core) address(nowNs int64, s *Session, e *entry, attempt uint32) {
	c.header = wire.Header{
		Type: wire.TypeMessage, Kind: e.rec.Kind, Flags: e.rec.Flags & travelling, Session: s.id, Seq: e.rec.Seq, Hash: e.rec.Hash,
		Epoch: c.epoch, Attempt: attempt, LowDelta: uint16(e.rec.Seq - s.requests.low),
		DeadlineMs: remaining(nowNs, e.rec.DeadlineNs),
	}
}

// send puts an addressed message on the link to p and reports whether it had room.
func (c *Core) send(s *Session, e *entry, p *Peer, pr *pair, resend bool) bool {
	if !c.ports.TransmitRecord(p, &c.header, s, Requests, &e.rec) {
		p.full = true
		return false
	}
	if resend {
		c.stats.Resent++
	}
	c.stats.Transmitted++
	pr.heard = true
	if pr.limited {
		pr.credit--
	}
	return true
}

// remaining returns the milliseconds to a deadline, at least 1; 0 if there is none.
func remaining(nowNs, deadlineNs int64) uint32 {
	if deadlineNs == 0 {
		return 0
	}
	return uint32(min(max((deadlineNs-nowNs+999_999)/1e6, 1), 1<<32-1))
}

// scan tries all pending messages of a session in sequence order. At a peer
// that refuses, those up to the refused one come last: a key that is stuck
// there would else have every trial, and the other keys none.
func (c *Core) scan(nowNs int64, s *Session) {
	s.requests.dueNs = never
	s.passedOver = false
	if s.fanned.waiting > 0 { // first: a stuck hash would use up every trial
		c.scanFans(nowNs, s)
	}
	c.scanPending(nowNs, s)
	if s.passedOver {
		s.around = true
		c.scanPending(nowNs, s)
		s.around = false
	}
}

func (c *Core) scanPending(nowNs int64, s *Session) {
	w := &s.requests
	first, expired := w.last+1, false
	seq := max(w.scanFrom, w.low)
	for left := w.waiting; left > 0 && seq <= w.last; seq++ {
		e := w.at(seq)
		if e == nil || !e.pending() {
			continue
		}
		left--
		if c.forward(nowNs, s, e) {
			continue
		}
		if e.state == settled {
			expired = true
		} else {
			first = min(first, seq)
		}
	}
	w.scanFrom = first
	if expired {
		c.release(s, Requests)
	}
}

// acknowledged handles TypeAck: the program of p has taken these messages.
func (c *Core) acknowledged(nowNs int64, p *Peer, h *wire.Header) {
	s := c.session(&h.Session)
	if s == nil {
		return
	}
	w := &s.requests
	n, copies, waited := 0, 0, false
	for mask := h.Hash; mask != 0; mask &= mask - 1 {
		e := w.at(h.Seq + uint64(bits.TrailingZeros64(mask)))
		if e == nil || e.state == settled {
			continue
		}
		if e.fan != nil {
			if c.copyTaken(s, e, p) {
				copies++
			}
			continue
		}
		n++
		waited = waited || e.waited
		if e.rec.Flags&wire.FlagWantsSettled != 0 {
			c.ports.Outcome(s, &e.rec, true, false)
		}
		w.settle(e)
		if e.rec.Flags&wire.FlagWantsReply != 0 && !e.replied && !s.detached {
			c.await(s, e.rec.Seq, p, false)
		}
	}
	if n+copies == 0 {
		return
	}
	c.stats.Acked += uint64(n)
	c.release(s, Requests)
	limited := false
	if pr := s.known(p); pr != nil {
		limited = pr.limited
		c.praise(nowNs, w, pr, n+copies)
	}
	if s.waiting() && (waited || limited) {
		c.scan(nowNs, s)
	}
}

// refused handles TypeLater and TypeMoved, which count only for the present attempt.
func (c *Core) refused(nowNs int64, p *Peer, h *wire.Header) {
	s := c.session(&h.Session)
	if s == nil {
		return
	}
	w := &s.requests
	e := w.at(h.Seq)
	if e != nil && e.fan != nil {
		c.copyRefused(nowNs, s, e, p, h)
		return
	}
	if e == nil || e.state != out || e.dest != p || e.attempt != h.Attempt {
		c.stats.Stale++
		return
	}
	w.wait(e, unsent)
	e.dest = nil
	e.rec.Flags |= h.Flags & wire.FlagMaybeRepeat // it forgot the session: perhaps taken there before
	c.dueDeadline(s, e)
	if h.Flags&wire.FlagTooLarge != 0 {
		c.giveUpMessage(s, e)
		c.release(s, Requests)
		c.scan(nowNs, s) // what came after it with the same hash
		return
	}
	if e.rec.Kind == wire.KindRandom {
		c.refusedRandom(nowNs, s, e, p, h)
		return
	}
	if h.Type == wire.TypeMoved {
		if h.Epoch.Compare(c.epoch) > 0 {
			e.need = h.Epoch
			c.wantTable(nowNs, p, h.Epoch)
			return
		}
		c.refusedAsDeputy(e.rec.Hash, p)
		if c.route(e.rec.Hash) != p { // our table is as new and names another
			c.scan(nowNs, s)
			return
		}
	}
	pr := s.pair(p)
	pr.hold(nowNs, &c.cfg, s.stream)
	pr.refused = h.Seq
	c.due(w, pr.untilNs)
}

// roomAt handles TypeRoom: what p refused it may accept now.
func (c *Core) roomAt(nowNs int64, p *Peer, h *wire.Header) {
	s := c.session(&h.Session)
	if s == nil {
		return
	}
	if pr := s.known(p); pr != nil && pr.limited {
		pr.refused = 0
		pr.credit, pr.step = max(pr.credit, roomCredit), max(pr.step, 1)
		if s.waiting() {
			c.scan(nowNs, s)
		}
	}
}

// verdict is what becomes of a message that is out when its destination changes.
type verdict uint8

const (
	keep   verdict = iota // it stays out
	again                 // it is transmitted to the same peer again
	repeat                // it may have been taken there: unsent, and marked
)

// recall judges every message, or copy of one, that a session has out. A scan must follow.
func (c *Core) recall(s *Session, judge func(p *Peer, inc ring.Incarnation) verdict) {
	w := &s.requests
	done := false
	for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
		e := w.at(seq)
		if e == nil || e.state != out {
			continue
		}
		if e.fan != nil {
			c.recallCopies(s, e, judge)
			done = done || e.state == settled
			continue
		}
		switch judge(e.dest, e.inc) {
		case again:
			w.wait(e, out)
		case repeat:
			c.stats.Repeats++
			e.rec.Flags |= wire.FlagMaybeRepeat
			w.wait(e, unsent)
			e.dest = nil
		case keep:
		}
	}
	if done {
		c.release(s, Requests)
	}
}
