//go:build faults

package dataplane_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// With stale-epoch a node takes one table at once and the next one later.
func TestFaultStaleEpoch(t *testing.T) {
	defer fault.Use(fault.Env{Bug: string(fault.StaleEpoch)})()
	w := newWorld(t, 1)
	n, late := w.nodes[0], 0
	for range 3 {
		w.publish(nil)
		if n.plane.Status().Epoch.Index < w.epoch {
			late++
		}
	}
	if late < 2 { // a round may have begun in between
		t.Errorf("%d of 3 tables were late", late)
	}
	n.awaitStatus("the newest table counts", func(s *dataplane.Status) bool { return s.Epoch.Index == w.epoch })
}

// With apply-out-of-order a node takes an older table for a newer one.
func TestFaultApplyOutOfOrder(t *testing.T) {
	w := newWorld(t, 1)
	n, older := w.nodes[0], w.build()
	w.publish(nil)
	take := func(want uint64) {
		t.Helper()
		n.plane.SetView(ring.View{Table: older}, n.inc)
		if got := n.plane.Status().Epoch.Index; got != want {
			t.Errorf("epoch %d, want %d", got, want)
		}
	}
	take(w.epoch)
	defer fault.Use(fault.Env{Bug: string(fault.ApplyOutOfOrder)})()
	take(older.Epoch.Index)
}

// With lose-record-on-restart the last of the messages in a segment that is
// handed back never gets to the core.
func TestFaultLoseRecordOnRestart(t *testing.T) {
	for bug, want := range map[fault.BugName]uint64{"": 3, fault.LoseRecordOnRestart: 2} {
		w := newWorld(t, 1)
		restore := fault.Use(fault.Env{Bug: string(bug)})
		g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
		g.sends(3, 1)
		g.ring()
		w.slave().awaitStatus("three messages", func(s *dataplane.Status) bool { return s.Counters.Submitted == 3 })
		n := w.again()
		if _, reply := g.handBack(n, wire.RoleClient); !reply.Resumed {
			t.Fatalf("not taken back: %+v", reply)
		}
		n.awaitStatus("what was sent", func(s *dataplane.Status) bool { return s.Counters.Submitted > 0 })
		if got := n.plane.Status().Counters.Submitted; got != want {
			t.Errorf("bug %q: %d messages of 3, want %d", bug, got, want)
		}
		restore()
	}
}

// With stand-in-unmarked what is given in the place of another server has no mark,
// with lose-stand-in there is no note of it; the trace tells of it in any case.
func TestFaultStandIn(t *testing.T) {
	for bug, want := range map[fault.BugName]struct {
		marked bool
		notes  int
	}{"": {true, 1}, fault.StandInUnmarked: {false, 1}, fault.LoseStandIn: {true, 0}} {
		file := filepath.Join(t.TempDir(), "trace")
		restore := fault.Use(fault.Env{Bug: string(bug), Trace: file})
		w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, standIn: dataplane.StandInMin}).begin(2)
		owner, next := w.nodes[0], w.nodes[1]
		program := attach(t, next, client.RoleServer)
		next.await("the program", func() bool { return next.programs == 1 })
		owner.stop()
		if err := attach(t, w.slave(), client.RoleClient).Send(patiently(t), 0, nil); err != nil {
			t.Fatal(err)
		}
		m, err := program.Receive(patiently(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(next.plane.StandIns()); m.MaybeRepeat != want.marked || got != want.notes {
			t.Errorf("bug %q: marked %v, %d notes, want %+v", bug, m.MaybeRepeat, got, want)
		}
		restore()
		events, err := fault.ReadTrace(file)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[fault.What]int{}
		for _, e := range events {
			if e.Peer == uint64(owner.id) && (e.What == fault.StandIn && e.Hash == uint64(owner.inc) ||
				e.What == fault.InPlace && e.Session == m.Session && (e.Flags&uint16(wire.FlagMaybeRepeat) != 0) == want.marked) {
				seen[e.What]++
			}
		}
		if seen[fault.StandIn] != 1 || seen[fault.InPlace] != 1 {
			t.Errorf("bug %q: the trace tells %v", bug, seen)
		}
	}
}

// The trace tells with each table whether its node lacks data or owns nothing, and
// whether owners have changed.
func TestFaultTraceOwned(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	defer fault.Use(fault.Env{Trace: file})()
	w := newWorld(t, 2)
	n := w.nodes[0]
	w.nodes[1].stop() // its tables would be in the same file; the slave has no incarnation
	step := func(owners []uint16, in uint64) {
		table, err := ring.NewTable(ring.Table{Epoch: ring.Epoch{Era: 1, Index: w.epoch + 1}, RingID: 7, Group: "test", Servers: w.build().Servers,
			Base: &ring.Assignment{Width: 2, Owners: owners, InSync: []uint64{in}}})
		if err != nil {
			t.Fatal(err)
		}
		w.epoch++
		n.plane.SetView(ring.View{Table: table}, n.inc)
	}
	servers := w.build().Servers
	self, other := servers[0].Number, servers[1].Number
	step([]uint16{self, other}, 3)
	step([]uint16{self, other}, 2)
	step([]uint16{other, ring.NoServer}, 1)
	events, err := fault.ReadTrace(file)
	if err != nil {
		t.Fatal(err)
	}
	type said struct {
		flags uint16
		other bool // owners than before
	}
	var got []said
	var sum uint32
	for _, e := range events {
		if e.What == fault.TableInstalled && e.Incarnation != 0 && e.Index+3 > w.epoch {
			got = append(got, said{e.Flags, e.Attempt != sum})
			sum = e.Attempt
		}
	}
	if want := []said{{0, true}, {1, false}, {2, true}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
