package fsm

import (
	"cmp"
	"fmt"
	"iter"
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

// numbers is a set of servers by number. Numbers are given in turn, so they are
// dense, and the sets are looked into for each slot at each entry: a map would
// take most of the time of a restart, which applies the log anew.
type numbers []bool

func (s *numbers) add(n uint16) {
	for len(*s) <= int(n) {
		*s = append(*s, false)
	}
	(*s)[n] = true
}

func (s numbers) has(n uint16) bool { return int(n) < len(s) && s[n] }

// outOfSync returns the servers that own a slot out of sync.
func outOfSync(a *ring.Assignment) numbers {
	var lost numbers
	if a == nil {
		return lost
	}
	for slot := range a.Slots() {
		owners := a.Of(slot)
		if a.InSync[slot] == 1<<len(owners)-1 {
			continue
		}
		for k, n := range owners {
			if a.InSync[slot]&(1<<k) == 0 {
				lost.add(n)
			}
		}
	}
	return lost
}

// division divides the hashes so finely that each part lies in one slot of the
// base and in one slot of the pending assignment: by the least common multiple
// of their numbers of slots. Outside PLACEMENT=chmpx these are the same number,
// and a part is a slot.
type division struct {
	parts, base, pending int
}

// divide returns the division for a merge, ErrTooManyParts if it is too fine.
// base may be nil.
func divide(base, pending *ring.Assignment) (division, error) {
	d := division{parts: pending.Slots(), base: pending.Slots(), pending: pending.Slots()}
	if base == nil || base.Slots() == d.pending {
		return d, nil
	}
	d.base = base.Slots()
	a, b := d.base, d.pending
	for b != 0 {
		a, b = b, a%b
	}
	d.parts = d.base / a * d.pending
	if d.parts > PartsMax {
		return d, fmt.Errorf("%w: from %d to %d servers, %d parts, at most %d allowed", ErrTooManyParts, d.base, d.pending, d.parts, PartsMax)
	}
	return d, nil
}

// of returns the parts of a slot of the pending assignment.
func (d division) of(slot int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for part := slot; part < d.parts; part += d.pending {
			if !yield(part) {
				return
			}
		}
	}
}

// inBase returns the slot of the base that a part lies in.
func (d division) inBase(part int) int { return part % d.base }

// holds reports whether the server with this number has all data of a slot of
// the pending assignment once it was given what got says: it owned a part in
// sync before, or got it, or there never was any data.
func (d division) holds(base *ring.Assignment, slot int, number uint16, got *received) bool {
	if base == nil {
		return true
	}
	for part := range d.of(slot) {
		if !inSync(base, d.inBase(part), number) && !got.has(part, number) {
			return false
		}
	}
	return true
}

// moves is what has to move for a merge.
type moves struct {
	transfers []ring.Transfer
	partial   []ring.Transfer // of no donor that acts, see ring.Merge
	waits     error           // ErrDonorMissing, for whom partial waits; nil without partial
}

// movesFor returns what has to move from the base of t to pending, by donor and
// receiver in ring order: the acting owner of a part gives it to every pending
// owner that can take it and is not in sync, and to the one that will act in
// its place, even when that one is in sync: the part must be drained at the old
// owner before the new one starts.
//
// While a server is held (ErrHeld) nothing moves: the owners that would give its slots up may be the
// only ones to have them if it does not come back.
//
// A pending owner that cannot take data stays out of sync. But no part may lose
// its data by itself: when nobody of the owners that a slot gets would have all
// of its data, because nobody acts for a part of it, that part is partial.
// ErrReceiverMissing when none of them can act, ErrDonorMissing when both is so.
func movesFor(t *ring.Table, pending *ring.Assignment, doMerge bool) (moves, error) {
	d, err := divide(t.Base, pending)
	if err != nil {
		return moves{}, err
	}
	if i := slices.IndexFunc(t.Servers, func(s ring.Server) bool { return s.Held }); i >= 0 {
		return moves{}, fmt.Errorf("%w: %s", ErrHeld, names(t, []uint16{t.Servers[i].Number}))
	}
	g := &giving{t: t, division: d, sets: make(pairs), partial: make(pairs), got: new(received)}
	var m moves
	for slot := range pending.Slots() {
		if err := g.slot(slot, pending.Of(slot)); err != nil {
			return moves{}, err
		}
		if !doMerge || slices.ContainsFunc(pending.Of(slot), func(n uint16) bool { return d.holds(t.Base, slot, n, g.got) }) {
			continue
		}
		if !g.leave(slot, pending.Of(slot)) {
			return moves{}, g.donorMissing(slot)
		}
		if m.waits == nil {
			m.waits = g.donorMissing(slot)
		}
	}
	m.transfers, m.partial = g.sets.transfers(t), g.partial.transfers(t)
	return m, nil
}

