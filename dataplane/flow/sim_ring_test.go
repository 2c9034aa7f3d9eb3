package flow

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// The model of the control plane: a sequence of views, each a table and the
// merge in force. Nodes apply it at their own pace, tables also from peers.

const simSlots = 5

type simView struct {
	table  *ring.Table
	merge  *simMerge
	copies [simSlots][]*simNode // who gets what is replicated
	lacks  map[*simNode]bool    // owns slots, but has the data of none
}

// simMerge is a merge that is sealed: transfers are empty, so copying is left out.
type simMerge struct {
	id              int
	slots           []int
	donor, receiver *simNode
	seal            *ring.SlotSet
}

type tableEdit struct {
	up     map[*simNode]bool
	inc    map[*simNode]ring.Incarnation
	owners []*simNode
	merge  *simMerge
}

func (w *sim) last() *simView { return &w.views[len(w.views)-1] }

// status returns what a table says of a server.
func (v *simView) status(n *simNode) (up bool, inc ring.Incarnation) {
	s := &v.table.Servers[n.idx]
	return s.Status.Live() == ring.Up, s.Incarnation
}

// incarnation returns the incarnation under which a server is UP, 0 if it is not.
func (v *simView) incarnation(n *simNode) ring.Incarnation {
	if up, inc := v.status(n); up {
		return inc
	}
	return 0
}

func (v *simView) owner(w *sim, slot int) *simNode {
	return w.servers[v.table.Base.Owners[slot*v.table.Base.Width]]
}

// edit appends a view that differs from the last one.
func (w *sim) edit(change func(e *tableEdit)) {
	v := w.last()
	e := tableEdit{up: map[*simNode]bool{}, inc: map[*simNode]ring.Incarnation{}, merge: v.merge}
	for _, n := range w.servers {
		e.up[n], e.inc[n] = v.status(n)
	}
	for slot := range simSlots {
		e.owners = append(e.owners, v.owner(w, slot))
	}
	change(&e)
	w.add(&e)
}

func (w *sim) add(e *tableEdit) {
	t := ring.Table{
		Epoch:   ring.Epoch{Era: 1, Index: uint64(len(w.views) + 1000)},
		Version: uint64(len(w.views) + 1000),
		Base:    ring.NewAssignment(simSlots, w.width),
		Random:  w.opt.kinds.random,
	}
	for _, n := range w.servers {
		st := ring.ServiceIn
		if e.up[n] {
			st |= ring.Up
		}
		t.Servers = append(t.Servers, ring.Server{ID: n.id, Number: uint16(n.idx), Status: st, Incarnation: e.inc[n]})
	}
	v := simView{merge: e.merge, lacks: map[*simNode]bool{}}
	for slot, n := range e.owners {
		t.Base.Owners[slot*w.width], t.Base.InSync[slot] = uint16(n.idx), 1
		if e.up[n] {
			v.copies[slot] = append(v.copies[slot], n)
		}
		w.addReplicas(t.Base, e, slot, &v)
	}
	for _, n := range e.owners {
		delete(v.lacks, n)
	}
	for _, copies := range v.copies {
		for _, n := range copies {
			delete(v.lacks, n)
		}
	}
	var err error
	if v.table, err = ring.NewTable(t); err != nil {
		panic(err)
	}
	w.views = append(w.views, v)
}

// addReplicas gives a slot further owners, some of them without its data until
// all is calm. None of them has it while the first one is down: it would act.
func (w *sim) addReplicas(a *ring.Assignment, e *tableEdit, slot int, v *simView) {
	first := e.owners[slot]
	for k := 1; k < min(w.width, len(w.servers)); k++ {
		n := w.servers[(first.idx+k)%len(w.servers)]
		a.Owners[slot*w.width+k] = uint16(n.idx)
		v.lacks[n] = true // unless it is found to have another slot
		if e.up[first] && (w.calm || w.chance(.8)) {
			a.InSync[slot] |= 1 << k
			if e.up[n] {
				v.copies[slot] = append(v.copies[slot], n)
			}
		}
	}
}

func (w *sim) firstView() {
	e := tableEdit{up: map[*simNode]bool{}, inc: map[*simNode]ring.Incarnation{}}
	for i, n := range w.servers {
		e.up[n], e.inc[n] = true, ring.Incarnation(i+1)
	}
	for range simSlots {
		e.owners = append(e.owners, w.servers[w.one(len(w.servers))])
	}
	w.add(&e)
}

// applyRaft lets a node apply the log up to a view.
func (n *simNode) applyRaft(view int) {
	n.raft, n.table = view, max(n.table, view)
	n.setView()
}

