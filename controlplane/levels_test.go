package controlplane

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
)

// buildOf returns a build in whose time SUSPENDMERGE is a new command, of level 2.
func buildOf(lowest, highest int) fsm.Build {
	return fsm.Build{
		Levels:   fsm.Levels{Min: lowest, Max: highest},
		Commands: map[fsm.CommandType]int{fsm.CommandSuspendMerge: 2},
	}
}

// as starts a node in another build.
func (r *rig) as(b fsm.Build, name string) *rigNode {
	r.t.Helper()
	return r.start(name, func(c *Config) { c.Build = b })
}

// suspend asks for a command of level 2 as an operator.
func (n *rigNode) suspend(on bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), CommandTimeout)
	defer cancel()
	return n.plane.Command(ctx, fsm.SuspendMerge{On: on})
}

// notYet checks that a command of level 2 is refused because of these members.
func (r *rig) notYet(n *rigNode, names ...string) {
	r.t.Helper()
	err := n.suspend(true)
	if !errors.Is(err, fsm.ErrLevel) || !errors.Is(err, ErrRefused) || errors.Is(err, ErrUncertain) {
		r.t.Fatalf("level 2 in this ring: %v, want a refusal for its level", err)
	}
	for _, name := range append(names, "upgrade") {
		if !strings.Contains(err.Error(), name) {
			r.t.Errorf("%q does not name %s", err, name)
		}
	}
	if v := r.leader().plane.view(); v.SuspendMerge || v.LevelUsed > 1 {
		r.t.Errorf("refused, and the ring has used level %d", v.LevelUsed)
	}
}

// keptOut checks that a node says these words of why it takes no part, and does
// not come up meanwhile.
func (r *rig) keptOut(n *rigNode, words ...string) {
	r.t.Helper()
	r.await("it says why", patience, func() bool {
		st := n.plane.Status()
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(st.WaitsFor, w) })
	})
	<-time.After(5 * time.Second)
	if r.leader().up(n.member.ID) || slaveIsUp(r.leader().plane.view(), n.member.ID, n.plane.boot) {
		r.t.Errorf("%s is up in a ring that it cannot follow", n.name)
	}
	for _, m := range r.leader().plane.clusterOf() {
		if id := n.plane.raftID.Load(); id != nil && m.ID == *id && !n.plane.cfg.Slave {
			r.t.Errorf("raft of %s runs as %s", n.name, m.ID)
		}
	}
}

