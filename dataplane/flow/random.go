package flow

import "github.com/chmpx/chmpx/wire"

// Messages of KindRandom, and in random mode those sent by hash, go round the
// serving servers. They have no order, so nothing waits for another, and one
// that was refused may go to the next server at once. One that is out stays
// where it is: elsewhere it might be taken a second time.

// round is a place in the circle of serving servers. A node has two, one for
// all messages and one for those that must not go to itself: skipping places
// of a common one would favour the server that comes after.
type round struct{ next int }

// rounds of a node.
const (
	withSelf = iota
	withoutSelf
	roundsEnd
)

// isRandom reports whether a message goes in turns. In random mode the kind of
// one sent by hash is changed here, when the table is known.
func (c *Core) isRandom(e *entry) bool {
	if e.rec.Kind == wire.KindHash && c.table != nil && c.table.Random {
		e.rec.Kind = wire.KindRandom
	}
	return e.rec.Kind == wire.KindRandom
}

// tryRandom transmits a random message if a server can be had for it.
func (c *Core) tryRandom(nowNs int64, s *Session, e *entry) bool {
	if e.state == unsent {
		if !c.stillInTurn(nowNs, s, e) {
			e.dest = c.inTurn(nowNs, s, e)
		}
		if e.dest == nil {
			return false
		}
	}
	p := e.dest
	if !p.up || p.full {
		return false
	}
	pr := s.pair(p)
	if pr.limited && !c.mayTry(nowNs, s, pr) {
		return false
	}
	return c.transmit(nowNs, s, e, p, pr, nil)
}

// stillInTurn reports whether an unsent message may still go to the server
// whose turn it was: it only waits for room on its link. Going to another one
// would give that two turns.
func (c *Core) stillInTurn(nowNs int64, s *Session, e *entry) bool {
	p := e.dest
	return p != nil && p.ready && p.serving && c.hasCredit(nowNs, s, p)
}

// inTurn returns the next server, nil if there is none. Those without a link,
// and those that refuse this session, are passed over.
func (c *Core) inTurn(nowNs int64, s *Session, e *entry) *Peer {
	without := e.rec.Flags&wire.FlagWithoutSelf != 0
	r := &c.rounds[withSelf]
	if without {
		r = &c.rounds[withoutSelf]
	}
	for range c.serving {
		r.next = (r.next + 1) % len(c.serving)
		p := c.serving[r.next]
		if p.ready && !(without && p.id == c.cfg.Self) && c.hasCredit(nowNs, s, p) {
			return p
		}
	}
	return nil
}

// hasCredit reports whether p takes messages of the session, or may be tried.
func (c *Core) hasCredit(nowNs int64, s *Session, p *Peer) bool {
	pr := s.pair(p)
	return !pr.limited || c.mayTry(nowNs, s, pr)
}

// refusedRandom handles the refusal of a random message, which is unsent again:
// the refusing server is left alone for a while, another one may have it.
func (c *Core) refusedRandom(nowNs int64, s *Session, e *entry, p *Peer, h *wire.Header) {
	if h.Type == wire.TypeMoved && h.Epoch.Compare(c.epoch) > 0 {
		c.wantTable(nowNs, p, h.Epoch)
	}
	pr := s.pair(p)
	pr.hold(nowNs, &c.cfg, s.stream)
	c.due(&s.requests, pr.untilNs)
	if c.forward(nowNs, s, e); e.state == settled { // expired
		c.release(s, Requests)
	}
}

// spread gives a message that is not tied to a program by its hash to one of
// the programs, in turns; those without room are passed over.
func (c *Core) spread(set *inSet, h *wire.Header, d *Delivery) {
	for range c.programs {
		c.turn = (c.turn + 1) % len(c.programs)
		s := c.programs[c.turn]
		if end, ok := c.ports.Deliver(s, d); ok {
			c.given(set, h, s, end)
			return
		}
		s.program.fullAt = max(s.program.fullAt, s.program.untaken())
	}
	if len(c.programs) == 0 {
		c.later(set, h, waitNode, &c.waiters)
		return
	}
	c.later(set, h, 0, nil)
	for _, s := range c.programs { // room at any of them will do
		c.remember(set, s.program.waitBit(), &s.program.waiters)
	}
}

// mayHave reports whether this node may accept a message by its own table.
func (c *Core) mayHave(h *wire.Header) bool {
	if c.selfIndex < 0 {
		return false
	}
	switch h.Kind {
	case wire.KindHash:
		return c.table.Acting(h.Hash) == c.selfIndex
	case wire.KindRandom:
		return c.servers[c.selfIndex].serving
	default: // its sender has chosen us; what has changed since, short of our leaving, does not matter
		return c.servers[c.selfIndex].inService
	}
}

// mayKeep reports whether a record that a program has not taken is still this
// node's by the present view. What goes in turns is, unless this node was
// declared DOWN: then it goes to another server. A copy of a fan-out goes to
// nobody else whatever happens.
func (c *Core) mayKeep(r *handed) bool {
	switch r.kind {
	case wire.KindHash:
		return c.selfIndex >= 0 && c.table.Acting(r.hash) == c.selfIndex
	case wire.KindRandom:
		return c.selfIndex >= 0 && c.servers[c.selfIndex].tableInc != 0
	default:
		return true
	}
}
