package ring

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// placementVectors are what running rings of CHMPX did. Servers are named by
// their place in the ring order.
type placementVectors struct {
	Rings []struct {
		Replica int
		Servers []Identity
		Owners  []struct {
			Hash      string
			Send      int
			Replicate []int
		}
	}
	States []struct {
		Name    string
		Replica int
		Servers []struct {
			Status        string // without "SAFE -> "
			Base, Pending int    // -1 = none
		}
		Sends []placementSend
	}
	SendsOfS1 []struct {
		placementSend
		WithoutSelf bool `json:"without_self"`
		S2Suspended bool `json:"s2_suspended"`
	} `json:"sends_of_s1"`
	Random []struct {
		Servers, Messages int
		ChmpxGot          []int `json:"chmpx_got"`
	}
}

type placementSend struct {
	Kind string // routing, hash, replicate, broadcast
	Hash string
	To   []int // sorted; empty: the send failed
}

func loadPlacement(t *testing.T) placementVectors {
	t.Helper()
	b, err := os.ReadFile("testdata/placement.json")
	if err != nil {
		t.Fatal(err)
	}
	var v placementVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// modulo is a table of PLACEMENT=chmpx. Servers that recover, which CHMPX shows
// as n/a Pending, Doing or Done, are out of sync; what CHMPX calls a base server is.
func modulo(t testing.TB, replica int, statuses ...Status) *Table {
	t.Helper()
	var tab Table
	var numbers []uint16
	lacks := map[uint16]bool{}
	for i, s := range statuses {
		n := uint16(70 + i)
		tab.Servers = append(tab.Servers, Server{ID: ID(i + 1), Number: n, Status: s})
		if s.Ring() == ServiceIn && s.Action() != Add {
			numbers = append(numbers, n)
			lacks[n] = s.Action() == NoAct && s.Operate() != Nothing
		}
	}
	if len(numbers) > 0 {
		tab.Base = Modulo(replica+1, numbers)
		for slot := range tab.Base.Slots() {
			for k, n := range tab.Base.Of(slot) {
				if lacks[n] {
					tab.Base.InSync[slot] &^= 1 << k
				}
			}
		}
	}
	out, err := NewTable(tab)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// receivers is to whom a table sends.
func receivers(tab *Table, kind string, hash uint64) (to []int) {
	switch kind {
	case "broadcast":
		to = tab.Everyone(nil)
	case "replicate":
		to = tab.Owners(hash, nil)
	default:
		if i := tab.Acting(hash); i >= 0 {
			to = []int{i}
		}
	}
	slices.Sort(to)
	return to
}

// statusOf reads the printed form.
func statusOf(t *testing.T, printed string) Status {
	t.Helper()
	for bits := range Suspend << 1 {
		if bits.Safe() && bits.String() == "SAFE -> "+printed {
			return bits
		}
	}
	t.Fatalf("no status prints as %s", printed)
	return 0
}

// In a ring with all servers in service every hash has the owners that CHMPX
// gives it, and one server gets what is sent.
func TestChmpxOwners(t *testing.T) {
	for _, r := range loadPlacement(t).Rings {
		if !slices.IsSortedFunc(r.Servers, func(a, b Identity) int {
			if Less(IDByName, a, b) {
				return -1
			}
			return 1
		}) {
			t.Errorf("servers %v are not in ring order", r.Servers)
		}
		statuses := make([]Status, len(r.Servers))
		for i := range statuses {
			statuses[i] = serving
		}
		tab := modulo(t, r.Replica, statuses...)
		for _, o := range r.Owners {
			h := number(t, o.Hash)
			if got := tab.Acting(h); got != o.Send {
				t.Errorf("REPLICA=%d: hash %s goes to %d, want %d", r.Replica, o.Hash, got, o.Send)
			}
			if got := tab.Owners(h, nil); !slices.Equal(got, o.Replicate) {
				t.Errorf("REPLICA=%d: hash %s is replicated to %v, want %v", r.Replica, o.Hash, got, o.Replicate)
			}
		}
	}
}

// In every recorded state of a ring each kind of send reaches whom it reaches
// in CHMPX, but for the one difference that is named.
func TestChmpxReceivers(t *testing.T) {
	for _, c := range loadPlacement(t).States {
		t.Run(c.Name, func(t *testing.T) {
			var statuses []Status
			base := 0
			for _, s := range c.Servers {
				statuses = append(statuses, statusOf(t, s.Status))
				if s.Base >= 0 {
					if s.Base != base {
						t.Errorf("base number %d follows %d", s.Base, base-1)
					}
					base++
				}
			}
			tab := modulo(t, c.Replica, statuses...)
			if base != tab.Base.Slots() {
				t.Errorf("%d slots, CHMPX has %d base servers", tab.Base.Slots(), base)
			}
			for _, s := range c.Sends {
				want := s.To
				if c.Name == "s2 DELETE DONE" && s.Kind == "replicate" {
					// CHMPX replicates to the owners after the merge as well; here
					// they get with the merge what it changes at the donor.
					p := int(number(t, s.Hash)) % base
					want = []int{p, (p + 1) % base}
					slices.Sort(want)
				}
				if got := receivers(tab, s.Kind, number(t, s.Hash)); !slices.Equal(got, want) {
					t.Errorf("%s of hash %s goes to %v, want %v", s.Kind, s.Hash, got, want)
				}
			}
		})
	}
}

// What a server program sends reaches whom it reaches in CHMPX, itself left
// out where it asks for that.
func TestChmpxReceiversOfAServer(t *testing.T) {
	for _, s := range loadPlacement(t).SendsOfS1 {
		last := serving
		if s.S2Suspended {
			last |= Suspend
		}
		got := receivers(modulo(t, 1, serving, serving, last), s.Kind, number(t, s.Hash))
		if s.WithoutSelf {
			got = slices.DeleteFunc(got, func(i int) bool { return i == 1 })
		}
		if !slices.Equal(got, s.To) {
			t.Errorf("%s of hash %s (s2 suspended: %t, without self: %t) goes to %v, want %v", s.Kind, s.Hash, s.S2Suspended, s.WithoutSelf, got, s.To)
		}
	}
}

// Turns over the serving servers are even for every number of them; CHMPX gave
// all messages to one server when their number was even.
func TestServingIsEven(t *testing.T) {
	for _, c := range loadPlacement(t).Random {
		statuses := []Status{ServiceOut | Up, ServiceIn} // stand aside
		for range c.Servers {
			statuses = append(statuses, serving)
		}
		turn := modulo(t, 0, statuses...).Serving()
		got := make([]int, len(statuses))
		for i := range c.Messages {
			got[turn[i%len(turn)]]++
		}
		if spread := slices.Max(got[2:]) - slices.Min(got[2:]); spread > 1 || got[0]+got[1] != 0 {
			t.Errorf("%d servers get %v", c.Servers, got)
		}
		if even := slices.Max(c.ChmpxGot)-slices.Min(c.ChmpxGot) <= 1; even != (c.Servers%2 == 1) {
			t.Errorf("recorded of CHMPX: %v for %d servers", c.ChmpxGot, c.Servers)
		}
	}
}

// With PLACEMENT=chmpx the owners of any hash are the servers at hash mod n
// and after it, once each, whatever the servers and REPLICA.
func TestModuloIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "servers")
		width := rapid.IntRange(1, 6).Draw(t, "width")
		numbers := rapid.SliceOfNDistinct(rapid.Uint16Range(0, 500), n, n, rapid.ID).Draw(t, "numbers")
		tab := Table{Base: Modulo(width, numbers)}
		for i, number := range numbers {
			tab.Servers = append(tab.Servers, Server{ID: ID(i + 1), Number: number, Status: serving})
		}
		out, err := NewTable(tab)
		if err != nil {
			t.Fatal(err)
		}
		hash := rapid.Uint64().Draw(t, "hash")
		p := int(hash % uint64(n))
		var want []int
		for k := range min(width, n) {
			want = append(want, (p+k)%n)
		}
		if got := out.Owners(hash, nil); !slices.Equal(got, want) || out.Acting(hash) != p {
			t.Fatalf("hash %d of %d servers belongs to %v, want %v", hash, n, got, want)
		}
	})
}

