package controlplane

import (
	"errors"
	"os"
	"testing"

	"github.com/chmpx/chmpx/fsm"
)

// compact makes a server keep nothing but a snapshot of what it has applied.
func (r *rig) compact(name string) {
	r.t.Helper()
	n := r.nodes[name].plane.node.Load()
	c := n.ReloadableConfig()
	c.TrailingLogs = 1
	if err := errors.Join(n.ReloadConfig(c), n.Snapshot().Error()); err != nil {
		r.t.Fatal(err)
	}
}

// farBehind makes c one that was away for longer than a and b keep their log.
func (r *rig) farBehind() {
	r.t.Helper()
	r.startAll()
	r.formed("a", "b", "c")
	r.kill("c")
	r.await("c is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
	for _, on := range []bool{true, false, true} {
		if err := r.nodes["a"].command(fsm.SuspendMerge{On: on}); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		r.await("it is everywhere", patience, func() bool { return r.nodes[name].plane.view().SuspendMerge })
		r.compact(name)
	}
}

// TestFarBehind proves that a server which was away for longer than the others keep their log, and got
// a snapshot from them, starts again with its data directory: its log begins behind
// the snapshot, without what it had before.
func TestFarBehind(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.farBehind()
		for range 2 {
			r.start("c", nil)
			r.formed("a", "b", "c")
			if !r.nodes["c"].plane.view().SuspendMerge {
				t.Error("c lacks what was done while it was away")
			}
			r.kill("c")
			r.await("c is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
		}
	})
}

// TestFarBehindLeads proves that such a server can lead and bring a server with an
// empty disk up to date.
func TestFarBehindLeads(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.farBehind()
		r.start("c", nil)
		r.formed("a", "b", "c")
		r.await("c leads", patience, func() bool {
			l := r.leader()
			if l != nil && l.name != "c" {
				_ = l.plane.node.Load().LeadershipTransferToServer(*r.nodes["c"].plane.raftID.Load(), "000000000000000c.0@c:8020").Error()
			}
			return l != nil && l.name == "c"
		})
		r.kill("b")
		if err := os.RemoveAll(r.dataDir("b")); err != nil {
			t.Fatal(err)
		}
		r.start("b", nil)
		r.formed("a", "b", "c")
		if !r.nodes["b"].plane.view().SuspendMerge || r.leader().name != "c" {
			t.Error("b lacks what the ring has, or it was not c that led")
		}
	})
}
