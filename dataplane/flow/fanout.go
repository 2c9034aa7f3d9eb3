package flow

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Messages of KindReplicate and KindBroadcast are fanned out: a copy goes to
// each server that the table names when the record is read. What is promised is
// promised for each copy by itself. A copy belongs to one server and, once it
// was sent, to one incarnation of it, and goes nowhere else; it is settled when
// it has been taken there, or given up when that one leaves the service or ends.
// The record is settled with its last copy. In the window it counts as out all
// the while.

// isFan reports whether messages of a kind are fanned out.
func isFan(k wire.Kind) bool { return k == wire.KindReplicate || k == wire.KindBroadcast }

// fan is what the entry of such a message has besides.
type fan struct {
	copies []fanCopy
	chosen bool // copies are; false until there is a table
	late   bool // a copy was given up at the deadline
	small  bool // a copy was given up because its server's rings cannot hold it
	doubt  bool // a copy that was given up may have been taken
	open   int  // copies that are not settled
	taken  int
}

type fanCopy struct {
	dest    *Peer
	inc     ring.Incarnation
	attempt uint32
	state   state
	resend  bool       // out: to be transmitted again, the link that carried it is gone
	replied bool       // its reply came already
	marks   wire.Flags // FlagMaybeRepeat: may have been taken there before
}

// pending reports whether the copy waits to be transmitted.
func (cp *fanCopy) pending() bool { return cp.state == unsent || cp.state == out && cp.resend }

// stays reports whether an unsent copy still has its server. If that was
// started again meanwhile, the copy is for the new process: the old one has
// nothing of it.
func (cp *fanCopy) stays() bool {
	if cp.dest.inService {
		cp.inc = cp.dest.tableInc
	}
	return cp.dest.inService
}

// fanned are the copies of a session.
type fanned struct {
	waiting  int    // pending copies, and records without a choice
	scanFrom uint64 // none of them has a lower sequence
}

// fansFreeMax bounds the fans that are kept to be used again.
const fansFreeMax = 1024

func (c *Core) newFan() *fan {
	if n := len(c.fansFree); n > 0 {
		f := c.fansFree[n-1]
		c.fansFree = c.fansFree[:n-1]
		*f = fan{copies: f.copies[:0]}
		return f
	}
	return &fan{}
}

// submitFan takes over a record that has been pushed.
func (c *Core) submitFan(nowNs int64, s *Session, e *entry) {
	s.requests.sent(e)
	e.fan = c.newFan()
	if s.fanned.waiting == 0 {
		s.fanned.scanFrom = e.rec.Seq
	}
	s.fanned.waiting++
	c.forwardFan(nowNs, s, e)
}

// waitForTable leaves a message until servers can be chosen, at most until its
// deadline: there is no table, or an owner that the choice would miss restarts. It reports whether the message still waits.
func (c *Core) waitForTable(s *Session, e *entry, late bool) bool {
	if late {
		e.fan.late = true
		s.fanned.waiting--
		c.settleFan(s, e)
		return false
	}
	if e.rec.DeadlineNs != 0 {
		c.due(&s.requests, e.rec.DeadlineNs)
	}
	return true
}

// chooseCopies makes the choice of servers; it is not made again.
func (c *Core) chooseCopies(s *Session, e *entry) {
	f := e.fan
	if e.rec.Kind == wire.KindReplicate {
		c.chosen = c.table.Owners(e.rec.Hash, c.chosen[:0])
	} else {
		c.chosen = c.table.Everyone(c.chosen[:0])
	}
	f.copies = slices.Grow(f.copies, len(c.chosen))
	for _, i := range c.chosen {
		p := c.servers[i]
		if p.id != c.cfg.Self || e.rec.Flags&wire.FlagWithoutSelf == 0 {
			f.copies = append(f.copies, fanCopy{dest: p, inc: p.tableInc, attempt: s.firstTry})
		}
	}
	f.chosen, f.open = true, len(f.copies)
	s.fanned.waiting += f.open - 1
	c.ports.Receivers(s, e.rec.Seq, f.open)
	if f.open == 0 {
		c.settleFan(s, e)
	}
}