// Sets of slots are asked by hash with their own number of slots; union and
// listing agree with asking one by one.
func TestSlotSetOfHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "slots")
		sets := [2]*SlotSet{NewSlotSet(n), NewSlotSet(n)}
		want := map[int]bool{}
		for i := range sets {
			for _, slot := range rapid.SliceOf(rapid.IntRange(0, n-1)).Draw(t, "set") {
				sets[i].Add(slot)
				want[slot] = true
			}
		}
		s := sets[0]
		s.AddAll(sets[1])
		s.AddAll(nil)
		all := slices.Collect(s.All())
		if len(all) != len(want) || s.Len() != len(want) || !slices.IsSorted(all) {
			t.Fatalf("%v of %d, want %d slots", all, s.Len(), len(want))
		}
		for hash := range uint64(3 * n) {
			if s.HasHash(hash) != want[int(hash)%n] {
				t.Fatalf("hash %d of %d slots: %t", hash, n, s.HasHash(hash))
			}
		}
		for slot := range s.All() {
			if slot != all[0] {
				t.Fatalf("first slot is %d, then %d", all[0], slot)
			}
			break
		}
	})
	var none *SlotSet
	if none.HasHash(0) || NewSlotSet(0).HasHash(0) || len(slices.Collect(none.All())) != 0 {
		t.Error("an empty set holds something")
	}
}
