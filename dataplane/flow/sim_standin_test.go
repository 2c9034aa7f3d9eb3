package flow

import (
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// The model of a ring that falls apart: nodes of different parts have no links,
// and the log decides nothing until all are together again. Notes of
// stand-ins are written at some time, or fail; they outlive the node.

// simStandIns is a node's part in that.
type simStandIns struct {
	part   int       // nodes of others cannot be reached while the ring is split
	toNote []simNote // being written
	disk   []simNote
	review bool // programs may be displaced
}

// simNote says for whom a node stands in.
type simNote struct {
	of   *simNode
	inc  ring.Incarnation
	lost bool // for a deliberate bug: it is said to be written, and is not
}

// simSplits are what may happen to rings that fall apart.
var simSplits = []struct {
	name string
	do   func(w *sim)
}{
	{"fall apart", func(w *sim) {
		w.split = true
		for _, n := range w.nodes {
			n.part = w.one(2)
		}
		for _, l := range w.links {
			if w.apart(l.a.node, l.b.node) || l.via != nil && w.apart(l.via, l.a.node) {
				l.cut()
			}
		}
		w.logf("the ring falls apart")
	}},
	{"the log decides nothing", func(w *sim) {
		w.split = true
		w.logf("the log decides nothing")
	}},
	{"come together", func(w *sim) {
		if w.chance(.3) {
			w.heal()
		}
	}},
	{"write notes", func(w *sim) {
		for _, n := range w.nodes {
			n.writeNotes(w.chance(.9))
			w.flush(n)
		}
	}},
	{"time passes", func(w *sim) { w.tick(60e6) }},
	{"much is delivered", func(w *sim) {
		for range 50 {
			w.deliver()
		}
	}},
	{"end a server", func(w *sim) {
		if n := w.servers[w.one(len(w.servers))]; n.alive && w.opt.crash {
			w.logf("%v crashes", n)
			n.crash()
		}
	}},
}

// apart reports whether two nodes cannot reach each other.
func (w *sim) apart(a, b *simNode) bool { return w.split && a.part != b.part }

func (w *sim) heal() {
	if w.split {
		w.logf("the ring is together again")
	}
	w.split = false
	for _, n := range w.nodes {
		n.part = 0
	}
}

func (n *simNode) startStandIns(cfg *Config) {
	n.toNote = nil
	if n.w.opt.standIns {
		cfg.StandInNs = 2e6 + int64(n.w.one(10e6))
	}
}

// writeNotes ends the writing of notes.
func (n *simNode) writeNotes(ok bool) {
	if !n.alive {
		return
	}
	for _, note := range n.toNote {
		if ok && !note.lost {
			n.disk = append(n.disk, note)
		}
		n.w.logf("%v has noted that it stands in for %v: %t", n, note.of, ok)
		n.core.StandInNoted(n.w.now, n.core.Peer(note.of.id), note.inc, ok)
	}
	n.toNote = nil
}

// cutDisplaced takes the rings of programs away that hold what is another
// node's again.
func (n *simNode) cutDisplaced() {
	if !n.review || !n.alive {
		return
	}
	n.review = false
	for _, a := range slices.Clone(n.atts) {
		if a.live && !a.gone && n.core.Displaced(a.s) {
			a.cutOff()
		}
	}
}

// collect is what the leader does before it admits a start: whoever was
// stood in for is DOWN before, so that others act.
func (w *sim) collect(n *simNode) {
	up, inc := w.last().status(n)
	for _, o := range w.servers {
		if o.alive {
			o.core.NoStandInBefore(w.now + 20e6)
		}
		is := func(x simNote) bool { return x.of == n && x.inc == inc }
		if up && (slices.ContainsFunc(o.disk, is) || slices.ContainsFunc(o.toNote, is)) {
			w.logf("%v stood in for %v", o, n)
			up = !w.down(n)
		}
	}
}

// heir is who acts for a slot whose owner is DOWN.
func (w *sim) heir(slot int, heirs []*simNode) *simNode {
	if w.opt.standIns {
		v := w.last().table
		if owners := v.Owners(uint64(slot), nil); len(owners) > 1 {
			return w.servers[owners[1]]
		}
	}
	return heirs[w.one(len(heirs))]
}

// judgeStandIn judges a take of a program whose node stands in for the owner of
// the hash, and reports whether it does.
func (w *sim) judgeStandIn(a *simAtt, r *simIn, flagged bool) bool {
	n := a.node
	v := &w.views[r.view]
	i := v.table.Acting(r.d.Hash)
	if i < 0 || i == n.idx { // by the table by which it was accepted
		return false
	}
	w.judge.count.stoodIn++
	r.msg.stoodFor = w.servers[i]
	if !flagged {
		w.fail("STANDIN: %v takes %v without mark", a.prog, r.msg)
	}
	owners := v.table.Owners(r.d.Hash, nil)
	for _, i := range owners[:max(slices.Index(owners, n.idx), 0)] {
		of := w.servers[i]
		if !slices.Contains(n.disk, simNote{of: of, inc: v.incarnation(of)}) {
			w.fail("STANDIN: %v takes %v for %v, which is not on the disk of %v", a.prog, r.msg, of, n)
		}
		if !a.gone && n.table == r.view && n.core.Peer(of.id).ready {
			w.fail("STANDIN: %v takes %v although %v has a link to %v", a.prog, r.msg, n, of)
		}
	}
	return !a.gone && n.core.standsIn(r.d.Hash)
}

// StandIn implements Ports.
func (o *simPorts) StandIn(p *Peer, inc ring.Incarnation) {
	n, w := (*simNode)(o), o.w
	of := w.nodes[slices.IndexFunc(w.nodes, func(x *simNode) bool { return x.id == p.ID() })]
	w.logf("%v wants to stand in for %v, incarnation %d", n, of, inc)
	w.judge.excuse()
	n.toNote = append(n.toNote, simNote{of: of, inc: inc})
	if w.opt.noNote {
		n.toNote[len(n.toNote)-1].lost = true
	}
}

// AskStandIn implements Ports.
func (o *simPorts) AskStandIn(deputy, p *Peer) {
	e := deputy.Handle.(*simEnd)
	e.send(simFrame{kind: frameAsk, h: wire.Header{Hash: uint64(p.ID()), Epoch: o.core.epoch}})
}

// StandInEnded implements Ports.
func (o *simPorts) StandInEnded(p *Peer) {
	o.w.logf("%v stands in for %d no more", (*simNode)(o), p.ID())
	o.review = true
}

// standInMutants break one rule of stand-ins each, as mutants do.
var standInMutants = []struct {
	name   string
	caught string
	m      mutation
}{
	{"it begins without a note", "STANDIN", mutation{noNote: true}},
	{"what it is given is not marked", "STANDIN REPEAT", mutation{noStandInMark: true}},
	{"it goes on with a way to the owner", "STANDIN", mutation{onFrame: onMessages(func(n *simNode, p *Peer, h *wire.Header) bool {
		if c := n.core; h.Flags&wire.FlagStandIn != 0 && c.selfIndex >= 0 {
			if i := c.table.Acting(h.Hash); i >= 0 && slices.Contains(n.disk, simNote{of: n.w.servers[i], inc: c.servers[i].tableInc}) && !c.servers[i].stood {
				c.servers[i].stood = true
				c.standing++
			}
		}
		return true
	})}},
	{"nobody is asked before messages are taken back", "REPEAT", mutation{onFrame: func(e *simEnd, _ *Peer, _ *wire.Header) bool {
		c := e.node.core
		for _, p := range c.servers {
			for _, d := range c.servers {
				if p.cut && d != p && !slices.Contains(p.deputies, d) {
					c.StandInAgreed(e.node.w.now, d, p.id, c.epoch)
				}
			}
		}
		return true
	}}},
	{"who does not stand in for a hash takes it", "OWNER STANDIN", mutation{onFrame: onMessages(func(n *simNode, p *Peer, h *wire.Header) bool {
		c := n.core
		if set := c.inSetOf(p, h); h.Flags&wire.FlagStandIn != 0 && h.Seq >= set.low && !set.holds(h.Seq) && h.Epoch == c.epoch && !c.mayHave(h) {
			c.accept(set, h, n.w.judge.msgs[judgeKey{int(h.Session[0]) - 1, h.Seq}].payload())
			return false
		}
		return true
	})}},
}

// Proves that the judge sees each rule of stand-ins that is left out.
func TestBrokenStandInsAreCaught(t *testing.T) {
	for _, mu := range standInMutants {
		t.Run(mu.name, func(t *testing.T) {
			seed, what := caughtBy(simOptions{cuts: true, merges: true, standIns: true, mutation: mu.m}, mu.m.seed)
			if kind, _, _ := strings.Cut(what, ":"); what == "" || !strings.Contains(mu.caught, kind) {
				t.Errorf("seed %d: caught as %q, want one of %s", seed, what, mu.caught)
			}
			t.Logf("seed %d: %s", seed, what)
		})
	}
}
