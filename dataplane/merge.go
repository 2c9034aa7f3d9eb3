package dataplane

import (
	"github.com/chmpx/chmpx/ring"
)

// mergeWatch is this node's part in a merge: what it has reported, and whether
// it has drained. Transfers carry no data yet: a receiver is ready at once, a
// donor is final when every record that it handed out for the slots is taken.
type mergeWatch struct {
	id     uint64
	sealed uint64 // log index of the MergeSeal that is in force, 0 = none
	ready  int    // transfers to this node that were reported as ready
	final  bool
}

// seal returns the slots that this node, as donor, must not hand out any more
// under v, nil for none. It notes which merge and which seal that is.
func (w *mergeWatch) seal(self ring.ID, v ring.View) *ring.SlotSet {
	m := v.Merge
	if m == nil {
		*w = mergeWatch{}
		return nil
	}
	if m.ID != w.id {
		*w = mergeWatch{id: m.ID}
	}
	if m.Seal != w.sealed {
		w.sealed, w.final = m.Seal, false
	}
	if m.Phase != ring.MergeSealed || v.Table == nil || v.Table.Base == nil {
		return nil
	}
	var sealed *ring.SlotSet
	for i := range m.Transfers {
		t := &m.Transfers[i]
		if t.Donor != self {
			continue
		}
		if sealed == nil {
			sealed = ring.NewSlotSet(t.Slots.Slots())
		}
		sealed.AddAll(t.Slots)
	}
	return sealed
}

// look reports what this node has reached in the present merge; p.mu is held.
// Only the control plane's view counts: a table from a peer says nothing of it.
func (w *mergeWatch) look(p *Plane) {
	m := p.raftView.Merge
	if m == nil || m.ID != w.id || p.incarnation == 0 {
		return
	}
	if m.Phase == ring.MergeCopying {
		mine := 0
		for _, t := range m.Transfers { // more may come at the end: a donor is back
			if t.Receiver != p.self {
				continue
			}
			if mine++; mine <= w.ready {
				continue
			}
			id, donor := m.ID, t.Donor
			p.report(func(r Reporter) { r.TransferReady(id, donor, p.self) })
		}
		w.ready = max(w.ready, mine)
	}
	if m.Phase == ring.MergeSealed && !w.final && p.core.Drained() {
		w.final = true
		for _, t := range m.Transfers {
			if t.Donor == p.self && !t.Final {
				id, seal, receiver := m.ID, m.Seal, t.Receiver
				p.report(func(r Reporter) { r.TransferFinal(id, seal, p.self, receiver) })
			}
		}
	}
}
