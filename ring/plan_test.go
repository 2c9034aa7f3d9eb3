package ring

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func membersOf(n int) []Member {
	m := make([]Member, n)
	for i := range m {
		m[i] = Member{Number: uint16(i + 1), Weight: 1}
	}
	return m
}

// firsts counts the slots per first owner, owners those per owner of any rank.
func firsts(a *Assignment) (first, all map[uint16]int) {
	first, all = map[uint16]int{}, map[uint16]int{}
	for s := range a.Slots() {
		for k, n := range a.Of(s) {
			if k == 0 {
				first[n]++
			}
			all[n]++
		}
	}
	return first, all
}

func moved(a, b *Assignment) (n int) {
	for s := range a.Slots() {
		if a.Of(s)[0] != b.Of(s)[0] {
			n++
		}
	}
	return n
}

// checkPlan says what is wrong with a plan, whatever led to it; slack is how far
// from its share of all places a server may be.
func checkPlan(t interface{ Fatalf(string, ...any) }, a *Assignment, members []Member, width, slack int) {
	first, all := firsts(a)
	total := 0
	for _, m := range members {
		total += max(1, m.Weight)
	}
	for _, m := range members {
		want := a.Slots() * max(1, m.Weight) / total
		if got := first[m.Number]; got < want || got > want+1 {
			t.Fatalf("server %d is first owner of %d slots, want %d or %d", m.Number, got, want, want+1)
		}
	}
	n := 0
	for _, c := range all {
		n += c
	}
	if want := a.Slots() * min(width, len(members)); n != want {
		t.Fatalf("%d owners in all, want %d", n, want)
	}
	for i, want := range places(a.Slots(), members, width) {
		if got := all[members[i].Number]; math.Abs(float64(got)-want) > float64(slack) {
			t.Fatalf("server %d of weight %d owns %d slots in any rank, its share is %.1f", members[i].Number, members[i].Weight, got, want)
		}
	}
	for s := range a.Slots() {
		if !a.wellFormed(s) {
			t.Fatalf("slot %d has impossible owners %v", s, a.Of(s))
		}
	}
}

// places is each member's share of all owners' places; who would have to own a
// slot twice owns every slot, and the rest is shared by the others.
func places(slots int, members []Member, width int) []float64 {
	share := make([]float64, len(members))
	left := float64(slots * min(width, len(members)))
	for {
		total, full := 0, false
		for i, m := range members {
			if share[i] != float64(slots) {
				total += max(1, m.Weight)
			}
		}
		for i, m := range members {
			if share[i] != float64(slots) {
				share[i] = left * float64(max(1, m.Weight)) / float64(total)
			}
		}
		for i := range share {
			if share[i] > float64(slots) {
				share[i], full = float64(slots), true
			}
		}
		if !full {
			return share
		}
		left = float64(slots * min(width, len(members)))
		for i := range share {
			if share[i] == float64(slots) {
				left -= float64(slots)
			}
		}
	}
}

// copies counts the owners of any rank that a slot did not have before: what
// has to be copied to them.
func copies(a, b *Assignment) (n int) {
	for s := range b.Slots() {
		for _, o := range b.Of(s) {
			if !slices.Contains(a.Of(s), o) {
				n++
			}
		}
	}
	return n
}

// One server more moves at most 1/(N+1) of the slots and one percent, from 1
// server up to 100; one less moves only what it held.
func TestPlanMovesLeast(t *testing.T) {
	for _, width := range []int{1, 2, 3} {
		for _, n := range []int{1, 2, 3, 4, 5, 10, 33, 100} {
			base := Plan(nil, membersOf(n), width)
			checkPlan(t, base, membersOf(n), width, width) // interleaved: one a rank
			more := Plan(base, membersOf(n+1), width)
			checkPlan(t, more, membersOf(n+1), width, 1)
			if got, limit := moved(base, more), DefaultSlots/(n+1)+DefaultSlots/100; got > limit {
				t.Errorf("width %d: %d to %d servers moves %d slots, at most %d allowed", width, n, n+1, got, limit)
			}
			if got, limit := copies(base, more), DefaultSlots*width/(n+1)+DefaultSlots/20; n >= width && got > limit {
				t.Errorf("width %d: %d to %d servers copies %d slots, at most %d allowed", width, n, n+1, got, limit)
			}
			if n == 1 {
				continue
			}
			less := Plan(base, membersOf(n)[1:], width)
			checkPlan(t, less, membersOf(n)[1:], width, 1)
			if got, limit := moved(base, less), DefaultSlots/n+DefaultSlots/100; got > limit {
				t.Errorf("width %d: losing one of %d servers moves %d slots, at most %d allowed", width, n, got, limit)
			}
		}
	}
}

// Through any sequence of members and weights a plan stays balanced, keeps its
// owners distinct, marks only old owners in sync, is a pure function, and
// planning again for the same members changes nothing of the first owners.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 4).Draw(t, "width")
		base := NewAssignment(512, width)
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			numbers := rapid.SliceOfNDistinct(rapid.Uint16Range(0, 40), 1, 12, rapid.ID).Draw(t, "servers")
			members := make([]Member, len(numbers))
			for i, n := range numbers {
				members[i] = Member{Number: n, Weight: rapid.IntRange(1, 6).Draw(t, "weight")}
			}
			next := Plan(base, members, width)
			checkPlan(t, next, members, width, 1)
			if again := Plan(base, members, width); !again.Equal(next) {
				t.Fatalf("the plan is not a function of its arguments")
			}
			for s := range next.Slots() {
				for k, n := range next.Of(s) {
					if next.InSync[s]&(1<<k) != 0 && !wasInSync(base, s, n) {
						t.Fatalf("slot %d: server %d is in sync out of nothing", s, n)
					}
				}
			}
			if stay := Plan(next, members, width); moved(next, stay) != 0 {
				t.Fatalf("planning again moves %d slots", moved(next, stay))
			}
			delta := next.Delta(base)
			if back, err := ApplyDelta(base, delta); err != nil || !back.Equal(next) {
				t.Fatalf("delta does not lead to the plan: %v", err)
			}
			base = next
		}
	})
}

func wasInSync(a *Assignment, slot int, n uint16) bool {
	for k, o := range a.Of(slot) {
		if o == n {
			return a.InSync[slot]&(1<<k) != 0
		}
	}
	return false
}

// Neighbouring hashes of the first table spread over the servers.
func TestInterleaved(t *testing.T) {
	a := Interleaved(8, 2, []uint16{7, 8, 9})
	for slot, want := range [][]uint16{{7, 8}, {8, 9}, {9, 7}, {7, 8}} {
		if got := a.Of(slot); got[0] != want[0] || got[1] != want[1] {
			t.Errorf("slot %d is owned by %v, want %v", slot, got, want)
		}
	}
}

func BenchmarkPlan100(b *testing.B) {
	base := Plan(nil, membersOf(100), 3)
	for b.Loop() {
		Plan(base, membersOf(101), 3)
	}
}
