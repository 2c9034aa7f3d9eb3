//go:build faults

package dataplane_test

import (
	"testing"

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