// TestRollingUpgrade proves that a ring of two builds does only what the older one
// understands and says who holds it back, also while that one is down; that it
// does more as soon as all are upgraded; and that an old build which comes back
// after that, with its directory or without, is kept out before it is a member of raft,
// with words that say why.
func TestRollingUpgrade(t *testing.T) {
	slaveStory(t, 3, func(r *rig) {
		older, newer := buildOf(1, 1), buildOf(1, 2)
		a := r.as(newer, "a")
		r.as(newer, "b")
		r.as(older, "c")
		r.formed("a", "b", "c")
		r.notYet(a, "c:8023")
		r.kill("c")
		r.await("c is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
		r.notYet(a, "c:8023 (level 1)")
		st := a.plane.Status()
		if want := []string{"c:8023"}; st.Level != 1 || !slices.Equal(st.LevelHeldBy, want) || len(st.Warnings) == 0 {
			t.Errorf("level %d, held back by %v, warnings %v", st.Level, st.LevelHeldBy, st.Warnings)
		}
		r.as(newer, "c")
		s := r.as(older, "s")
		r.formed("a", "b", "c")
		up := func() bool { return slaveIsUp(r.leader().plane.view(), s.member.ID, s.plane.boot) }
		r.await("the slave is up", patience, up)
		r.notYet(a, "slave s:8999")
		r.kill("s")
		s = r.as(newer, "s")
		r.await("the new slave is up", patience, up)

		if err := a.suspend(true); err != nil {
			t.Fatalf("all are upgraded: %v", err)
		}
		r.await("everybody has it", patience, func() bool {
			for _, n := range r.nodes {
				st := n.plane.Status()
				if !st.SuspendMerge || st.Level != 2 || len(st.LevelHeldBy) > 0 || n.plane.view().LevelUsed != 2 {
					return false
				}
			}
			return true
		})

		r.kill("s")
		r.kill("b")
		r.await("b is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "c") })
		r.keptOut(r.as(older, "b"), "up to feature level 1", "needs 2", "upgrade this node")
		r.kill("b")
		if err := os.RemoveAll(r.dataDir("b")); err != nil {
			t.Fatal(err)
		}
		r.keptOut(r.as(older, "b"), "up to level 1", "needs 2", "upgrade this node")
		r.keptOut(r.as(older, "s"), "up to level 1", "needs 2", "upgrade this node")
		r.kill("s")
		r.kill("b")
		r.as(newer, "b")
		r.formed("a", "b", "c")
	})
}

// TestOldLeader proves that a command which the leader is too old to know is
// refused with words that say whom to upgrade, and stops nobody.
func TestOldLeader(t *testing.T) {
	story(t, 2, func(r *rig) {
		a := r.as(buildOf(1, 1), "a") // the only voter of two
		b := r.as(buildOf(1, 2), "b")
		r.formed("a", "b")
		if r.leader() != a {
			t.Fatal("the old build does not lead")
		}
		r.notYet(b, "a:8021 leads the ring")
		if !r.allUp("a", "b") {
			t.Error("a command that was refused took a node down")
		}
	})
}

// TestNeedsNewerRing proves that a build which has dropped what a ring of old
// builds does is kept out of it, and comes up when these are upgraded.
func TestNeedsNewerRing(t *testing.T) {
	story(t, 2, func(r *rig) {
		r.as(buildOf(1, 1), "a")
		r.formed("a")
		b := r.as(buildOf(2, 2), "b")
		r.keptOut(b, "needs a ring of level 2", "a:8021 (level 1)")
		r.kill("a")
		r.as(buildOf(1, 2), "a")
		r.formed("a", "b")
	})
}

// TestOldDirectoryAlone proves that an old build which starts with the log of a newer
// one, with a snapshot or without, and meets nobody ends with words that say what to do.
func TestOldDirectoryAlone(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		story(t, 1, func(r *rig) {
			a := r.as(buildOf(1, 2), "a")
			r.formed("a")
			if err := a.suspend(true); err != nil {
				t.Fatal(err)
			}
			if snapshot {
				if err := a.plane.node.Load().Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
			r.kill("a")
			a = r.as(buildOf(1, 1), "a")
			delete(r.nodes, "a")
			var err error
			for err == nil { // what takes its connections ends without error, and not before it is told
				select {
				case err = <-a.done:
				case <-time.After(patience):
					t.Fatal("it goes on")
				}
			}
			if !strings.Contains(err.Error(), "upgrade this node") || strings.Contains(err.Error(), "move that directory") {
				t.Errorf("snapshot %t: it ended with %v", snapshot, err)
			}
			a.stop()
			<-a.done
		})
	}
}

// gatedLog is a log that takes no entry while it is shut.
type gatedLog struct {
	raft.LogStore
	gate *atomic.Pointer[chan struct{}] // nil: open
}

func (g gatedLog) StoreLogs(logs []*raft.Log) error {
	if shut := g.gate.Load(); shut != nil {
		<-*shut
	}
	return g.LogStore.StoreLogs(logs)
}

// TestLevelsInOrder proves that a command of level 2 and an older build that
// becomes a member do not pass each other on their way into the log: whoever comes
// first is decided before the other one is looked at.
func TestLevelsInOrder(t *testing.T) {
	up := fsm.ServerUp{ID: 99, Boot: 9, Addr: "z:8020"}
	up.Server.Name, up.Server.CtlPort = "z", 8099
	command := fsm.SuspendMerge{On: true}
	propose := func(b fsm.Body) func(*Plane) error {
		return func(p *Plane) error {
			_, err := p.proposeHere(context.Background(), b)
			return err
		}
	}
	join := func(p *Plane) error {
		return p.admit(context.Background(), fsm.Levels{}, "0000000000000063.x", raftnode.Address("0000000000000063.x", "z:8020"))
	}
	for name, tt := range map[string]struct{ first, second func(*Plane) error }{
		"up, command":   {propose(up), propose(command)},
		"command, up":   {propose(command), propose(up)},
		"command, join": {propose(command), join},
		"join, command": {join, propose(command)},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, 1, func(r *rig) {
				var gate atomic.Pointer[chan struct{}]
				r.prepare = func(p *Plane) {
					p.stores.Intercept(func(l raft.LogStore) raft.LogStore { return gatedLog{l, &gate} })
				}
				a := r.as(buildOf(1, 2), "a")
				r.formed("a")
				shut := make(chan struct{})
				gate.Store(&shut)
				first, second := make(chan error, 1), make(chan error, 1)
				go func() { first <- tt.first(a.plane) }()
				synctest.Wait()
				go func() { second <- tt.second(a.plane) }()
				synctest.Wait()
				gate.Store(nil)
				close(shut)
				if err := <-first; err != nil {
					t.Errorf("who came first: %v", err)
				}
				if err := <-second; !errors.Is(err, fsm.ErrLevel) {
					t.Errorf("who came second: %v, want that it is refused for its level", err)
				}
			})
		})
	}
}
