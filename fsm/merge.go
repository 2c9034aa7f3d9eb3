package fsm

import (
	"fmt"
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// operating reports whether a merge runs: from MergeStart to its end.
func operating(m *ring.Merge) bool {
	return m != nil && (m.Phase == ring.MergeCopying || m.Phase == ring.MergeSealed)
}

// involved reports whether the running merge counts on this server.
func (s *State) involved(v *server) bool {
	if !operating(s.merge) {
		return false
	}
	for _, t := range s.merge.Transfers {
		if t.Donor == v.ID || t.Receiver == v.ID {
			return true
		}
	}
	op := v.Status.Operate()
	return v.Status.Live() == ring.Up && (op == ring.Doing || op == ring.Done)
}

// pendingTable applies PendingTable.
func (s *State) pendingTable(e *entry, b PendingTable) error {
	if operating(s.merge) {
		return ErrOperating
	}
	if b.Base != s.epoch || b.Version != 0 && b.Version != s.tableVersion {
		return fmt.Errorf("%w: planned from %v version %d, now %v version %d", ErrBaseChanged, b.Base, b.Version, s.epoch, s.tableVersion)
	}
	p, err := s.plannedBy(b.Delta)
	if err != nil {
		return err
	}
	s.pending = p
	s.setMerge(e, &ring.Merge{Phase: ring.MergePlanned})
	return nil
}

// plannedBy returns the assignment that a delta from the base leads to, if it
// may be merged to.
func (s *State) plannedBy(delta []byte) (*ring.Assignment, error) {
	p, err := ring.ApplyDelta(s.base, delta)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := s.checkPending(p); err != nil {
		return nil, err
	}
	if members := s.owning(); s.params.chmpx() && !slices.Equal(p.Owners, ring.Modulo(p.Width, members).Owners) {
		return nil, fmt.Errorf("%w: not the assignment of PLACEMENT chmpx to %d servers", ErrInvalid, len(members))
	}
	if _, err := divide(s.base, p); err != nil {
		return nil, err
	}
	return p, nil
}

// checkPending checks that p is an assignment of this ring to servers that may
// own slots after a merge, none of them twice for a slot.
func (s *State) checkPending(p *ring.Assignment) error {
	if err := s.checkShape(p); err != nil {
		return err
	}
	may := make(map[uint16]bool)
	for _, n := range s.owning() {
		may[n] = true
	}
	for slot := range p.Slots() {
		owners := p.Of(slot)
		if len(owners) == 0 {
			return fmt.Errorf("%w: slot %d has no owner", ErrInvalid, slot)
		}
		for k, n := range owners {
			if !may[n] || slices.Contains(owners[:k], n) {
				return fmt.Errorf("%w: server number %d as owner of slot %d", ErrInvalid, n, slot)
			}
		}
	}
	return nil
}

// checkShape checks the numbers of slots and of owners per slot.
func (s *State) checkShape(a *ring.Assignment) error {
	if !s.params.chmpx() && a.Slots() != s.params.Slots || a.Slots() > len(s.servers) && s.params.chmpx() || a.Width != s.params.width() {
		return fmt.Errorf("%w: %d slots of width %d, the ring has %d of %d and %d servers",
			ErrInvalid, a.Slots(), a.Width, s.params.Slots, s.params.width(), len(s.servers))
	}
	return nil
}

// owning returns the numbers of the servers that may own slots after a merge,
// in ring order.
func (s *State) owning() []uint16 {
	var numbers []uint16
	for i := range s.servers {
		if mayOwn(s.servers[i].Status) {
			numbers = append(numbers, s.servers[i].Number)
		}
	}
	return numbers
}

// mergeStart applies MergeStart.
func (s *State) mergeStart(e *entry, _ MergeStart) error {
	if operating(s.merge) {
		return ErrOperating
	}
	if s.merge == nil {
		return ErrNothingPlanned
	}
	m, err := movesFor(s.table, s.pending, s.params.DoMerge)
	if err == nil {
		err = m.waits
	}
	if err != nil {
		return err
	}
	s.startMerge(e, s.pending, m)
	return nil
}

// startMerge starts the merge to an assignment by these moves.
func (s *State) startMerge(e *entry, pending *ring.Assignment, m moves) {
	s.pending = pending
	for i := range s.servers {
		v := &s.servers[i]
		switch {
		case v.Status.Action() == ring.Delete && v.Status.Live() == ring.Down:
			v.Status = v.Status.WithOperate(ring.Done)
		case v.Status.Action() == ring.Delete, v.Status.Action() == ring.Add && able(v.Status):
			v.Status = v.Status.WithOperate(ring.Doing)
		}
	}
	s.held, s.unsealed = false, false
	s.setMerge(e, &ring.Merge{ID: e.index, Phase: ring.MergeCopying, Transfers: m.transfers, Partial: m.partial})
	s.showParts()
	e.res.MergeID = e.index
}

// transferReady applies TransferReady.
func (s *State) transferReady(e *entry, b TransferReady) error {
	m, t, err := s.transfer(b.MergeID, b.Donor, b.Receiver)
	if err != nil || t.Ready {
		return err
	}
	t.Ready = true
	s.merge = m
	s.showParts()
	e.changed, e.progress = true, true
	return nil
}

// showParts shows which part servers have in the merge: Doing for who gives or
// takes what is not ready, Done when all is, Pending for who is to leave and
// cannot give yet.
func (s *State) showParts() {
	moving, done, missing := make(map[ring.ID]bool), make(map[ring.ID]bool), make(map[ring.ID]bool)
	for _, t := range s.merge.Transfers {
		in := moving
		if t.Ready {
			in = done
		}
		in[t.Donor], in[t.Receiver] = true, true
	}
	for _, t := range s.merge.Partial {
		if s.merge.Forced {
			done[t.Receiver] = true
		} else {
			moving[t.Receiver], missing[t.Donor] = true, true
		}
	}
	for i := range s.servers {
		v := &s.servers[i]
		op := v.Status.Operate()
		switch {
		case moving[v.ID]:
			op = ring.Doing
		case missing[v.ID] && v.Status.Action() == ring.Delete:
			op = ring.Pending
		case done[v.ID], op == ring.Doing, v.Status.Action() == ring.Delete:
			op = ring.Done
		}
		v.Status = v.Status.WithOperate(op)
	}
}

// mergeSeal applies MergeSeal.
func (s *State) mergeSeal(e *entry, b MergeSeal) error {
	m, err := s.running(b.MergeID, ring.MergeCopying)
	if err != nil {
		return err
	}
	return s.seal(e, m)
}

// seal seals a copy of the running merge.
func (s *State) seal(e *entry, m *ring.Merge) error {
	if i := slices.IndexFunc(m.Transfers, func(t ring.Transfer) bool { return !t.Ready }); i >= 0 {
		return fmt.Errorf("%w: from %s to %s", ErrNotReady, s.called(m.Transfers[i].Donor), s.called(m.Transfers[i].Receiver))
	}
	if len(m.Partial) > 0 && !m.Forced {
		x := m.Partial[0]
		return fmt.Errorf("%w: %s waits for %s, which alone holds what it is to give and is down or without program (COMPMERGE FORCE goes on without that)",
			ErrNotReady, s.called(x.Receiver), s.called(x.Donor))
	}
	m.Phase, m.Seal = ring.MergeSealed, e.index
	s.setMerge(e, m)
	s.showParts()
	return nil
}

// transferFinal applies TransferFinal.
func (s *State) transferFinal(e *entry, b TransferFinal) error {
	m, t, err := s.transfer(b.MergeID, b.Donor, b.Receiver)
	if err != nil {
		return err
	}
	if m.Phase != ring.MergeSealed || m.Seal != b.Seal {
		return fmt.Errorf("%w: seal %d, reported for %d", ErrNoMerge, m.Seal, b.Seal)
	}
	if t.Final {
		return nil
	}
	t.Final = true
	s.merge = m
	e.changed, e.progress = true, true
	return nil
}

// mergeUnseal applies MergeUnseal. The transfers stay ready: their receivers
// are as near as they were.
func (s *State) mergeUnseal(e *entry, b MergeUnseal) error {
	m, err := s.running(b.MergeID, ring.MergeSealed)
	if err != nil {
		return err
	}
	m.Phase, m.Seal = ring.MergeCopying, 0
	for i := range m.Transfers {
		m.Transfers[i].Final = false
	}
	s.unsealed = true
	s.setMerge(e, m)
	return nil
}

// setMerge makes m the merge that views show.
func (s *State) setMerge(e *entry, m *ring.Merge) {
	s.merge, s.mergeTimeUs = m, e.timeUs
	e.changed = true
}

// running returns a copy of the merge, to be changed, if it has this id and phase.
func (s *State) running(id uint64, phase ring.MergePhase) (*ring.Merge, error) {
	if !operating(s.merge) || s.merge.ID != id || s.merge.Phase != phase {
		return nil, fmt.Errorf("%w: merge %d in phase %v", ErrNoMerge, id, phase)
	}
	return copyMerge(s.merge), nil
}

// transfer returns a copy of the merge with the transfer in it that is to be changed.
func (s *State) transfer(id uint64, donor, receiver ring.ID) (*ring.Merge, *ring.Transfer, error) {
	if !operating(s.merge) || s.merge.ID != id {
		return nil, nil, fmt.Errorf("%w: merge %d", ErrNoMerge, id)
	}
	m := copyMerge(s.merge)
	for i := range m.Transfers {
		t := &m.Transfers[i]
		if t.Donor != donor || t.Receiver != receiver {
			continue
		}
		if _, err := s.present(donor, t.DonorIncarnation); err != nil {
			return nil, nil, err
		}
		if _, err := s.present(receiver, t.ReceiverIncarnation); err != nil {
			return nil, nil, err
		}
		return m, t, nil
	}
	return nil, nil, fmt.Errorf("%w: from %v to %v", ErrUnknownTransfer, donor, receiver)
}

// copyMerge copies what entries change; the slot sets are shared.
func copyMerge(m *ring.Merge) *ring.Merge {
	c := *m
	c.Transfers = slices.Clone(m.Transfers)
	return &c
}