// forwardFan transmits the pending copies that nothing forbids, and reports
// whether any is left. The record may be settled then; the caller calls release.
func (c *Core) forwardFan(nowNs int64, s *Session, e *entry) (left bool) {
	f := e.fan
	late := e.rec.DeadlineNs != 0 && nowNs >= e.rec.DeadlineNs
	if !f.chosen {
		if c.table == nil || e.rec.Kind == wire.KindReplicate && c.table.Waits(e.rec.Hash) {
			return c.waitForTable(s, e, late)
		}
		if c.chooseCopies(s, e); e.state == settled {
			return false
		}
	}
	for i := range f.copies {
		cp := &f.copies[i]
		switch {
		case !cp.pending():
		case late && cp.state == unsent:
			f.late = true
			c.giveUp(s, e, cp)
		case c.forwardCopy(nowNs, s, e, cp):
		default:
			left = true
			if cp.state == unsent && e.rec.DeadlineNs != 0 {
				c.due(&s.requests, e.rec.DeadlineNs)
			}
		}
		if e.state == settled {
			return false
		}
	}
	return left
}

// forwardCopy transmits a copy if its server can be reached and does not
// refuse the session.
func (c *Core) forwardCopy(nowNs int64, s *Session, e *entry, cp *fanCopy) bool {
	p := cp.dest
	if !p.up || p.full || cp.state == unsent && (!p.ready || p.inc != cp.inc) || !c.hasCredit(nowNs, s, p) {
		return false
	}
	c.address(nowNs, s, e, cp.attempt+1)
	c.header.Flags |= cp.marks
	pr := s.pair(p)
	if !c.send(s, e, p, pr, cp.resend) {
		return false
	}
	cp.attempt++
	s.lastTry = max(s.lastTry, cp.attempt)
	cp.state, cp.resend = out, false
	s.fanned.waiting--
	return true
}

// scanFans tries all pending copies of a session.
func (c *Core) scanFans(nowNs int64, s *Session) {
	w := &s.requests
	first, done := w.last+1, false
	for seq := max(s.fanned.scanFrom, w.low); s.fanned.waiting > 0 && seq <= w.last; seq++ {
		e := w.at(seq)
		if e == nil || e.fan == nil {
			continue
		}
		if c.forwardFan(nowNs, s, e) {
			first = min(first, seq)
		}
		done = done || e.state == settled
	}
	s.fanned.scanFrom = first
	if done {
		c.release(s, Requests)
	}
}

// copyAt returns the copy of an unsettled message for p as its link named
// itself, nil if there is none or it is settled. What the last frames of an
// earlier process say is not about the present one.
func (f *fan) copyAt(p *Peer) *fanCopy {
	for i := range f.copies {
		if cp := &f.copies[i]; cp.dest == p && cp.inc == p.inc && cp.state != settled {
			return cp
		}
	}
	return nil
}

// copyTaken handles the acknowledgement of a copy, and reports whether there was one.
func (c *Core) copyTaken(s *Session, e *entry, p *Peer) bool {
	cp := e.fan.copyAt(p)
	if cp == nil {
		return false
	}
	c.stats.CopiesTaken++
	e.fan.taken++
	if e.rec.Flags&wire.FlagWantsReply != 0 && !cp.replied && !s.detached {
		c.await(s, e.rec.Seq, p, true)
	}
	c.settleCopy(s, e, cp)
	return true
}

