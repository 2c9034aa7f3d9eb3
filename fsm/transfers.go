package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// mayOwn reports whether a server of this status is a member of the ring that
// a merge leads to.
func mayOwn(st ring.Status) bool {
	return st.Ring() == ring.ServiceIn && st.Action() != ring.Delete && (st.Action() != ring.Add || able(st))
}

// able reports whether a server of this status can give or receive data, and
// act once a merge that it takes part in is committed.
func able(st ring.Status) bool {
	return st.Ring() == ring.ServiceIn && st.Live() == ring.Up && !st.Suspended() && st.Action() != ring.Delete
}

// inSync reports whether the server with this number owns the slot in sync.
func inSync(a *ring.Assignment, slot int, number uint16) bool {
	if a == nil {
		return false
	}
	k := slices.Index(a.Of(slot), number)
	return k >= 0 && a.InSync[slot]&(1<<k) != 0
}

// outOfSync returns the numbers of the servers that own a slot out of sync.
func outOfSync(a *ring.Assignment) map[uint16]bool {
	lost := make(map[uint16]bool)
	if a == nil {
		return lost
	}
	for slot := range a.Slots() {
		for k, n := range a.Of(slot) {
			if a.InSync[slot]&(1<<k) == 0 {
				lost[n] = true
			}
		}
	}
	return lost
}

// hasData reports whether somebody owns the slot in the base.
func hasData(a *ring.Assignment, slot int) bool { return a != nil && len(a.Of(slot)) > 0 }

// keepsData reports whether an owner in sync keeps the slot.
func keepsData(base, pending *ring.Assignment, slot int) bool {
	for _, n := range pending.Of(slot) {
		if inSync(base, slot, n) {
			return true
		}
	}
	return false
}

// transfersFor returns what has to move from the base of t to pending, by
// donor and receiver in ring order: the acting owner of a slot gives it to
// every pending owner that can take it and is not in sync, and to the one that
// will act in its place, even when that one is in sync: the slot must be
// drained at the old owner before the new one starts.
//
// A pending owner that cannot take data stays out of sync. But no slot may
// lose its data: ErrDonorMissing when nobody acts for a slot that all its
// holders would give up, ErrReceiverMissing when none of its pending owners
// can act.
func transfersFor(t *ring.Table, pending *ring.Assignment, doMerge bool) ([]ring.Transfer, error) {
	type pair struct{ donor, receiver int }
	sets := make(map[pair]*ring.SlotSet)
	give := func(slot, donor, receiver int) {
		p := pair{donor, receiver}
		if sets[p] == nil {
			sets[p] = ring.NewSlotSet(pending.Slots())
		}
		sets[p].Add(slot)
	}
	for slot := range pending.Slots() {
		acting := t.ActingSlot(slot)
		if acting < 0 {
			if doMerge && hasData(t.Base, slot) && !keepsData(t.Base, pending, slot) {
				return nil, fmt.Errorf("%w: slot %d waits for %s", ErrDonorMissing, slot, names(t, t.Base.Of(slot)))
			}
			continue
		}
		next := -1
		for _, n := range pending.Of(slot) {
			i := t.IndexOfNumber(n)
			if i < 0 || !able(t.Servers[i].Status) {
				continue
			}
			if !inSync(t.Base, slot, n) || (next < 0 && i != acting) {
				give(slot, acting, i)
			}
			if next < 0 {
				next = i
			}
		}
		if next < 0 {
			return nil, fmt.Errorf("%w: slot %d goes to %s", ErrReceiverMissing, slot, names(t, pending.Of(slot)))
		}
	}
	pairs := slices.SortedFunc(maps.Keys(sets), func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.donor, b.donor), cmp.Compare(a.receiver, b.receiver))
	})
	out := make([]ring.Transfer, 0, len(pairs))
	for _, p := range pairs {
		d, r := &t.Servers[p.donor], &t.Servers[p.receiver]
		out = append(out, ring.Transfer{
			Donor: d.ID, Receiver: r.ID, DonorIncarnation: d.Incarnation, ReceiverIncarnation: r.Incarnation,
			Slots: sets[p],
		})
	}
	return out, nil
}

// names lists servers by number, for people.
func names(t *ring.Table, numbers []uint16) string {
	s := ""
	for _, n := range numbers {
		if i := t.IndexOfNumber(n); i >= 0 {
			s += fmt.Sprintf(" %s:%d", t.Servers[i].Name, t.Servers[i].CtlPort)
		}
	}
	if s == "" {
		return "nobody"
	}
	return s[1:]
}

// received says which slots each server is given by transfers.
type received map[uint16][]*ring.SlotSet

func newReceived(t *ring.Table, transfers []ring.Transfer) received {
	r := make(received)
	for _, x := range transfers {
		if i := t.Index(x.Receiver); i >= 0 {
			n := t.Servers[i].Number
			r[n] = append(r[n], x.Slots)
		}
	}
	return r
}

func (r received) has(slot int, number uint16) bool {
	return slices.ContainsFunc(r[number], func(s *ring.SlotSet) bool { return s.Has(slot) })
}

// sound checks that committing the transfers in the ring that t shows loses no
// data and lets no slot pass to another acting owner without a transfer. An
// error says what is wrong.
func sound(t *ring.Table, pending *ring.Assignment, transfers []ring.Transfer, doMerge bool) error {
	for _, x := range transfers {
		d, r := t.Index(x.Donor), t.Index(x.Receiver)
		if d < 0 || r < 0 || t.Servers[d].Incarnation != x.DonorIncarnation ||
			t.Servers[r].Incarnation != x.ReceiverIncarnation || !able(t.Servers[r].Status) {
			return fmt.Errorf("%w: from %v to %v", ErrStale, x.Donor, x.Receiver)
		}
		for slot := range pending.Slots() {
			if x.Slots.Has(slot) && t.ActingSlot(slot) != d {
				return fmt.Errorf("%w: slot %d has left %v", ErrStale, slot, x.Donor)
			}
		}
	}
	got := newReceived(t, transfers)
	for slot := range pending.Slots() {
		if err := soundSlot(t, pending, slot, got, doMerge); err != nil {
			return err
		}
	}
	return nil
}

func soundSlot(t *ring.Table, pending *ring.Assignment, slot int, got received, doMerge bool) error {
	acting := t.ActingSlot(slot)
	if acting < 0 {
		if doMerge && hasData(t.Base, slot) && !keepsData(t.Base, pending, slot) {
			return fmt.Errorf("%w: slot %d", ErrDonorMissing, slot)
		}
		return nil
	}
	for _, n := range pending.Of(slot) {
		i := t.IndexOfNumber(n)
		if i < 0 || !able(t.Servers[i].Status) {
			continue
		}
		given := got.has(slot, n)
		if doMerge && !given && !inSync(t.Base, slot, n) {
			continue
		}
		if i != acting && !given {
			return fmt.Errorf("%w: slot %d would pass to %v without transfer", ErrStale, slot, t.Servers[i].ID)
		}
		return nil
	}
	return fmt.Errorf("%w: slot %d", ErrReceiverMissing, slot)
}
