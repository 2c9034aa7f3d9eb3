package fsm

import (
	"fmt"

	"github.com/chmpx/chmpx/ring"
)

// operatorMark makes a name of its own of a boot id.
const operatorMark = 0x6f70657261746f72 // "operator"

// Operator returns the name under which a node proposes what operators ask of
// it: apart from what it says of itself (its boot id), so that neither waits
// for the other and each keeps its own order.
func Operator(boot uint64) uint64 { return max(1, boot^operatorMark) }

// RequestMerge plans the MERGE of an operator: what PlanMerge plans, or nothing
// when there is no reason to merge. Where a merge is wanted and cannot start,
// it is the plan all the same: Apply refuses it and says why. It is pure.
func RequestMerge(v View) MergeRequest {
	if v.Table == nil {
		return MergeRequest{}
	}
	b := MergeRequest{Version: v.Table.Version}
	if p, _ := plan(v); p != nil {
		b.Delta = p.Delta(v.Table.Base)
	}
	return b
}

// mergeRequest applies MergeRequest.
func (s *State) mergeRequest(e *entry, b MergeRequest) error {
	switch {
	case operating(s.merge):
		return ErrOperating
	case b.Version != s.tableVersion:
		return fmt.Errorf("%w: planned from version %d, now %d", ErrBaseChanged, b.Version, s.tableVersion)
	case len(b.Delta) == 0:
		if s.held {
			s.held, e.changed = false, true
		}
		return nil
	}
	p, err := s.plannedBy(b.Delta)
	if err != nil {
		return err
	}
	m, err := movesFor(s.table, p, s.params.DoMerge)
	if err != nil {
		return err
	}
	s.startMerge(e, p, m)
	return nil
}

// mergeComplete applies MergeComplete.
func (s *State) mergeComplete(e *entry, b MergeComplete) error {
	if !operating(s.merge) || s.merge.Phase == ring.MergeSealed {
		return nil
	}
	m := copyMerge(s.merge)
	m.Forced = m.Forced || b.Force && len(m.Partial) > 0
	return s.seal(e, m)
}
