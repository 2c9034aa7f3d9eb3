package flow

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// A server that acts by the table and that nobody can reach, while the ring
// decides nothing, keeps its messages waiting. After StandInNs its senders ask
// the next owner in sync to stand in. That one does if it has had no way to
// the owner for as long either, once a note of it is on its disk: when the ring can
// decide again, it must know who has what. The owner stays the owner: with
// a way to it, or another table, all is as before.
//
// A message leaves the owner for a deputy only when the deputy has said that it
// stands in: otherwise a broken link could make a repeat of it, when its slot moves.

// away says how long a server that the table shows UP has had no way.
type away uint8

const (
	reached   away = iota // it has one, or needs none
	unclocked             // since the last Tick or later
	clocked               // since wayNs
)

// noteRetryNs is how long a note that could not be written is not tried again.
const noteRetryNs = 1e9

// lookMax bounds how many places of windows are looked through at once for messages
// whose owner is cut off: those of the other sessions have their turn next time.
const lookMax = 8192

// asking is a server that a deputy is to be asked about.
type asking struct{ deputy, of *Peer }

// followWay notes whether there is a way to p, after that or the table has changed.
func (c *Core) followWay(p *Peer) {
	switch {
	case c.cfg.StandInNs == 0:
	case p.ready || p.tableInc == 0:
		c.found(p)
	case p.away == reached:
		p.away = unclocked
		c.dueNs = 0
	}
}

// SetStandIn replaces Config.StandInNs.
func (c *Core) SetStandIn(ns int64) {
	if c.cfg.StandInNs == ns {
		return
	}
	c.cfg.StandInNs = ns
	for _, p := range c.peerList {
		if ns == 0 {
			c.found(p)
		}
		c.followWay(p)
	}
	c.dueNs = 0
}

// found ends what was done because there was no way to p.
func (c *Core) found(p *Peer) {
	if p.cut {
		c.cuts--
	}
	p.away, p.cut, p.deputies = reached, false, nil
	if !p.stood {
		return
	}
	p.stood = false
	c.standing--
	c.reviewUntaken()
	c.ports.StandInEnded(p)
}

// renewed says that the table shows p under another incarnation, or DOWN.
func (c *Core) renewed(p *Peer) {
	c.found(p)
	for _, o := range c.peerList {
		o.dismiss(p)
	}
}

// dismiss says that deputy does not stand in for p, or not any more.
func (p *Peer) dismiss(deputy *Peer) {
	p.deputies = slices.DeleteFunc(p.deputies, func(d *Peer) bool { return d == deputy })
}

// tickAway finds the servers to which there has been no way for StandInNs, and
// asks others to stand in for them as long as messages wait.
func (c *Core) tickAway(nowNs int64) {
	for _, p := range c.servers {
		if p.away == unclocked {
			p.away, p.wayNs = clocked, nowNs
		}
		if p.away == clocked && !p.cut {
			at := p.wayNs + c.cfg.StandInNs
			if p.cut = nowNs >= at; !p.cut {
				c.dueNs = min(c.dueNs, at)
			} else {
				c.cuts++
				c.askNs = nowNs
			}
		}
	}
	if c.cuts == 0 || c.table == nil || c.table.Random {
		return
	}
	if nowNs >= c.askNs {
		c.askNs = nowNs + c.cfg.RetryMaxNs
		c.lookForDeputies(nowNs)
	}
	c.dueNs = min(c.dueNs, c.askNs)
}

// lookForDeputies asks for a deputy for messages by hash whose owner is cut
// off, and takes back what is at deputies that are cut off themselves, of some sessions.
func (c *Core) lookForDeputies(nowNs int64) {
	c.asking = c.asking[:0]
	places := 0
	for range c.sessions {
		if places >= lookMax {
			break
		}
		c.lookAt = (c.lookAt + 1) % len(c.sessions)
		s := c.sessions[c.lookAt]
		w := &s.requests
		places += 1 + int(w.last+1-w.low)
		stranded := false
		for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
			if e := w.at(seq); e != nil && e.byHash() {
				c.wantDeputy(e.rec.Hash)
				stranded = stranded || c.stranded(e)
			}
		}
		if stranded {
			c.recallStranded(s)
			c.scan(nowNs, s)
		}
	}
	for _, a := range c.asking {
		switch {
		case a.deputy.id != c.cfg.Self:
			c.ports.AskStandIn(a.deputy, a.of)
		case c.StandInAsked(nowNs, a.of.id, c.epoch):
			c.StandInAgreed(nowNs, a.deputy, a.of.id, c.epoch)
		}
	}
}

// byHash reports whether a message waits for the owner of its hash, or is out there.
func (e *entry) byHash() bool {
	return e.state != settled && e.fan == nil && e.rec.Kind == wire.KindHash
}