// copyRefused handles LATER and MOVED of a copy.
func (c *Core) copyRefused(nowNs int64, s *Session, e *entry, p *Peer, h *wire.Header) {
	cp := e.fan.copyAt(p)
	if cp == nil || cp.state != out || cp.attempt != h.Attempt {
		c.stats.Stale++
		return
	}
	c.copyWaits(s, e, cp, unsent)
	cp.marks |= h.Flags & wire.FlagMaybeRepeat
	if h.Type == wire.TypeMoved && h.Epoch.Compare(c.epoch) > 0 {
		c.wantTable(nowNs, p, h.Epoch)
	}
	small := h.Flags&wire.FlagTooLarge != 0
	e.fan.small = e.fan.small || small
	if small || !cp.stays() {
		c.giveUp(s, e, cp)
	}
	if !small {
		pr := s.pair(p)
		pr.hold(nowNs, &c.cfg, s.stream)
		c.due(&s.requests, pr.untilNs)
	}
	if e.state == settled {
		c.release(s, Requests)
	} else if e.rec.DeadlineNs != 0 {
		c.due(&s.requests, e.rec.DeadlineNs)
	}
}

// recallCopies judges the copies of a message when a destination has changed.
// Copies for one that has gone are given up; the caller calls release.
func (c *Core) recallCopies(s *Session, e *entry, judge func(p *Peer, inc ring.Incarnation) verdict) {
	f := e.fan
	for i := range f.copies {
		cp := &f.copies[i]
		switch {
		case cp.state == settled:
		case cp.state == unsent:
			if !cp.stays() {
				c.giveUp(s, e, cp)
			}
		default:
			switch judge(cp.dest, cp.inc) {
			case again:
				c.copyWaits(s, e, cp, out)
			case repeat:
				c.giveUp(s, e, cp)
			case keep:
			}
		}
		if e.state == settled {
			return
		}
	}
}

// copyWaits makes a copy pending: unsent, or out and due for being sent again.
func (c *Core) copyWaits(s *Session, e *entry, cp *fanCopy, st state) {
	if s.fanned.waiting == 0 {
		s.fanned.scanFrom = e.rec.Seq
	}
	if !cp.pending() {
		s.fanned.waiting++
	}
	cp.state, cp.resend = st, st == out
	s.fanned.scanFrom = min(s.fanned.scanFrom, e.rec.Seq)
}

// answered notes that the reply of p has come.
func (f *fan) answered(p *Peer) {
	if cp := f.copyAt(p); cp != nil {
		cp.replied = true
	}
}

// giveUp ends what is promised for a copy. Who asked hears of each server whose
// reply it need not wait for, and of the deadline once.
func (c *Core) giveUp(s *Session, e *entry, cp *fanCopy) {
	c.stats.CopiesGivenUp++
	if e.rec.Flags&wire.FlagWantsReply != 0 && !cp.replied && !e.fan.late && !s.detached {
		c.requestFailed(s, e.rec.Seq)
	}
	e.fan.doubt = e.fan.doubt || cp.state == out || cp.marks != 0
	c.settleCopy(s, e, cp)
}

func (c *Core) settleCopy(s *Session, e *entry, cp *fanCopy) {
	if cp.pending() {
		s.fanned.waiting--
	}
	cp.state, cp.resend = settled, false
	if e.fan.open--; e.fan.open == 0 {
		c.settleFan(s, e)
	}
}

// settleFan settles a message whose copies are. It was delivered if every
// server that stayed has taken it, and there was one. Who wants replies has
// heard of each server that could not hold it.
func (c *Core) settleFan(s *Session, e *entry) {
	f := e.fan
	e.fan = nil
	delivered := f.taken > 0 && !f.late && (!f.small || e.rec.Flags&wire.FlagWantsReply != 0)
	if f.late {
		c.stats.Expired++
	}
	if !delivered || e.rec.Flags&wire.FlagWantsSettled != 0 {
		maybe := f.doubt || f.taken > 0 || e.rec.Flags&wire.FlagMaybeRepeat != 0
		c.ports.Outcome(s, &e.rec, delivered, maybe && !delivered)
	}
	s.requests.settle(e)
	if len(c.fansFree) < fansFreeMax {
		c.fansFree = append(c.fansFree, f)
	}
}
