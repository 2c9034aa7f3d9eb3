package flow

import "github.com/chmpx/chmpx/ring"

// awaitSlots is how many taken requests of a session are watched until their
// reply comes. Older ones are no longer watched: their askers' own time limits hold.
const awaitSlots = 4096

// await is a request that a server program has taken and not yet answered.
type await struct {
	seq  uint64 // 0 = none
	peer *Peer
	inc  ring.Incarnation
}

// await watches a request that p has acknowledged.
func (c *Core) await(s *Session, seq uint64, p *Peer) {
	if p.tableInc != p.inc { // it has been declared down already
		c.requestFailed(s, seq)
		return
	}
	if s.awaits == nil {
		s.awaits = make([]await, awaitSlots)
	}
	a := &s.awaits[seq%awaitSlots]
	if a.seq == 0 {
		s.awaiting++
	}
	*a = await{seq: seq, peer: p, inc: p.inc}
}

// answered notes that the reply to a request has been delivered.
func (s *Session) answered(seq uint64) {
	if e := s.requests.at(seq); e != nil && e.state != settled {
		e.replied = true // the acknowledgement comes after the reply: do not watch
	}
	if s.awaits == nil {
		return
	}
	if a := &s.awaits[seq%awaitSlots]; a.seq == seq && seq != 0 {
		*a = await{}
		s.awaiting--
	}
}

// failAwaited reports the watched requests that gone says lost their server.
func (c *Core) failAwaited(s *Session, gone func(a *await) bool) {
	if s.awaiting == 0 {
		return
	}
	for i := range s.awaits {
		if a := &s.awaits[i]; a.seq != 0 && gone(a) {
			seq := a.seq
			*a = await{}
			s.awaiting--
			c.requestFailed(s, seq)
		}
	}
}

func (c *Core) requestFailed(s *Session, seq uint64) {
	c.stats.RequestsFailed++
	c.ports.RequestFailed(s, seq)
}
