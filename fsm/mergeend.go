package fsm

import (
	"fmt"
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// mergeCommit applies MergeCommit.
func (s *State) mergeCommit(e *entry, b MergeCommit) error {
	m, err := s.running(b.MergeID, ring.MergeSealed)
	if err != nil {
		return err
	}
	for _, t := range m.Transfers {
		if !t.Final {
			return fmt.Errorf("%w: from %v to %v is not final", ErrNotReady, t.Donor, t.Receiver)
		}
		if _, err := s.present(t.Donor, t.DonorIncarnation); err != nil {
			return err
		}
		if _, err := s.present(t.Receiver, t.ReceiverIncarnation); err != nil {
			return err
		}
	}
	s.base = s.committedBase(m)
	for i := range s.servers {
		v := &s.servers[i]
		st := v.Status
		if st.Operate() != ring.Done {
			continue
		}
		if st.Action() == ring.Delete {
			st = st.WithRing(ring.ServiceOut)
			if v.ReplacedBy != 0 { // it stays out, also if its process was started while it was in service
				v.ReplacedBy, v.Startup = 0, false
			}
		}
		v.Status = st.WithAction(ring.NoAct).WithOperate(ring.Nothing)
	}
	s.clearMerge(e)
	e.commit = true
	return nil
}

// committedBase returns the pending assignment with the in-sync bits that its
// owners have earned (see division.holds).
func (s *State) committedBase(m *ring.Merge) *ring.Assignment {
	a := s.pending.Clone()
	d, err := divide(s.base, a)
	if err != nil {
		panic("BUG: fsm: a merge runs that could not start: " + err.Error())
	}
	got := newReceived(s.table, slices.Concat(m.Transfers, m.Partial)) // the latter if it was forced
	for slot := range a.Slots() {
		a.InSync[slot] = 0
		for k, n := range a.Of(slot) {
			if !s.params.DoMerge || d.holds(s.base, slot, n, got) {
				a.InSync[slot] |= 1 << k
			}
		}
	}
	return a
}

// mergeAbort applies MergeAbort.
func (s *State) mergeAbort(e *entry, b MergeAbort) error {
	if !b.Operator {
		if !operating(s.merge) || s.merge.ID != b.MergeID {
			return fmt.Errorf("%w: merge %d", ErrNoMerge, b.MergeID)
		}
		s.endMerge(e, false)
		s.held = s.held || b.Hold
		return nil
	}
	s.endMerge(e, true)
	s.held = true
	return nil
}

// endMerge ends a merge or plan without result: nodes are as before it, and
// with back also as before their SERVICEOUT.
func (s *State) endMerge(e *entry, back bool) {
	for i := range s.servers {
		v := &s.servers[i]
		op := v.Status.Operate()
		if back {
			v.ReplacedBy = 0
		}
		switch {
		case back && v.Status.Action() == ring.Delete:
			v.Status = v.Status.WithAction(ring.NoAct).WithOperate(ring.Nothing)
		case op != ring.Doing && op != ring.Done:
		case v.Status.Action() == ring.NoAct:
			v.Status = v.Status.WithOperate(ring.Nothing) // showNeeds says Pending where data is missing
		default:
			v.Status = v.Status.WithOperate(ring.Pending)
		}
	}
	s.clearMerge(e)
}

func (s *State) clearMerge(e *entry) {
	s.pending, s.unsealed = nil, false
	s.setMerge(e, nil)
}

// dropPlan forgets a pending table that no merge has been started to.
func (s *State) dropPlan() {
	if s.merge != nil && !operating(s.merge) {
		s.merge, s.pending = nil, nil
	}
}

// checkMerge ends the running merge when what the entry changed took its
// ground away: the plan is made anew then.
func (s *State) checkMerge(e *entry) {
	if !operating(s.merge) {
		return
	}
	servers := make([]ring.Server, len(s.servers))
	for i := range s.servers {
		servers[i] = s.servers[i].Server
	}
	t := s.newTable(servers)
	s.resume(t)
	if sound(t, s.pending, s.merge, s.params.DoMerge) != nil {
		s.endMerge(e, false)
	}
}

// resume makes transfers of what is partial where somebody acts again. Where
// that would change a transfer that runs, it leaves everything as it is, and
// the merge is not sound any more.
func (s *State) resume(t *ring.Table) {
	if s.merge.Phase != ring.MergeCopying || len(s.merge.Partial) == 0 {
		return
	}
	d, err := divide(s.base, s.pending)
	if err != nil {
		panic("BUG: fsm: a merge runs that could not start: " + err.Error())
	}
	given, left := make(pairs), make(pairs)
	for _, x := range s.merge.Partial {
		receiver := t.Index(x.Receiver)
		for part := range x.Slots.All() {
			if donor := t.ActingSlot(d.inBase(part)); donor >= 0 {
				given.add(donor, receiver, part, d.parts)
			} else {
				left.add(t.Index(x.Donor), receiver, part, d.parts)
			}
		}
	}
	m := copyMerge(s.merge)
	m.Partial = left.transfers(t)
	for _, x := range given.transfers(t) {
		if slices.ContainsFunc(m.Transfers, func(y ring.Transfer) bool { return x.Donor == y.Donor && x.Receiver == y.Receiver }) {
			return
		}
		m.Transfers = append(m.Transfers, x)
	}
	if len(given) > 0 {
		s.merge = m
		s.showParts()
	}
}

// suspendMerge applies SuspendMerge.
func (s *State) suspendMerge(e *entry, b SuspendMerge) error {
	if s.suspendOn == b.On {
		return nil
	}
	s.suspendOn = b.On
	// NOSUSPENDMERGE by itself starts nothing, and who had its program while
	// it was on is not taken into service afterwards.
	s.held = !b.On
	if b.On {
		for i := range s.servers {
			s.servers[i].Startup = false
		}
	}
	e.changed = true
	return nil
}

// clearLostSync clears the in-sync bit of every owner that cannot act while
// another owner acts for its slot: from now on its data may be behind. Where one
// is held nobody acts.
func (s *State) clearLostSync() {
	if s.base == nil || !s.params.DoMerge {
		return
	}
	var acts, held numbers
	for i := range s.servers {
		if s.servers[i].Status.CanAct() {
			acts.add(s.servers[i].Number)
		}
		if s.servers[i].Held {
			held.add(s.servers[i].Number)
		}
	}
	var in []uint64 // nil until a bit is cleared
	for slot := range s.base.Slots() {
		var keep uint64
		owners := s.base.Of(slot)
		for k, n := range owners {
			if acts.has(n) {
				keep |= 1 << k
			}
		}
		bits := s.base.InSync[slot]
		if len(held) > 0 && slices.ContainsFunc(owners, func(n uint16) bool { return held.has(n) && inSync(s.base, slot, n) }) {
			continue
		}
		if bits&keep == 0 || bits&^keep == 0 {
			continue
		}
		if in == nil {
			in = slices.Clone(s.base.InSync)
		}
		in[slot] = bits & keep
	}
	if in != nil {
		s.base = &ring.Assignment{Width: s.base.Width, Owners: s.base.Owners, InSync: in}
	}
}
