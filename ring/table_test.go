package ring

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite golden files")

const serving = ServiceIn | Up

func tableOf(t testing.TB, statuses ...Status) *Table {
	t.Helper()
	tab := Table{Epoch: Epoch{1, 7}, Version: 9, RingID: 42, Group: "G"}
	var numbers []uint16
	for i, s := range statuses {
		tab.Servers = append(tab.Servers, Server{ID: ID(100 + i), Number: uint16(i), Identity: Identity{Name: fmt.Sprint("s", i), CtlPort: 8021}, Addr: "s:8020", Status: s, Incarnation: 3})
		numbers = append(numbers, uint16(i))
	}
	tab.Base = Interleaved(16, 2, numbers)
	out, err := NewTable(tab)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The acting owner is the first owner that is in service, up, with a program,
// not being added, and in sync.
func TestActingOwner(t *testing.T) {
	for name, c := range map[string]struct {
		status Status
		want   int
	}{
		"serving":           {serving, 0},
		"being deleted":     {serving | Delete | Done, 0},
		"in a merge":        {serving | Doing, 0},
		"down":              {ServiceIn, 1},
		"suspended":         {serving | Suspend, 1},
		"being added":       {serving | Add | Done, 1},
		"not yet in":        {ServiceOut | Up, 1},
		"deleted and down ": {ServiceIn | Delete | Pending, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tab := tableOf(t, c.status, serving, serving)
			if got := tab.Acting(0); got != c.want {
				t.Errorf("acting owner of hash 0 is %d, want %d", got, c.want)
			}
		})
	}
	tab := tableOf(t, serving, serving, serving)
	base := tab.Base.Clone()
	base.InSync[0] = 2
	stale := Table{Epoch: tab.Epoch, Group: "G", Servers: tab.Servers, Base: base}
	got, err := NewTable(stale)
	if err != nil {
		t.Fatal(err)
	}
	if got.Acting(0) != 1 || got.Acting(3) != 0 {
		t.Errorf("an owner out of sync acts: %d, %d", got.Acting(0), got.Acting(3))
	}
	if none := tableOf(t, ServiceIn, ServiceIn, ServiceIn); none.Acting(0) != -1 {
		t.Error("somebody acts though all are down")
	}
}