// setView gives the core what the node knows, as the data plane does.
func (n *simNode) setView() {
	w := n.w
	inc := ring.Incarnation(0)
	for _, up := range n.ups {
		if up.view <= n.raft {
			inc = up.inc
		}
	}
	var seal *ring.SlotSet
	if n.raft >= 0 {
		if m := w.views[n.raft].merge; m != nil && m.donor == n && !w.opt.noSeal {
			seal = m.seal
		}
	}
	changed := inc != n.inc
	n.inc = inc
	w.logf("%v applies table %d, log %d, incarnation %d, sealed %v", n, n.table, n.raft, inc, seal != nil)
	if w.opt.beforeView != nil {
		w.opt.beforeView(n, w.views[n.table].table)
	}
	n.core.SetView(w.now, w.views[n.table].table, inc, seal)
	w.opt.afterView(n)
	if changed {
		for _, l := range n.links {
			switch {
			case l.loop():
				n.core.PeerUp(w.now, n.core.Peer(l.a.peer), inc)
			case l.b.node == n:
				l.cut()
			}
		}
	}
	for _, a := range slices.Clone(n.atts) {
		if a.live && !a.gone && n.core.Displaced(a.s) {
			a.cutOff()
		}
	}
	n.look()
}

// look notes that a donor has drained for the seal it has applied.
func (n *simNode) look() {
	if n.raft < 0 {
		return
	}
	if m := n.w.views[n.raft].merge; m != nil && m.donor == n && (n.core.Drained() || n.w.opt.noDrain) {
		n.final = m.id
	}
}

// admit is NodeUp of a running process.
func (w *sim) admit(n *simNode) {
	w.collect(n)
	inc := ring.Incarnation(len(w.views) + 1000)
	w.edit(func(e *tableEdit) {
		e.up[n], e.inc[n] = true, inc
		e.dropMergeOf(n)
	})
	n.ups = append(n.ups, simUp{len(w.views) - 1, inc})
	w.logf("NodeUp of %v, incarnation %d, view %d", n, inc, len(w.views)-1)
}

// admitted reports whether the newest table shows the running process as UP.
func (w *sim) admitted(n *simNode) bool {
	up, inc := w.last().status(n)
	return up && len(n.ups) > 0 && n.ups[len(n.ups)-1].inc == inc
}

// down is the verdict about a server; others take over its slots at once.
func (w *sim) down(n *simNode) bool {
	var heirs []*simNode
	for _, o := range w.servers {
		if up, _ := w.last().status(o); up && o != n {
			heirs = append(heirs, o)
		}
	}
	alone := w.opt.deadlines && w.chance(.5) // then nobody acts until it is back
	if len(heirs) == 0 && !alone {
		return false
	}
	w.judge.excuse()
	w.edit(func(e *tableEdit) {
		e.up[n] = false
		for i, o := range e.owners {
			if o == n && !alone {
				e.owners[i] = w.heir(i, heirs)
			}
		}
		e.dropMergeOf(n)
	})
	w.logf("verdict: %v is DOWN, view %d", n, len(w.views)-1)
	return true
}

func (e *tableEdit) dropMergeOf(n *simNode) {
	if e.merge != nil && (e.merge.donor == n || e.merge.receiver == n) {
		e.merge = nil
	}
}

// seal begins a merge that moves some slots from one server to another.
func (w *sim) seal() {
	donor, receiver := w.servers[w.one(len(w.servers))], w.servers[w.one(len(w.servers))]
	if w.last().merge != nil || donor == receiver || !w.admitted(donor) || !w.admitted(receiver) {
		return
	}
	w.mergeID++
	m := &simMerge{id: w.mergeID, donor: donor, receiver: receiver, seal: ring.NewSlotSet(simSlots)}
	for slot := range simSlots {
		if w.last().owner(w, slot) == donor && w.chance(.7) {
			m.slots = append(m.slots, slot)
			m.seal.Add(slot)
		}
	}
	if len(m.slots) == 0 {
		return
	}
	w.edit(func(e *tableEdit) { e.merge = m })
	w.logf("merge %d: %v seals %v for %v, view %d", m.id, donor, m.slots, receiver, len(w.views)-1)
}

// finish commits the merge when its donor has drained, or lifts the seal.
func (w *sim) finish() {
	m := w.last().merge
	switch {
	case m.donor.final == m.id:
		w.edit(func(e *tableEdit) {
			e.merge = nil
			for _, slot := range m.slots {
				e.owners[slot] = m.receiver
			}
		})
		w.logf("merge %d: committed, view %d", m.id, len(w.views)-1)
	case w.chance(.2):
		w.edit(func(e *tableEdit) { e.merge = nil })
		w.logf("merge %d: unsealed, view %d", m.id, len(w.views)-1)
	}
}
