package flow

import (
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Peer is a node at the far end of a link; this node itself is one, too. Make
// it with Core.Peer.
type Peer struct {
	Handle any // for the owner of the core; not looked at

	id    ring.ID
	inc   ring.Incarnation // of its last hello
	up    bool
	full  bool   // TransmitRecord said no, PeerRoom has not come
	ready bool   // messages may go there: up, and the table shows this incarnation as UP
	links uint32 // counts links, to tell one from the next
	dest  int    // index into Core.dests, -1 = never was a server

	wayNs    int64 // since when there has been no way to it, by away
	away     away
	cut      bool    // for StandInNs: its messages may go to who stands in for it
	stood    bool    // this node stands in for it
	noting   bool    // the note of that is being written
	noteNs   int64   // no other attempt before
	deputies []*Peer // they have said that they stand in for it

	shown       // by the table
	was   shown // by the one before

	want   ring.Epoch // a newer epoch that it named, zero = none
	pullNs int64      // when to ask again for its table

	last         *inSet     // that its last message belonged to
	replyAcks    []replyAck // pending
	answerQueued bool
}

// shown is what a table says of a peer.
type shown struct {
	tableInc  ring.Incarnation // UP, 0 = not
	serving   bool             // random messages may go there
	inService bool             // copies of fan-outs may go there
}

// ID returns the id that the peer was created with.
func (p *Peer) ID() ring.ID { return p.id }

func (c *Core) setReady(p *Peer) {
	p.ready = p.up && p.tableInc != 0 && p.tableInc == p.inc
	c.followWay(p)
}

// Peer returns the peer with this id, creating it at first. Peers are kept for
// the life of the core; the owner creates only those that it admits.
func (c *Core) Peer(id ring.ID) *Peer {
	p := c.peers[id]
	if p == nil {
		p = &Peer{id: id, dest: -1}
		c.peers[id] = p
		c.peerList = append(c.peerList, p)
	}
	return p
}

// PeerUp says that a link to p is established and that its hello named inc
// (any value for a peer that is no server). Everything that is unsettled there
// goes again; under another incarnation it may have been taken and goes to
// whoever owns it now, marked. PeerUp while p is up says that the link goes on
// and nothing in flight is lost, but the incarnation has changed: a node to itself.
func (c *Core) PeerUp(nowNs int64, p *Peer, inc ring.Incarnation) {
	same := again
	if p.up {
		same = keep
	} else {
		p.up, p.full = true, false
		p.links++
	}
	p.inc = inc
	c.setReady(p)
	if same == again {
		c.tellLostAgain(p)
	}
	for _, s := range c.sessions {
		if p.dest >= 0 { // else nothing of ours can be there
			c.linked(nowNs, s, p, same)
		}
		c.scanReplies(nowNs, s)
	}
	c.reap()
}

// linked sends again what a session has out at p; same says what becomes of
// messages that went to the same incarnation.
func (c *Core) linked(nowNs int64, s *Session, p *Peer, same verdict) {
	if p.dest < len(s.pairs) {
		s.pairs[p.dest].lift()
	}
	c.recall(s, func(dest *Peer, inc ring.Incarnation) verdict {
		switch {
		case dest != p:
			return keep
		case inc != p.inc:
			return repeat
		}
		return same
	})
	c.failAwaited(s, func(a *await) bool { return a.peer == p && a.inc != p.inc })
	c.scan(nowNs, s)
}

// PeerDown says that the link to p is gone, with every frame in flight.
// Messages stay where they are until PeerUp or a table says more; replies wait.
func (c *Core) PeerDown(p *Peer) {
	if !p.up {
		return
	}
	p.up, p.full = false, false
	p.want = ring.Epoch{}
	p.replyAcks = p.replyAcks[:0] // its streams may be those of another process next time
	c.setReady(p)
	for _, s := range c.sessions {
		if s.waiting() { // for room on this link perhaps, and may go elsewhere now
			c.due(&s.requests, 0)
		}
		w := &s.replies
		for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
			if e := w.at(seq); e != nil && e.state == out && e.dest == p {
				w.wait(e, unsent)
				c.due(w, 0) // the next Tick sets its hold
			}
		}
	}
}