// Nobody acts for what a held server owns in sync, and no owner gets what is
// replicated; who serves does so all the same. The table says so wherever it goes.
func TestHeld(t *testing.T) {
	tab := tableOf(t, ServiceIn, serving, serving)
	tab.Servers[0].Held = true
	base := tab.Base.Clone()
	base.InSync[0] = 2 // slot 0: the held one lacks the data
	held, err := NewTable(Table{Epoch: tab.Epoch, Group: "G", Servers: tab.Servers, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	b, err := held.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	read, err := UnmarshalTable(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, tab := range []*Table{held, read} {
		// Slots 0, 1, 2 belong to 0 and 1, 1 and 2, 2 and 0.
		for hash, want := range []int{1, 1, -1, -1} {
			owners := tab.Owners(uint64(hash), nil)
			if got := tab.Acting(uint64(hash)); got != want || tab.Waits(uint64(hash)) != (want < 0) || (len(owners) == 0) != (want < 0) {
				t.Errorf("hash %d: acting %d, want %d; waits %t, owners %v", hash, got, want, tab.Waits(uint64(hash)), owners)
			}
		}
		if got := tab.Serving(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("serving %v", got)
		}
	}
	if none := (*Table)(nil); none.Waits(1) {
		t.Error("without a table somebody is waited for")
	}
}

// Who may be given what allocates nothing, also without a table.
func TestLookUpsDoNotAllocate(t *testing.T) {
	tab := tableOf(t, serving, serving, serving)
	sum, dst := 0, make([]int, 0, 3)
	for _, tab := range []*Table{tab, nil} {
		if n := testing.AllocsPerRun(100, func() {
			sum += tab.Acting(12345) + len(tab.Owners(7, dst)) + len(tab.Everyone(dst)) + len(tab.Serving())
		}); n != 0 {
			t.Errorf("%v allocations per look-up", n)
		}
	}
}

// A server that lacks the data of everything it owns serves nothing; one that
// lacks a part serves what it holds.
func TestServingAndOwnersNeedData(t *testing.T) {
	tab := tableOf(t, serving, serving|Pending, serving, serving|Add|Doing, serving|Suspend)
	base := Interleaved(3, 2, []uint16{0, 1, 2})
	base.InSync = []uint64{1, 2, 3} // 0: 0; 1: 2; 2: 2 and 0
	get := func(base *Assignment) *Table {
		out, err := NewTable(Table{Servers: tab.Servers, Base: base})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	recovering := get(base)
	if got := recovering.Serving(); !slices.Equal(got, []int{0, 2}) {
		t.Errorf("%v serve while server 1 has no data, want 0 and 2", got)
	}
	for hash, want := range [][]int{{0}, {2}, {2, 0}} {
		if got := recovering.Owners(uint64(hash), nil); !slices.Equal(got, want) {
			t.Errorf("hash %d is replicated to %v, want %v", hash, got, want)
		}
	}
	base = base.Clone()
	base.InSync[0] = 3
	if got := get(base).Everyone([]int{9}); !slices.Equal(got, []int{9, 0, 1, 2}) {
		t.Errorf("a broadcast appends %v, want 0, 1 and 2: server 1 has a part", got)
	}
	if got := get(nil).Everyone(nil); len(got) != 0 {
		t.Errorf("a broadcast goes to %v in a ring that nobody serves", got)
	}
}

// A table survives its binary form; anything else is refused with ErrTable.
func TestTableBinary(t *testing.T) {
	tab := tableOf(t, serving, ServiceIn, serving|Suspend)
	tab.Random, tab.NoMerge = true, true
	b, err := tab.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	back, err := UnmarshalTable(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tab, back, cmpopts.IgnoreUnexported(Table{})); diff != "" {
		t.Error(diff)
	}
	for h := range uint64(64) {
		if tab.Acting(h) != back.Acting(h) {
			t.Errorf("hash %d routes to %d, was %d", h, back.Acting(h), tab.Acting(h))
		}
	}
	for i := range b {
		c := append([]byte(nil), b...)
		c[i] ^= 0x40
		if _, err := UnmarshalTable(c); !errors.Is(err, ErrTable) {
			t.Fatalf("byte %d changed: error %v, want ErrTable", i, err)
		}
	}
}

// Tables replace each other by era, then index, then version.
func TestNewer(t *testing.T) {
	tab := func(era uint32, index, version uint64) *Table {
		return &Table{Epoch: Epoch{era, index}, Version: version}
	}
	order := []*Table{nil, tab(1, 5, 5), tab(1, 5, 9), tab(1, 8, 8), tab(2, 1, 1)}
	for i, a := range order {
		for j, b := range order {
			if got := a.Newer(b); got != (i > j) {
				t.Errorf("table %d newer than %d: %t", i, j, got)
			}
		}
	}
}

// Impossible tables are refused, each with a reason.
func TestNewTableRefuses(t *testing.T) {
	s := func(id ID, n uint16) Server { return Server{ID: id, Number: n} }
	for name, tab := range map[string]Table{
		"id twice":      {Servers: []Server{s(1, 0), s(1, 1)}},
		"id zero":       {Servers: []Server{s(0, 0)}},
		"number twice":  {Servers: []Server{s(1, 0), s(2, 0)}},
		"unknown owner": {Servers: []Server{s(1, 0)}, Base: Interleaved(4, 1, []uint16{5})},
		"bad shape":     {Servers: []Server{s(1, 0)}, Base: &Assignment{Width: 2, Owners: make([]uint16, 3), InSync: make([]uint64, 2)}},
	} {
		if _, err := NewTable(tab); !errors.Is(err, ErrTable) {
			t.Errorf("%s: error %v, want ErrTable", name, err)
		}
	}
}

// Every combination of status bits prints as CHMPX prints it.
func TestStatusWords(t *testing.T) {
	var out strings.Builder
	for _, r := range []Status{Slave, ServiceOut, ServiceIn} {
		for _, l := range []Status{Down, Up} {
			for _, a := range []Status{NoAct, Add, Delete} {
				for _, o := range []Status{Nothing, Pending, Doing, Done} {
					for _, u := range []Status{NoSuspend, Suspend} {
						s := r | l | a | o | u
						fmt.Fprintf(&out, "0x%05x %v\n", uint32(s), s)
					}
				}
			}
		}
	}
	const golden = "testdata/statuses.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Error(diff)
	}
	if got, want := (ServiceIn | Up).String(), "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A slot set survives JSON and refuses what is no set.
func TestSlotSetText(t *testing.T) {
	s := NewSlotSet(19)
	for _, i := range []int{0, 7, 8, 18} {
		s.Add(i)
		s.Add(i)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back SlotSet
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Len() != 4 || back.Slots() != 19 || !back.Has(18) || back.Has(1) || back.Has(19) || back.Has(-1) {
		t.Errorf("came back as %+v", back)
	}
	for _, bad := range []string{"", "x", "9", "-1:", "8:AAA", "4:8A", "99999999999:"} {
		if err := back.UnmarshalText([]byte(bad)); !errors.Is(err, ErrTable) {
			t.Errorf("%q: error %v, want ErrTable", bad, err)
		}
	}
}

// Whatever the bytes, a decoder returns an error or something that encodes
// again. The checksum is made right, or nothing behind it would be looked at.
func FuzzUnmarshalTable(f *testing.F) {
	b, _ := tableOf(f, serving, serving).MarshalBinary()
	f.Add(b[:len(b)-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		if tab, err := UnmarshalTable(b); err == nil {
			t.Fatalf("%v was accepted without a checksum", tab)
		}
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		tab, err := UnmarshalTable(b)
		if err != nil {
			if !errors.Is(err, ErrTable) {
				t.Fatalf("error %v, want ErrTable", err)
			}
			return
		}
		again, err := tab.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := UnmarshalTable(again); err != nil {
			t.Fatalf("decoded table does not encode again: %v", err)
		}
	})
}

// A slot set that was accepted is within its range, counted right and encodes again.
func FuzzSlotSetText(f *testing.F) {
	f.Add("19:gQEE")
	f.Add("0:")
	f.Fuzz(func(t *testing.T, text string) {
		var s, again SlotSet
		if err := s.UnmarshalText([]byte(text)); err != nil {
			if !errors.Is(err, ErrTable) {
				t.Fatalf("error %v, want ErrTable", err)
			}
			return
		}
		n := 0
		for i := range s.Slots() {
			if s.Has(i) {
				n++
			}
		}
		if n != s.Len() {
			t.Fatalf("%d slots, Len says %d", n, s.Len())
		}
		b, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(b); err != nil || again.Len() != n || again.Slots() != s.Slots() {
			t.Fatalf("%q encodes as %q: %v", text, b, err)
		}
	})
}

func FuzzApplyDelta(f *testing.F) {
	base := Interleaved(16, 2, []uint16{1, 2, 3})
	f.Add(Plan(base, membersOf(4), 2).Delta(base), true)
	f.Add(base.Delta(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, on bool) {
		var from *Assignment
		if on {
			from = base
		}
		if a, err := ApplyDelta(from, b); err == nil {
			if again, err := ApplyDelta(from, a.Delta(from)); err != nil || !again.Equal(a) {
				t.Fatalf("decoded delta does not encode again: %v", err)
			}
		}
	})
}

func BenchmarkActing(b *testing.B) {
	tab := tableOf(b, serving, serving, serving)
	h := uint64(0)
	for b.Loop() {
		h += uint64(tab.Acting(h)) + 7
	}
}

// A few bytes cannot make a decoder allocate a table of millions of places:
// each slot that has no base takes at least one byte per place and one more.
func TestShortDeltaAllocatesLittle(t *testing.T) {
	delta := binary.AppendUvarint([]byte{deltaVersion}, 1<<16)
	delta = append(delta, 64) // width
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	_, err := ApplyDelta(nil, delta)
	runtime.ReadMemStats(&m1)
	if !errors.Is(err, ErrTable) {
		t.Errorf("got %v, want ErrTable", err)
	}
	if got := m1.TotalAlloc - m0.TotalAlloc; got > 64<<10 {
		t.Errorf("%d bytes of a delta made it allocate %d", len(delta), got)
	}
}