// wantDeputy notes whom to ask about the owner of a hash, if it is cut off and
// nobody stands in for it: the next owner that is not.
func (c *Core) wantDeputy(hash uint64) {
	i := c.table.Acting(hash)
	if i < 0 || !c.servers[i].cut || c.deputy(hash) != nil {
		return
	}
	for k, i := range c.owners {
		d := c.servers[i]
		if d.cut {
			continue
		}
		if !d.ready {
			return
		}
		for _, j := range c.owners[:k] {
			if a := (asking{d, c.servers[j]}); !slices.Contains(c.asking, a) {
				c.asking = append(c.asking, a)
			}
		}
		return
	}
}

// deputy returns who stands in for the acting owner of a hash, which is cut off,
// nil if nobody does. It leaves the owners of the hash in c.owners.
func (c *Core) deputy(hash uint64) *Peer {
	c.owners = c.table.Owners(hash, c.owners[:0])
	for k, i := range c.owners {
		d := c.servers[i]
		if k > 0 && !d.cut && !slices.ContainsFunc(c.owners[:k], func(j int) bool { return !slices.Contains(c.servers[j].deputies, d) }) {
			return d
		}
	}
	return nil
}

// StandInAgreed says that deputy stands in for the server with this id, by the
// table of an epoch.
func (c *Core) StandInAgreed(nowNs int64, deputy *Peer, id ring.ID, e ring.Epoch) {
	p := c.peers[id]
	if p == nil || !p.cut || e != c.epoch || slices.Contains(p.deputies, deputy) {
		return
	}
	p.deputies = append(p.deputies, deputy)
	for _, s := range c.sessions {
		c.recallStranded(s)
		c.scan(nowNs, s)
	}
	c.reap()
}

// recallStranded takes back what a session has out where there is no way, if
// somebody else acts: it may have been taken there. A scan must follow.
func (c *Core) recallStranded(s *Session) {
	w := &s.requests
	for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
		if e := w.at(seq); e != nil && c.stranded(e) {
			c.stats.Repeats++
			e.rec.Flags |= wire.FlagMaybeRepeat
			w.wait(e, unsent)
			e.dest = nil
		}
	}
}

// stranded reports whether a message is out where there is no way, and somebody
// stands in, or the owner itself can be reached while it is at a deputy.
func (c *Core) stranded(e *entry) bool {
	if e.state != out || !e.byHash() || !e.dest.cut {
		return false
	}
	p := c.route(e.rec.Hash)
	return p != nil && p != e.dest && (c.inPlace(e.rec.Hash, p) || e.inPlace && p.ready)
}

// refusedAsDeputy says that p is not the owner of a hash, as it says itself.
func (c *Core) refusedAsDeputy(hash uint64, p *Peer) {
	if i := c.table.Acting(hash); i >= 0 && c.servers[i].cut {
		c.servers[i].dismiss(p)
	}
}

// inPlace reports whether p is to have messages of a hash in the place of its
// acting owner.
func (c *Core) inPlace(hash uint64, p *Peer) bool {
	if c.cuts == 0 {
		return false
	}
	i := c.table.Acting(hash)
	return i >= 0 && c.servers[i].cut && c.deputy(hash) == p
}

// forAnother reports whether this node, which may act for a hash, stands in for its owner.
func (c *Core) forAnother(hash uint64) bool {
	return c.standing > 0 && c.table.Acting(hash) != c.selfIndex
}

// standsIn reports whether this node may act for a hash that is another one's: it
// stands in for all owners that come before it.
func (c *Core) standsIn(hash uint64) bool {
	if c.standing == 0 {
		return false
	}
	c.owners = c.table.Owners(hash, c.owners[:0])
	k := slices.Index(c.owners, c.selfIndex)
	return k > 0 && !slices.ContainsFunc(c.owners[:k], func(j int) bool { return !c.servers[j].stood })
}

// StandInAsked reports whether this node stands in for the server with this id, by
// the table of an epoch, and begins to if it may.
func (c *Core) StandInAsked(nowNs int64, id ring.ID, e ring.Epoch) bool {
	p := c.peers[id]
	if p == nil || !p.cut || e != c.epoch || c.selfIndex < 0 || c.held || c.table.Random {
		return false
	}
	if !p.stood && !p.noting && nowNs >= max(p.noteNs, c.noneBefore) {
		p.noting = true
		c.ports.StandIn(p, p.tableInc)
	}
	return p.stood
}

// StandInNoted tells whether the note that Ports.StandIn wanted is on disk.
func (c *Core) StandInNoted(nowNs int64, p *Peer, inc ring.Incarnation, ok bool) {
	p.noting = false
	switch {
	case !ok:
		p.noteNs = nowNs + noteRetryNs
	case p.cut && !p.stood && p.tableInc == inc:
		p.stood = true
		c.standing++
	}
}

// StandsIn reports whether this node stands in for p.
func (c *Core) StandsIn(p *Peer) bool { return p.stood }

// NoStandInBefore says that this node begins to stand in for nobody else before a
// time: the ring is about to admit a start, and has been told whom it stands in for.
func (c *Core) NoStandInBefore(atNs int64) { c.noneBefore = max(c.noneBefore, atNs) }