// pair is who gives and who takes, as indexes into the table's servers.
type pair struct{ donor, receiver int }

// pairs are parts by who gives them to whom.
type pairs map[pair]*ring.SlotSet

func (p pairs) add(donor, receiver, part, parts int) {
	k := pair{donor, receiver}
	if p[k] == nil {
		p[k] = ring.NewSlotSet(parts)
	}
	p[k].Add(part)
}

// transfers returns them in ring order.
func (p pairs) transfers(t *ring.Table) []ring.Transfer {
	keys := slices.SortedFunc(maps.Keys(p), func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.donor, b.donor), cmp.Compare(a.receiver, b.receiver))
	})
	out := make([]ring.Transfer, 0, len(keys))
	for _, k := range keys {
		d, r := &t.Servers[k.donor], &t.Servers[k.receiver]
		out = append(out, ring.Transfer{
			Donor: d.ID, Receiver: r.ID, DonorIncarnation: d.Incarnation, ReceiverIncarnation: r.Incarnation,
			Slots: p[k],
		})
	}
	return out
}

// giving collects what movesFor returns.
type giving struct {
	division
	t             *ring.Table
	sets, partial pairs
	got           *received
}

// slot gives the parts of a slot of the pending assignment to its owners.
func (g *giving) slot(slot int, owners []uint16) error {
	next := -1
	for _, n := range owners {
		i := g.t.IndexOfNumber(n)
		if i < 0 || !able(g.t.Servers[i].Status) {
			continue
		}
		for part := range g.of(slot) {
			acting := g.t.ActingSlot(g.inBase(part))
			if acting >= 0 && (!inSync(g.t.Base, g.inBase(part), n) || next < 0 && i != acting) {
				g.give(part, acting, i)
			}
		}
		if next < 0 {
			next = i
		}
	}
	if next >= 0 {
		return nil
	}
	for part := range g.of(slot) {
		if g.t.ActingSlot(g.inBase(part)) >= 0 {
			return fmt.Errorf("%w: slot %d goes to %s", ErrReceiverMissing, slot, names(g.t, owners))
		}
	}
	return nil
}

func (g *giving) give(part, donor, receiver int) {
	g.sets.add(donor, receiver, part, g.parts)
	g.got.add(g.t.Servers[receiver].Number, part, g.parts)
}

// leave notes for a slot of the pending assignment which parts its new owners
// lack that nobody can give now; false when none of the owners could take them.
func (g *giving) leave(slot int, owners []uint16) bool {
	left := false
	for _, n := range owners {
		i := g.t.IndexOfNumber(n)
		if i < 0 || !able(g.t.Servers[i].Status) {
			continue
		}
		for part := range g.of(slot) {
			b := g.inBase(part)
			if g.t.ActingSlot(b) >= 0 || inSync(g.t.Base, b, n) {
				continue
			}
			for _, h := range g.t.Base.Of(b) {
				if inSync(g.t.Base, b, h) { // there is one: see State.clearLostSync
					g.partial.add(g.t.IndexOfNumber(h), i, part, g.parts)
					left = true
					break
				}
			}
		}
	}
	return left
}

