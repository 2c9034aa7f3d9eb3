package fsm

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// SealTimeoutUs is how long a merge stays sealed without all its Finals before
// NextMergeStep opens it again, and how long it then waits with the next seal.
const SealTimeoutUs = 5_000_000

// NextMergeStep returns what the leader should propose next for services and
// merges, without proposer, number and time; false when there is nothing to
// do, or nothing that can be done before something else happens.
//
// It is pure. nowUs is the leader's clock (unix microseconds) on the same
// clock as Command.TimeUs; it matters only for SealTimeoutUs, so the driver
// asks again after each new view and at least every second. A proposal that
// is refused changed nothing; the driver asks again with the next view.
//
// A merge that is sealed is brought to its end in any case: COMPMERGE asked
// for it. Everything else happens only under AUTOMERGE, not while SUSPENDMERGE
// is on, and not after ABORTMERGE before the next command or change of
// membership.
func NextMergeStep(v View, nowUs int64) (Command, bool) {
	switch {
	case v.Table == nil:
		return Command{}, false
	case v.Merge != nil && v.Merge.Phase == ring.MergeSealed:
		return finishSeal(v, nowUs)
	case !v.Params.AutoMerge || v.SuspendMerge || v.MergeHeld:
		return Command{}, false
	case v.Operating():
		return seal(v, nowUs)
	}
	for i := range v.Table.Servers {
		s := &v.Table.Servers[i]
		if v.Members[i].Startup && s.Status == ring.ServiceOut|ring.Up|ring.NoSuspend {
			return Command{Body: ServiceIn{ID: s.ID}}, true
		}
	}
	if v.Merge == nil {
		return PlanMerge(v)
	}
	if m, err := movesFor(v.Table, v.Pending, v.Params.DoMerge); err != nil || m.waits != nil {
		return Command{}, false
	}
	return Command{Body: MergeStart{}}, true
}

// finishSeal commits a sealed merge, or opens it when it takes too long.
func finishSeal(v View, nowUs int64) (Command, bool) {
	for _, t := range v.Merge.Transfers {
		if t.Final {
			continue
		}
		if nowUs-v.MergeTimeUs >= SealTimeoutUs {
			return Command{Body: MergeUnseal{MergeID: v.Merge.ID}}, true
		}
		return Command{}, false
	}
	return Command{Body: MergeCommit{MergeID: v.Merge.ID}}, true
}

// seal seals a merge all of whose transfers are ready.
func seal(v View, nowUs int64) (Command, bool) {
	for _, t := range v.Merge.Transfers {
		if !t.Ready {
			return Command{}, false
		}
	}
	if len(v.Merge.Partial) > 0 && !v.Merge.Forced {
		return Command{}, false
	}
	if v.Unsealed && nowUs-v.MergeTimeUs < SealTimeoutUs {
		return Command{}, false
	}
	return Command{Body: MergeSeal{MergeID: v.Merge.ID}}, true
}

// PlanMerge plans the next merge: the PendingTable command that leads to the
// ring of all servers in service and being added, without those leaving. It
// returns false when nobody joins, leaves or lacks data, and when a merge
// could not start now (MergeBlocked says why). It is pure, and looks at none
// of the AUTOMERGE switches: the driver of MERGE uses it too.
func PlanMerge(v View) (Command, bool) {
	p, err := plan(v)
	if p == nil || err != nil {
		return Command{}, false
	}
	return Command{Body: PendingTable{Base: v.Table.Epoch, Version: v.Table.Version, Delta: p.Delta(v.Table.Base)}}, true
}

// MergeBlocked says why a merge that is wanted cannot start (ErrDonorMissing,
// ErrReceiverMissing, ErrHeld, with the servers it waits for), nil when none is wanted
// or nothing stands in its way.
func MergeBlocked(v View) error {
	if v.Table == nil || v.Operating() {
		return nil
	}
	_, err := plan(v)
	return err
}

// plan returns the assignment to merge to, nil if there is no reason to, and
// why a merge to it cannot start now.
func plan(v View) (*ring.Assignment, error) {
	if v.Table == nil || v.Operating() {
		return nil, nil
	}
	var members []ring.Member
	var numbers []uint16
	moves := false // somebody joins or leaves
	for _, s := range v.Table.Servers {
		if mayOwn(s.Status) {
			members = append(members, ring.Member{Number: s.Number, Weight: 1})
			numbers = append(numbers, s.Number)
			moves = moves || s.Status.Action() == ring.Add
		}
		moves = moves || s.Status.Action() == ring.Delete
	}
	base := v.Table.Base
	if len(members) == 0 {
		return nil, nil
	}
	var p *ring.Assignment
	if v.Params.chmpx() {
		p = ring.Modulo(v.Params.width(), numbers)
		moves = moves || base != nil && !slices.Equal(p.Owners, base.Owners) // the ring order has changed
	}
	switch {
	case !moves && !anyLacks(v.Table):
		return nil, nil
	case p != nil:
	case base == nil:
		p = ring.Interleaved(v.Params.Slots, v.Params.width(), numbers)
	default:
		p = ring.Plan(replaced(v, base), members, v.Params.width())
	}
	m, err := movesFor(v.Table, p, v.Params.DoMerge)
	if err == nil {
		err = m.waits
	}
	if err == nil && !moves && len(m.transfers) == 0 {
		return nil, nil
	}
	return p, err
}

// anyLacks reports whether a server that could serve a slot lacks its data.
func anyLacks(t *ring.Table) bool {
	lost := outOfSync(t.Base)
	for _, s := range t.Servers {
		if lost.has(s.Number) && s.Status.CanAct() {
			return true
		}
	}
	return false
}
