package fsm

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"pgregory.net/rapid"
)

// ownersAre checks that hash h is owned by the servers at h mod n and after it,
// all in sync, for n = len(servers) of the ring order.
func (r *rig) ownersAre(servers ...int) {
	r.t.Helper()
	v := r.s.View()
	for hash := range testHashes {
		var want, got []int
		for k := range min(v.Params.width(), len(servers)) {
			want = append(want, servers[(hash+k)%len(servers)])
		}
		for _, i := range v.Table.Owners(uint64(hash), nil) {
			got = append(got, int(v.Table.Servers[i].ID-id(0)))
		}
		if !slices.Equal(got, want) {
			r.t.Fatalf("hash %d belongs to %v, want %v", hash, got, want)
		}
	}
	for i, n := range servers {
		if b := r.server(n).BaseHash; b != int32(i) {
			r.t.Fatalf("server %d has base number %d, want %d", n, b, i)
		}
	}
}

// restored replaces the state by what its snapshot gives.
func (r *rig) restored() {
	r.t.Helper()
	s := New()
	if err := s.Restore(r.s.Snapshot()); err != nil {
		r.t.Fatalf("restore: %v", err)
	}
	r.s = s
}

// With PLACEMENT=chmpx a ring goes from three servers to four and back, and
// every server whose owned hashes change is given exactly those that it did not
// own, and those that it acts for from now on; also when the state comes from a
// snapshot at every step.
func TestChmpxThreeFourThree(t *testing.T) {
	for _, replica := range []int{0, 1, 2} {
		t.Run(fmt.Sprint("REPLICA=", replica), func(t *testing.T) {
			p := chmpxParams()
			p.Replica = replica
			r := ringOf(t, p, 3)
			r.ownersAre(0, 1, 2)
			r.up(3)
			r.attach(3)
			r.do(ServiceIn{ID: id(3)})
			for _, step := range []struct{ before, after []int }{
				{[]int{0, 1, 2}, []int{0, 1, 2, 3}},
				{[]int{0, 1, 2, 3}, []int{0, 2, 3}},
			} {
				if len(step.after) == 3 {
					r.do(ServiceOut{ID: id(1)})
				}
				r.ownersAre(step.before...)
				m := r.mergeTo()
				r.restored()
				checkTransfers(t, m, step.before, step.after, replica+1)
				r.ready()
				r.restored()
				r.do(MergeSeal{MergeID: m.ID})
				r.restored()
				r.final()
				r.ownersAre(step.before...)
				r.restored()
				r.do(MergeCommit{MergeID: m.ID})
				r.restored()
				r.ownersAre(step.after...)
			}
			r.status(1, stOut)
		})
	}
}

// checkTransfers compares transfers with what the two rings say.
func checkTransfers(t fataler, m *ring.Merge, before, after []int, width int) {
	t.Helper()
	owners := func(servers []int, hash int) []int {
		var o []int
		for k := range min(width, len(servers)) {
			o = append(o, servers[(hash+k)%len(servers)])
		}
		return o
	}
	for hash := range 3 * testHashes {
		old, next := owners(before, hash), owners(after, hash)
		for n := range 10 {
			var donors []ring.ID
			for _, x := range m.Transfers {
				if x.Receiver == id(n) && x.Slots.HasHash(uint64(hash)) {
					donors = append(donors, x.Donor)
				}
			}
			gets := slices.Contains(next, n) && !slices.Contains(old, n) || next[0] == n && old[0] != n
			if gets && (len(donors) != 1 || donors[0] != id(old[0])) || !gets && len(donors) != 0 {
				t.Fatalf("hash %d goes from %v to %v; server %d is given it by %v", hash, old, next, n, donors)
			}
		}
	}
}

// Whatever servers join and leave at once, with any REPLICA, a merge gives
// each what it needs and ends with the owners that CHMPX would have.
func TestChmpxAnyChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := chmpxParams()
		p.Replica = rapid.IntRange(0, 4).Draw(t, "replica")
		// Servers 0 to 9, of which those with both bits 0 are never in service.
		where := rapid.SliceOfN(rapid.IntRange(0, 3), 10, 10).Draw(t, "before and after")
		var before, after []int
		for n, w := range where {
			if w&1 != 0 {
				before = append(before, n)
			}
			if w&2 != 0 {
				after = append(after, n)
			}
		}
		if len(before) == 0 || len(after) == 0 {
			t.Skip("a ring has a server")
		}
		r := newRig(t, p)
		for _, n := range before {
			r.up(n)
			r.attach(n)
		}
		r.settle()
		r.ownersAre(before...)
		if slices.Equal(before, after) {
			return
		}
		r.s.params.AutoMerge = false
		for n, w := range where {
			if w == 2 {
				r.up(n)
				r.attach(n)
				r.do(ServiceIn{ID: id(n)})
			}
		}
		for n, w := range where { // after those that join: somebody must remain
			if w == 1 {
				r.do(ServiceOut{ID: id(n)})
			}
		}
		m := r.mergeTo()
		checkTransfers(t, m, before, after, p.width())
		r.ready()
		r.do(MergeSeal{MergeID: m.ID})
		r.final()
		r.do(MergeCommit{MergeID: m.ID})
		r.ownersAre(after...)
		for n, w := range where {
			if w == 1 {
				r.status(n, stOut)
			}
		}
	})
}