// donorMissing says whom a slot of the pending assignment waits for.
func (g *giving) donorMissing(slot int) error {
	for part := range g.of(slot) {
		if b := g.inBase(part); g.t.ActingSlot(b) < 0 {
			return fmt.Errorf("%w: slot %d waits for %s", ErrDonorMissing, b, names(g.t, g.t.Base.Of(b)))
		}
	}
	return fmt.Errorf("%w: slot %d", ErrDonorMissing, slot)
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

// received says which parts each server, by number, is given by transfers.
type received []*ring.SlotSet // nil: none

func newReceived(t *ring.Table, transfers []ring.Transfer) *received {
	r := new(received)
	for _, x := range transfers {
		if i := t.Index(x.Receiver); i >= 0 {
			r.of(t.Servers[i].Number, x.Slots.Slots()).AddAll(x.Slots)
		}
	}
	return r
}

// of returns the parts of a server, to be added to.
func (r *received) of(number uint16, parts int) *ring.SlotSet {
	for len(*r) <= int(number) {
		*r = append(*r, nil)
	}
	if (*r)[number] == nil {
		(*r)[number] = ring.NewSlotSet(parts)
	}
	return (*r)[number]
}

func (r *received) add(number uint16, part, parts int) { r.of(number, parts).Add(part) }

func (r *received) has(part int, number uint16) bool {
	return int(number) < len(*r) && (*r)[number].Has(part)
}

// sound checks that committing the merge in the ring that t shows loses no data
// but that of its partial transfers, and lets no part pass to another acting
// owner without a transfer. An error says what is wrong.
func sound(t *ring.Table, pending *ring.Assignment, m *ring.Merge, doMerge bool) error {
	d, err := divide(t.Base, pending)
	if err != nil {
		return err
	}
	for _, x := range m.Transfers {
		donor, r := t.Index(x.Donor), t.Index(x.Receiver)
		if donor < 0 || r < 0 || t.Servers[donor].Incarnation != x.DonorIncarnation ||
			t.Servers[r].Incarnation != x.ReceiverIncarnation || !able(t.Servers[r].Status) {
			return fmt.Errorf("%w: from %v to %v", ErrStale, x.Donor, x.Receiver)
		}
		for part := range x.Slots.All() {
			if t.ActingSlot(d.inBase(part)) != donor {
				return fmt.Errorf("%w: slot %d has left %v", ErrStale, d.inBase(part), x.Donor)
			}
		}
	}
	got, all := newReceived(t, m.Transfers), newReceived(t, slices.Concat(m.Transfers, m.Partial))
	for slot := range pending.Slots() {
		holds := func(n uint16) bool { return !doMerge || d.holds(t.Base, slot, n, all) }
		if err := soundSlot(t, d, slot, pending.Of(slot), got, holds); err != nil {
			return err
		}
	}
	return nil
}

// soundSlot is sound for a slot of the pending assignment; holds says which of
// its owners will be in sync.
func soundSlot(t *ring.Table, d division, slot int, owners []uint16, got *received, holds func(uint16) bool) error {
	acts := false // somebody for some part
	for part := range d.of(slot) {
		acts = acts || t.ActingSlot(d.inBase(part)) >= 0
	}
	if !acts {
		if !slices.ContainsFunc(owners, holds) {
			return fmt.Errorf("%w: slot %d", ErrDonorMissing, slot)
		}
		return nil
	}
	for _, n := range owners {
		i := t.IndexOfNumber(n)
		if i < 0 || !able(t.Servers[i].Status) || !holds(n) {
			continue
		}
		for part := range d.of(slot) {
			if acting := t.ActingSlot(d.inBase(part)); acting >= 0 && acting != i && !got.has(part, n) {
				return fmt.Errorf("%w: slot %d would pass to %v without transfer", ErrStale, slot, t.Servers[i].ID)
			}
		}
		return nil
	}
	return fmt.Errorf("%w: slot %d", ErrReceiverMissing, slot)
}
