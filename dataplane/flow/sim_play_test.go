package flow

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// mutation breaks a rule on purpose, to prove that the judge is not blind.
// Every hook may be nil.
type mutation struct {
	noSeal, noDrain bool
	noWithdraw      bool
	noDone          bool                                          // programs take a record when they are given it
	returns         bool                                          // shown by runs in which programs come back and nodes go on
	noDoneMark      bool                                          // what a program was not done with is not marked
	noKeptMark      bool                                          // what is kept of them is not marked
	blocks          bool                                          // a node reads nothing while a program has no room
	noOutcome       bool                                          // reports are lost
	lateOutcome     bool                                          // reports come after Settled
	seed            uint64                                        // that shows it
	noMaybe         bool                                          // that it may have been taken is not said
	noGivenUp       bool                                          // what was given up is not marked in the ring
	noNote          bool                                          // a stand-in begins without a note
	noStandInMark   bool                                          // what a stand-in is given is not marked
	early           bool                                          // deadlines pass at once
	onFrame         func(e *simEnd, p *Peer, h *wire.Header) bool // false: the frame is lost
	onTaken         func(n *simNode)
	onDelivered     func(n *simNode, d *Delivery)
	onView          func(n *simNode)
	beforeView      func(n *simNode, t *ring.Table)
	onWithdraw      func(n *simNode, s *Session, had []handed)
	onUp            func(n *simNode, p *Peer, hello *simFrame)
	onRestore       func(n *simNode, s *Session, recs []Handed, keep []bool) // instead of Restore
}

func (m *mutation) restore(n *simNode, s *Session, recs []Handed, keep []bool) {
	if m.onRestore != nil {
		m.onRestore(n, s, recs, keep)
	} else {
		n.core.Restore(n.w.now, s, recs, keep)
	}
}

func (m *mutation) frame(e *simEnd, p *Peer, h *wire.Header) bool {
	return m.onFrame == nil || m.onFrame(e, p, h)
}

func (m *mutation) deadline(at int64) int64 {
	if m.early {
		return 1
	}
	return at
}

// outcome reports whether a report arrives, and changes what it says.
func (m *mutation) outcome(maybe *bool) bool {
	*maybe = *maybe && !m.noMaybe
	return !m.noOutcome && !m.lateOutcome
}

func (m *mutation) withdraw(a *simAtt, alive bool) {
	var had []handed
	for pr, i := &a.s.program, a.s.program.taken; i < pr.given; i++ {
		had = append(had, *pr.at(i))
	}
	if !m.noWithdraw {
		a.node.core.Withdraw(a.node.w.now, a.s, alive && !m.noDoneMark)
	}
	if m.onWithdraw != nil {
		m.onWithdraw(a.node, a.s, had)
	}
}

func (m *mutation) afterTaken(n *simNode) {
	if m.onTaken != nil {
		m.onTaken(n)
	}
}

func (m *mutation) delivered(n *simNode, d *Delivery) {
	if m.onDelivered != nil {
		m.onDelivered(n, d)
	}
}

func (m *mutation) afterView(n *simNode) {
	if m.onView != nil {
		m.onView(n)
	}
}

func (m *mutation) beforeUp(n *simNode, p *Peer, hello *simFrame) {
	if m.onUp != nil {
		m.onUp(n, p, hello)
	}
}

// play runs the wild phase, then the calm one, and judges.
func (w *sim) play() {
	for range w.opt.steps {
		if len(w.bad) > 0 {
			return
		}
		w.wild()
	}
	w.rest()
}

// rest ends the wild phase: nothing fails any more, everything comes to its end.
func (w *sim) rest() {
	w.calm = true
	w.logf("calm")
	for range 300 {
		if w.settle() || len(w.bad) > 0 {
			break
		}
	}
	if len(w.bad) == 0 {
		w.judge.finish()
	}
}

