package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// stoodIn applies StoodIn.
func (s *State) stoodIn(e *entry, b StoodIn) error {
	if b.By == b.For || b.Incarnation == 0 {
		return fmt.Errorf("%w: %v stood in for %v incarnation %d", ErrInvalid, b.By, b.For, b.Incarnation)
	}
	by, of := s.find(b.By), s.find(b.For)
	if by == nil || of == nil {
		return fmt.Errorf("%w: %v stood in for %v", ErrUnknownNode, b.By, b.For)
	}
	at, known := slices.BinarySearchFunc(s.stood, b, compareStoodIn)
	if known && !b.newer(s.stood[at]) {
		return nil
	}
	s.stood = slices.Clone(s.stood)
	if known {
		s.stood[at] = b
	} else {
		s.stood = slices.Insert(s.stood, at, b)
	}
	if s.params.DoMerge {
		s.settleStandIn(by, of)
	}
	e.changed = true
	return nil
}

// settleStandIn clears the in-sync bit of who lacks data after a stand-in, in
// each slot that by could act for in the place of of. A slot keeps its owner
// in sync: only one of two is cleared.
func (s *State) settleStandIn(by, of *server) {
	if s.base == nil {
		return
	}
	lacks := by.Number
	if of.Status.Live() == ring.Down {
		lacks = of.Number
	}
	var in []uint64 // nil until a bit is cleared
	for slot := range s.base.Slots() {
		owners := s.base.Of(slot)
		first, then := slices.Index(owners, of.Number), slices.Index(owners, by.Number)
		if first < 0 || then < first || !inSync(s.base, slot, of.Number) || !inSync(s.base, slot, by.Number) {
			continue
		}
		if in == nil {
			in = slices.Clone(s.base.InSync)
		}
		in[slot] &^= 1 << slices.Index(owners, lacks)
	}
	if in != nil {
		s.base = &ring.Assignment{Width: s.base.Width, Owners: s.base.Owners, InSync: in}
	}
}

// newer reports whether n tells of a later time than an earlier note o of the
// same two servers.
func (n StoodIn) newer(o StoodIn) bool {
	if c := n.Epoch.Compare(o.Epoch); c != 0 {
		return c > 0
	}
	return n.Incarnation > o.Incarnation
}

func compareStoodIn(a, b StoodIn) int {
	return cmp.Or(cmp.Compare(a.By, b.By), cmp.Compare(a.For, b.For))
}

// Collected reports whether the log has this note, or a later one of the same
// two servers.
func (v View) Collected(n StoodIn) bool {
	at, known := slices.BinarySearchFunc(v.Stood, n, compareStoodIn)
	return known && !n.newer(v.Stood[at])
}