// A part that nobody acts for keeps its data in the only server that has it: no
// merge starts that would take the slot apart, and it starts when the server is back.
func TestChmpxWaitsForTheOnlyHolder(t *testing.T) {
	p := chmpxParams()
	p.Replica = 0
	r := ringOf(t, p, 3)
	r.up(3)
	r.attach(3)
	r.kill(1)
	r.do(ServiceIn{ID: id(3)})
	if c, ok := PlanMerge(r.s.View()); ok {
		t.Fatalf("planned %+v", c)
	}
	if err := MergeBlocked(r.s.View()); !errors.Is(err, ErrDonorMissing) && !errors.Is(err, ErrReceiverMissing) {
		t.Fatalf("blocked by %v", err)
	}
	r.do(ServiceOut{ID: id(1)})
	if err := MergeBlocked(r.s.View()); !errors.Is(err, ErrDonorMissing) {
		t.Fatalf("blocked by %v, want the missing donor", err)
	}
	r.up(1)
	r.settle()
	r.ownersAre(0, 2, 3)
}

// With a replica a dead server stops nothing: its hashes are given on by the
// next owner, and it takes its place when it comes back.
func TestChmpxDeadServerInAMerge(t *testing.T) {
	r := ringOf(t, chmpxParams(), 3)
	r.up(3)
	r.attach(3)
	r.kill(1)
	r.do(ServiceIn{ID: id(3)})
	r.settle()
	for hash := range uint64(testHashes) {
		if tab := r.s.View().Table; tab.Base.Slots() != 4 || tab.Acting(hash) < 0 || tab.Servers[tab.Acting(hash)].ID == id(1) {
			t.Fatalf("hash %d of %d slots is served by %d", hash, tab.Base.Slots(), tab.Acting(hash))
		}
	}
	r.up(1)
	r.status(1, stInPending)
	r.settle()
	r.ownersAre(0, 1, 2, 3)
}

// A pending table that is not CHMPX's for the servers that stay is refused.
func TestChmpxPendingTableIsExact(t *testing.T) {
	r := ringOf(t, chmpxParams(), 3)
	r.do(ServiceOut{ID: id(1)})
	v := r.s.View()
	n := func(i int) uint16 { return r.server(i).Number }
	for name, p := range map[string]*ring.Assignment{
		"another order":        ring.Modulo(2, []uint16{n(2), n(0)}),
		"with who leaves":      ring.Modulo(2, []uint16{n(0), n(1), n(2)}),
		"without who stays":    ring.Modulo(2, []uint16{n(0)}),
		"another number":       ring.Interleaved(4, 2, []uint16{n(0), n(2)}),
		"another width":        ring.Modulo(1, []uint16{n(0), n(2)}),
		"an unchanged modulus": v.Table.Base,
	} {
		before := r.s.View()
		if res := r.apply(PendingTable{Base: v.Table.Epoch, Delta: p.Delta(v.Table.Base)}); !errors.Is(res.Err, ErrInvalid) || r.s.View().Pending != before.Pending {
			t.Errorf("%s: %v, want ErrInvalid", name, res.Err)
		}
	}
	r.do(PendingTable{Base: v.Table.Epoch, Delta: ring.Modulo(2, []uint16{n(0), n(2)}).Delta(v.Table.Base)})
}

// A server that comes back under another name takes its new place in the ring
// order with a merge; until then base numbers say where the hashes are.
func TestChmpxNewRingOrder(t *testing.T) {
	p := chmpxParams()
	p.AutoMerge = false
	r := ringOf(t, p, 3)
	r.do(ServerUp{ID: id(0), Server: ring.Identity{Name: "z", CtlPort: 8021}, Addr: "z:8020", Boot: 5000})
	if got := r.s.View().Table.Servers[2].ID; got != id(0) {
		t.Fatalf("server %v is last", got)
	}
	r.ownersAre(0, 1, 2)
	r.s.params.AutoMerge = true
	r.settle()
	r.ownersAre(1, 2, 0)
}

// A change between so many servers that the hashes would fall into too many
// parts is refused with the numbers, and the ring goes on as it is.
func TestChmpxTooManyParts(t *testing.T) {
	p := chmpxParams()
	p.Replica, p.AutoMerge = 0, false
	r := ringOf(t, p, 91)
	r.up(91)
	r.attach(91)
	r.do(ServiceIn{ID: id(91)})
	if err := MergeBlocked(r.s.View()); !errors.Is(err, ErrTooManyParts) {
		t.Fatalf("blocked by %v, want ErrTooManyParts", err)
	}
	v := r.s.View()
	var numbers []uint16
	for _, s := range v.Table.Servers {
		numbers = append(numbers, s.Number)
	}
	r.refused(PendingTable{Base: v.Table.Epoch, Delta: ring.Modulo(1, numbers).Delta(v.Table.Base)}, ErrTooManyParts)
	r.do(ServiceOut{ID: id(91)})
	r.do(ServiceOut{ID: id(90)})
	if got := len(r.mergeTo().Transfers); got != 90*90 {
		t.Errorf("91 to 90 servers takes %d transfers, want one from each to each other", got)
	}
}