// simActions are what may happen in the wild phase, and how often.
var simActions = []struct {
	name   string
	weight int
	do     func(w *sim)
}{
	{"deliver", 480, (*sim).deliver},
	{"take", 168, func(w *sim) {
		if a := w.anyAtt(); a != nil && a.untaken() {
			a.take()
			w.flush(a.node)
		}
	}},
	{"look at a head", 72, func(w *sim) {
		if a := w.anyAtt(); a != nil {
			a.node.tellTaken(a)
			w.flush(a.node)
		}
	}},
	{"send", 168, func(w *sim) {
		if p := w.progs[w.one(len(w.progs))]; p.alive && p.sends && w.budget > 0 {
			p.send()
		}
	}},
	{"read rings", 48, func(w *sim) {
		if a := w.anyAtt(); a != nil {
			a.work()
			a.submit()
			a.endIfSubmitted()
			w.flush(a.node)
		}
	}},
	{"tick", 48, func(w *sim) { w.tick(int64(w.one(8_000_000))) }},
	{"apply the log", 60, func(w *sim) {
		if n := w.anyNode(); n != nil && n.raft+1 < len(w.views) && !w.split {
			n.applyRaft(n.raft + 1 + w.one(len(w.views)-n.raft-1))
			w.flush(n)
		}
	}},
	{"connect", 48, func(w *sim) {
		if l := w.links[w.one(len(w.links))]; l.idle() && l.a.node.alive && l.b.node.alive && !w.apart(l.a.node, l.b.node) {
			l.connect()
		}
	}},
	{"cut a link", 18, func(w *sim) {
		if w.opt.cuts {
			w.links[w.one(len(w.links))].cut()
		}
	}},
	{"move slots", 27, func(w *sim) {
		switch {
		case !w.opt.merges, w.split:
		case w.last().merge == nil:
			w.seal()
		default:
			w.finish()
		}
	}},
	{"end a program", 5, func(w *sim) {
		if p := w.progs[w.one(len(w.progs))]; p.alive && w.opt.deaths {
			p.die()
		}
	}},
	{"start a program", 9, func(w *sim) {
		if n := w.anyNode(); n != nil && len(w.progs) < 20 {
			w.newProg(n, n.server && w.chance(.8))
		}
	}},
	{"end a node", 4, func(w *sim) {
		if n := w.anyNode(); n != nil && w.opt.crash {
			w.logf("%v crashes", n)
			n.crash()
		}
	}},
	{"declare a server down", 9, func(w *sim) {
		n := w.servers[w.one(len(w.servers))]
		if up, _ := w.last().status(n); up && w.opt.crash && !w.split && (!n.alive || w.chance(.2)) {
			w.down(n)
		}
	}},
	{"start a node", 9, func(w *sim) {
		n := w.nodes[w.one(len(w.nodes))]
		if !n.alive {
			w.logf("%v restarts", n)
			n.start()
		} else if n.server && !w.admitted(n) && !w.split {
			w.admit(n)
		}
	}},
	{"attach again", 12, func(w *sim) {
		if p := w.progs[w.one(len(w.progs))]; p.hand == nil || !p.server || w.admitted(p.node) || w.chance(.3) {
			w.comeBack(p)
		}
	}},
	{"take a segment away", 4, func(w *sim) {
		if a := w.anyAtt(); a != nil && !a.gone && (w.opt.crash || w.opt.returns) {
			if w.chance(.5) {
				a.cutOff()
			} else {
				w.judge.excuse()
				a.prog.attach()
			}
		}
	}},
}

// wild does one random thing.
func (w *sim) wild() {
	if w.opt.standIns && w.chance(.06) {
		simSplits[w.one(len(simSplits))].do(w)
		return
	}
	sum := 0
	for i := range simActions {
		sum += simActions[i].weight
	}
	r := w.one(sum)
	for i := range simActions {
		if r -= simActions[i].weight; r < 0 {
			simActions[i].do(w)
			return
		}
	}
}

// work lets a program go on with what it has.
func (a *simAtt) work() {
	w, p := a.node.w, a.prog
	if !a.gone && a.busy > 0 {
		a.done()
	}
	if !a.gone && len(p.todo) > 0 {
		p.answer(w.one(len(p.todo)))
	}
}