// PeerRoom says that the link to p has room again after TransmitRecord has
// reported false for it.
func (c *Core) PeerRoom(nowNs int64, p *Peer) {
	if !p.full {
		return
	}
	p.full = false
	for _, s := range c.sessions { // replies first, whoever's: what waits for messages may wait for long
		c.scanReplies(nowNs, s)
	}
	n := len(c.sessions)
	c.rotor++ // another session is served first each time
	for i := 0; i < n && !p.full; i++ {
		c.scan(nowNs, c.sessions[(c.rotor+i)%n])
	}
	c.reap()
}

// SetView installs a table, this node's incarnation (0 while it is not
// admitted: it accepts nothing) and the slots that are sealed here (nil: none).
// The table must not be older than the one before.
func (c *Core) SetView(nowNs int64, t *ring.Table, self ring.Incarnation, seal *ring.SlotSet) {
	if self != c.self {
		c.displaceAll() // what was accepted under another incarnation may be elsewhere
	}
	c.table, c.self, c.seal = t, self, seal
	c.selfIndex, c.epoch = -1, ring.Epoch{}
	c.servers, c.serving = c.servers[:0], c.serving[:0]
	for _, p := range c.peerList {
		p.was, p.shown = p.shown, shown{}
	}
	if t != nil {
		c.epoch = t.Epoch
		c.readServers(t)
	}
	changed := false // what a server may be sent
	for _, p := range c.peerList {
		if p.tableInc != p.was.tableInc {
			c.renewed(p)
		}
		c.setReady(p)
		changed = changed || p.shown != p.was
		if p.want.Compare(c.epoch) <= 0 {
			p.want = ring.Epoch{}
		}
	}
	c.reviewUntaken()
	if changed { // else whatever is out is where the table says
		c.recallAll()
	}
	c.liftWaiters()
	for _, s := range c.sessions {
		c.scan(nowNs, s)
	}
	c.reap()
}

// recallAll takes back what is out at incarnations that the table does not
// show UP any more. Scans must follow.
func (c *Core) recallAll() {
	for _, s := range c.sessions {
		c.recall(s, func(dest *Peer, inc ring.Incarnation) verdict {
			if dest.tableInc == inc {
				return keep
			}
			return repeat
		})
		c.failAwaited(s, func(a *await) bool { return a.peer.tableInc != a.inc })
	}
}

// readServers resolves the members of a table to peers.
func (c *Core) readServers(t *ring.Table) {
	for i := range t.Servers {
		s := &t.Servers[i]
		p := c.Peer(s.ID)
		if p.dest < 0 {
			p.dest = len(c.dests)
			c.dests = append(c.dests, p)
		}
		if s.Status.Live() == ring.Up {
			p.tableInc = s.Incarnation
			p.inService = s.Status.Ring() == ring.ServiceIn
		}
		c.servers = append(c.servers, p)
		if s.ID == c.cfg.Self && c.self != 0 && s.Incarnation == c.self && !c.cfg.Slave {
			c.selfIndex = i
		}
	}
	for _, i := range t.Serving() {
		c.servers[i].serving = true
		c.serving = append(c.serving, c.servers[i])
	}
	if c.selfIndex >= 0 && c.admittedInc != c.self {
		c.admittedInc, c.admitted = c.self, t.Epoch
	}
}

// route returns the peer that acts for a hash, or may stand in for it; nil if nobody does.
func (c *Core) route(hash uint64) *Peer {
	i := c.table.Acting(hash)
	if i < 0 {
		return nil
	}
	p := c.servers[i]
	if p.cut {
		if d := c.deputy(hash); d != nil {
			return d
		}
	}
	return p
}

// wantTable asks p for its table, which is newer, once per epoch; Tick asks again.
func (c *Core) wantTable(nowNs int64, p *Peer, e ring.Epoch) {
	if e.Compare(p.want) <= 0 {
		return
	}
	p.want = e
	c.pull(nowNs, p)
}

func (c *Core) pull(nowNs int64, p *Peer) {
	p.pullNs = nowNs + c.cfg.RetryMaxNs
	c.dueNs = min(c.dueNs, p.pullNs)
	c.stats.TablePulls++
	c.ports.PullTable(p)
}

func (c *Core) pullAgain(nowNs int64, p *Peer) {
	if p.want == (ring.Epoch{}) {
		return
	}
	if nowNs >= p.pullNs {
		c.pull(nowNs, p)
	}
	c.dueNs = min(c.dueNs, p.pullNs)
}

// answer transmits a frame without payload if there is a link; p may be nil.
func (c *Core) answer(p *Peer, h wire.Header, urgent bool) {
	if p == nil || !p.up {
		return
	}
	c.header = h
	c.ports.Transmit(p, &c.header, urgent)
}
