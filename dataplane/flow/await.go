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
	copy bool // one of several: other peers answer the same sequence
}

// copyStride keeps the copies of one request apart, and from the next requests'.
const copyStride = 61

// awaitAt returns where a request, or its copy at p, is watched.
func (s *Session) awaitAt(seq uint64, p *Peer, copied bool) *await {
	i := seq
	if copied {
		i += copyStride * uint64(p.dest+1)
	}
	return &s.awaits[i%awaitSlots]
}

// await watches a request, or a copy of one, that p has acknowledged.
func (c *Core) await(s *Session, seq uint64, p *Peer, copied bool) {
	if p.tableInc != p.inc { // it has been declared down already
		c.requestFailed(s, seq)
		return
	}
	if s.awaits == nil {
		s.awaits = make([]await, awaitSlots)
	}
	a := s.awaitAt(seq, p, copied)
	if a.seq == 0 {
		s.awaiting++
	}
	*a = await{seq: seq, peer: p, inc: p.inc, copy: copied}
}

// answered notes that a reply of p to a request has been delivered.
func (s *Session) answered(seq uint64, p *Peer) {
	if e := s.requests.at(seq); e != nil && e.state != settled { // the acknowledgement comes after the reply: do not watch
		e.replied = true
		if e.fan != nil {
			e.fan.answered(p)
		}
	}
	if s.awaits == nil || seq == 0 {
		return
	}
	for _, copied := range []bool{false, true} {
		if a := s.awaitAt(seq, p, copied); a.seq == seq && a.copy == copied && (a.peer == p || !copied) {
			*a = await{}
			s.awaiting--
		}
	}
}

// failAwait reports a request, or its copy at p, if it is watched there.
func (c *Core) failAwait(s *Session, seq uint64, p *Peer) {
	if s.awaits == nil || seq == 0 {
		return
	}
	for _, copied := range []bool{false, true} {
		if a := s.awaitAt(seq, p, copied); a.seq == seq && a.copy == copied && a.peer == p {
			*a = await{}
			s.awaiting--
			c.requestFailed(s, seq)
		}
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