// comeBack attaches a program whose node runs again, or that was cut off.
func (w *sim) comeBack(p *simProg) {
	if p.alive && p.att == nil && p.node.alive {
		p.attach()
	}
}

func (w *sim) anyNode() *simNode {
	if n := w.nodes[w.one(len(w.nodes))]; n.alive {
		return n
	}
	return nil
}

func (w *sim) anyAtt() *simAtt {
	n := w.anyNode()
	if n == nil || len(n.atts) == 0 {
		return nil
	}
	return n.atts[w.one(len(n.atts))]
}

// deliver hands a batch of frames to one side of a link.
func (w *sim) deliver() {
	for range 4 { // look for one that carries something
		l := w.links[w.one(len(w.links))]
		e := &l.a
		if w.one(2) == 0 {
			e = &l.b
		}
		if len(e.mid) > 0 && w.one(2) == 0 {
			e.pass(1 + w.one(4))
			return
		}
		if len(e.queue) == 0 || !e.node.alive {
			continue
		}
		for k := 1 + w.one(4); k > 0 && len(e.queue) > 0 && e.node.alive; k-- {
			e.step()
		}
		w.flush(e.node)
		return
	}
}

// flush ends a batch of events of a node, now or with a later one.
func (w *sim) flush(n *simNode) {
	n.cutDisplaced()
	if n.alive && (w.calm || w.chance(.8)) {
		n.core.Flush()
		n.look()
	}
}

func (w *sim) tick(ns int64) {
	w.now += ns
	for _, n := range w.nodes {
		if n.alive {
			n.core.Tick(w.now)
			w.flush(n)
		}
	}
}

// settle lets everything come back and go on, and reports whether all is quiet.
func (w *sim) settle() bool {
	quiet := true
	w.heal()
	for _, n := range w.nodes {
		if !n.alive {
			n.start()
		}
		if n.server && !w.admitted(n) {
			w.admit(n)
			quiet = false
		}
	}
	if w.last().merge != nil {
		w.finish()
		quiet = false
	}
	if len(w.last().lacks) > 0 { // else such a server never serves, and what only it may have waits for ever
		w.edit(func(*tableEdit) {})
		quiet = false
	}
	for _, n := range w.nodes {
		if n.raft+1 < len(w.views) {
			n.applyRaft(len(w.views) - 1)
			quiet = false
		}
	}
	for _, l := range w.links {
		if l.idle() && !l.loop() {
			l.connect()
		}
	}
	for _, p := range w.progs {
		w.comeBack(p)
	}
	for _, n := range w.servers {
		if !slices.ContainsFunc(n.atts, func(a *simAtt) bool { return a.prog.server && !a.gone }) {
			w.newProg(n, true)
		}
	}
	return w.drain() && quiet
}

// drain moves what can move, and reports whether nothing did.
func (w *sim) drain() bool {
	quiet := true
	for _, l := range w.links {
		for _, e := range []*simEnd{&l.a, &l.b} {
			e.pass(len(e.mid))
			for k := len(e.queue); k > 0 && len(e.queue) > 0; k-- {
				quiet = false
				e.step()
			}
		}
	}
	for _, n := range w.nodes {
		n.cutDisplaced()
		for _, a := range slices.Clone(n.atts) {
			for a.untaken() {
				quiet = false
				a.take()
			}
			for !a.gone && a.busy > 0 {
				a.done()
			}
			for !a.gone && !w.slow && len(a.prog.todo) > 0 {
				quiet = false
				a.prog.answer(0)
			}
			n.tellTaken(a)
			before := a.end
			a.submit()
			quiet = quiet && a.end == before
			a.endIfSubmitted()
		}
		n.look()
		quiet = quiet && n.core.untaken == 0 && len(n.core.acks) == 0 && n.core.dueNs == never
	}
	for _, n := range w.nodes {
		quiet = quiet && len(n.toNote) == 0
		n.writeNotes(true)
	}
	w.tick(2_000_000)
	return quiet
}
