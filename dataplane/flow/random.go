package flow

import (
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

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

// place is where a random message was out when its session was taken over. The
// new session sends it there again: that server knows whether it has it,
// another one would give it to its program as well.
type place struct {
	seq  uint64
	dest *Peer
	inc  ring.Incarnation
}

// placesOut returns the places of a session that ends.
func (s *Session) placesOut() (places []place) {
	w := &s.requests
	for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
		if e := w.at(seq); e != nil && e.state == out && e.rec.Kind == wire.KindRandom {
			places = append(places, place{seq, e.dest, e.inc})
		}
	}
	return append(places, s.places...) // of what it has not submitted again
}

// placed puts a message that is submitted again where it was out, if it was.
// Sequences grow, so that earlier places are of no use any more.
func (s *Session) placed(e *entry) {
	i := 0
	for i < len(s.places) && s.places[i].seq < e.rec.Seq {
		i++
	}
	if s.places = s.places[i:]; len(s.places) == 0 || s.places[0].seq != e.rec.Seq {
		return
	}
	if at := s.places[0]; at.dest.tableInc == at.inc && (!at.dest.up || at.dest.inc == at.inc) { // else it is gone
		e.dest, e.inc = at.dest, at.inc
		s.requests.wait(e, out)
	}
}

// adopt finds a message that comes again among the untaken records whose set
// was forgotten, and reports whether it was there. What goes by hash meets the
// earlier record in the ring of the same program, which takes that first; here
// another program could take the repeat, which is marked, before.
func (c *Core) adopt(set *inSet, h *wire.Header) bool {
	if c.orphans == 0 || !set.suspect {
		return false
	}
	for _, s := range c.sessions {
		pr := &s.program
		for i := pr.taken; i < pr.given; i++ {
			r := pr.at(i)
			if r.seq != h.Seq || !r.set.dead || r.set.id != set.id {
				continue
			}
			c.orphans--
			r.set.untaken--
			r.set = set
			set.untaken++
			set.accepted.add(h.Seq)
			set.attempts[h.Seq%Window] = h.Attempt
			return true
		}
	}
	return false
}

// spread gives a message that is not tied to a program by its hash to one of
// the programs, in turns; those without room are passed over.
func (c *Core) spread(set *inSet, h *wire.Header, d *Delivery) {
	small := 0
	for range c.programs {
		c.turn = (c.turn + 1) % len(c.programs)
		s := c.programs[c.turn]
		d.TooLarge = false
		if end, ok := c.ports.Deliver(s, d); ok {
			c.given(set, h, s, end)
			return
		}
		if d.TooLarge {
			small++
			continue
		}
		s.program.fullAt = max(s.program.fullAt, s.program.untaken())
	}
	switch {
	case len(c.programs) == 0:
		c.later(set, h, waitNode, &c.waiters)
		return
	case small == len(c.programs):
		c.tooLarge(set, h)
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
		return c.table.Acting(h.Hash) == c.selfIndex || h.Flags&wire.FlagStandIn != 0 && h.Epoch == c.epoch && c.standsIn(h.Hash)
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
		return c.selfIndex >= 0 && (c.table.Acting(r.hash) == c.selfIndex || c.standsIn(r.hash))
	case wire.KindRandom:
		return c.selfIndex >= 0 && c.servers[c.selfIndex].tableInc != 0
	default:
		return true
	}
}
