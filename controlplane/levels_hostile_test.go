package controlplane

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// ends waits until a node ends by itself, and returns with what.
func (r *rig) ends(n *rigNode) error {
	r.t.Helper()
	delete(r.nodes, n.name)
	var err error
	for err == nil { // what takes its connections ends without error, and not before it is told
		select {
		case err = <-n.done:
		case <-time.After(patience):
			r.t.Fatalf("%s goes on", n.name)
		}
	}
	n.stop()
	<-n.done
	return err
}

// saysUpgrade checks that an error says what to do about a build that is too old, and
// nothing that would cost a data directory.
func (r *rig) saysUpgrade(err error) {
	r.t.Helper()
	if !strings.Contains(err.Error(), "upgrade this node") || strings.Contains(err.Error(), "move that directory") {
		r.t.Errorf("it ended with %v", err)
	}
}

// TestOldBuildGoesOnAlone proves that an old build which is to go on alone with the log of
// a newer one ends with words that say what to do, and that the newer build goes on with
// all of that log afterwards.
func TestOldBuildGoesOnAlone(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		story(t, 2, func(r *rig) {
			newer := buildOf(1, 2)
			a := r.as(newer, "a") // the only voter of two
			b := r.as(newer, "b")
			r.formed("a", "b")
			if err := a.suspend(true); err != nil {
				t.Fatal(err)
			}
			r.await("b has it", patience, func() bool { return b.plane.view().SuspendMerge })
			if snapshot {
				if err := b.plane.node.Load().Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
			r.kill("a")
			r.kill("b")
			alone := func(build fsm.Build) *rigNode { // with a, whose disk is lost
				if err := os.RemoveAll(r.dataDir("a")); err != nil {
					t.Fatal(err)
				}
				b := r.start("b", func(c *Config) { c.Build, c.Bootstrap = build, true })
				r.as(newer, "a")
				return b
			}
			r.saysUpgrade(r.ends(alone(buildOf(1, 1))))
			r.kill("a")
			b = alone(newer)
			r.formed("a", "b")
			if v := b.plane.view(); !v.SuspendMerge || v.LevelUsed != 2 {
				t.Errorf("snapshot %t: it went on without what the log has: level used %d", snapshot, v.LevelUsed)
			}
		})
	}
}

// TestOwnLeast proves that what a node has insisted on itself keeps no older build of it
// out: a server and a slave that come back without that are taken.
func TestOwnLeast(t *testing.T) {
	slaveStory(t, 3, func(r *rig) {
		for _, name := range []string{"a", "b"} {
			r.as(buildOf(1, 2), name)
		}
		r.as(buildOf(2, 2), "c")
		s := r.as(buildOf(2, 2), "s")
		r.formed("a", "b", "c")
		up := func() bool { return r.leader() != nil && slaveIsUp(r.leader().plane.view(), s.member.ID, s.plane.boot) }
		r.await("the slave is up", patience, up)
		r.kill("c")
		r.kill("s")
		s = r.as(buildOf(1, 2), "s")
		r.as(buildOf(1, 1), "c")
		r.await("the slave is up", patience, up)
		r.formed("a", "b", "c")
	})
}

// TestNeverUpHoldsBack proves that a member of raft which has never come up is named in the
// status as one that holds the ring back, for it does.
func TestNeverUpHoldsBack(t *testing.T) {
	story(t, 3, func(r *rig) {
		a := r.as(buildOf(1, 2), "a")
		r.as(buildOf(1, 2), "b")
		r.formed("a", "b")
		r.notYet(a, "c:8023 (not up yet)")
		st := a.plane.Status()
		if !slices.Contains(st.LevelHeldBy, "c:8023") || st.Level != 1 || !slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, "c:8023") }) {
			t.Errorf("level %d, held back by %v, warnings %v", st.Level, st.LevelHeldBy, st.Warnings)
		}
		r.as(buildOf(1, 2), "c")
		r.formed("a", "b", "c")
		if st := a.plane.Status(); st.Level != 2 || len(st.LevelHeldBy) > 0 || len(st.Warnings) > 0 {
			t.Errorf("all are up: level %d, held back by %v, warnings %v", st.Level, st.LevelHeldBy, st.Warnings)
		}
	})
}

// TestHalfJoined proves that a server which lost its disk and is a member of raft again, and not
// UP yet, is not taken for what its ring remembers of it.
func TestHalfJoined(t *testing.T) {
	story(t, 3, func(r *rig) {
		newer := buildOf(1, 2)
		a := r.as(newer, "a")
		r.as(newer, "b")
		r.as(newer, "c")
		r.formed("a", "b", "c")
		r.kill("c")
		r.await("c is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
		lead := r.leader().plane
		id := lead.view().Table.Servers[2].ID
		want := "000000000000000c.y"
		if _, owner := ownerOf("000000000000000c.y"); !owner || id.String()+".y" != want {
			t.Fatalf("%s is not the id of c, %s", want, id)
		}
		if err := lead.admit(context.Background(), fsm.Levels{}, "000000000000000c.y", "000000000000000c.y@c:8020"); err != nil {
			t.Fatal(err)
		}
		r.notYet(a, "c:8023")
	})
}

// TestLeadLostAndBack proves that a leader which lost the lead and got it back, before it was
// done with the loss, decides about nobody's level before it has applied what others committed
// meanwhile.
func TestLeadLostAndBack(t *testing.T) {
	story(t, 3, func(r *rig) {
		var shut atomic.Pointer[chan struct{}] // holds up a loop of the leader
		for _, m := range r.servers {
			r.start(m.Name, func(c *Config) {
				c.Build = buildOf(1, 2)
				c.ForgetStandIn = func(ring.StandIn) {}
				c.StandIns = func(bool) []ring.StandIn {
					if gate := shut.Load(); gate != nil && c.Self.Name == "a" {
						<-*gate
					}
					return nil
				}
			})
		}
		r.formed("a", "b", "c")
		a := r.nodes["a"].plane
		lead := func(n *Plane) {
			t.Helper()
			r.await("the lead", patience, func() bool {
				for _, m := range r.nodes {
					if p := m.plane; p != n && p.leads() {
						to := *n.raftID.Load()
						_ = p.node.Load().LeadershipTransferToServer(to, raft.ServerAddress("")).Error()
					}
				}
				return n.leads()
			})
		}
		lead(a)
		r.await("a leads", patience, a.leading.Load)
		term := a.node.Load().CurrentTerm()
		gate := make(chan struct{})
		shut.Store(&gate)
		<-time.After(2 * standInTick) // by then the loop is held up
		lead(r.nodes["b"].plane)
		lead(a)
		if a.node.Load().CurrentTerm() == term || !a.leading.Load() {
			t.Fatal("the lead was not lost and got back at once")
		}
		_, err := a.proposeHere(context.Background(), fsm.SuspendMerge{On: true})
		resp := a.handle(context.Background(), a.request(opRead, nil))
		if !errors.Is(err, errJustElected) || resp.Code != codeFailed {
			t.Errorf("it decides: %v, %+v", err, resp)
		}
		if err := a.admit(context.Background(), fsm.Levels{}, "0000000000000063.x", "0000000000000063.x@z:8020"); !errors.Is(err, errJustElected) {
			t.Errorf("it admits: %v", err)
		}
		shut.Store(nil)
		close(gate)
		r.await("it decides again", patience, func() bool { return a.leading.Load() && a.upToDate() })
		if err := r.nodes["a"].suspend(true); err != nil {
			t.Error(err)
		}
	})
}

// TestTurnIsBounded proves that who waits for its turn behind what raft does not decide
// is told to try again, and is not let in later, when nobody waits for the answer.
func TestTurnIsBounded(t *testing.T) {
	story(t, 1, func(r *rig) {
		a := r.as(buildOf(1, 2), "a")
		r.formed("a")
		release, err := a.plane.inOrder(context.Background(), true)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = a.plane.admit(context.Background(), fsm.Levels{}, "0000000000000063.x", "0000000000000063.x@z:8020")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > orderTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		release()
		if err := a.suspend(true); err != nil || len(a.plane.clusterOf()) != 1 {
			t.Errorf("after it: %v, members %v", err, a.plane.clusterOf())
		}
	})
}

// TestTooOldAsksNobody proves that a start which is refused for its level makes no server
// hold back its stand-ins.
func TestTooOldAsksNobody(t *testing.T) {
	story(t, 2, func(r *rig) {
		var asked atomic.Int64
		noting := func(b fsm.Build) func(c *Config) {
			return func(c *Config) {
				c.Build = b
				c.ForgetStandIn = func(ring.StandIn) {}
				c.StandIns = func(collect bool) []ring.StandIn {
					if collect {
						asked.Add(1)
					}
					return nil
				}
			}
		}
		r.start("a", noting(buildOf(1, 1)))
		r.start("b", noting(buildOf(1, 2)))
		r.formed("a", "b")
		for _, name := range []string{"a", "b"} {
			r.nodes[name].plane.Programs(1)
		}
		r.await("a and b are in service", patience, r.inService(2))
		r.kill("b")
		r.await("b is down", patience, func() bool { return r.allUp("a") })
		asked.Store(0)
		b := r.start("b", noting(buildOf(2, 2)))
		r.await("it says why", patience, func() bool { return strings.Contains(b.plane.Status().WaitsFor, "needs a ring of level 2") })
		<-time.After(3 * reportRetry)
		if n := asked.Load(); n > 0 {
			t.Errorf("%d times", n)
		}
	})
}

// TestOldBuildGetsSnapshot proves that an old build which has started while nobody could tell
// it, and gets a snapshot of a newer ring, ends with words that say what to do, then and at its next
// start; and that its data directory is as good as before for the newer build.
func TestOldBuildGetsSnapshot(t *testing.T) {
	story(t, 3, func(r *rig) {
		newer, older := buildOf(1, 2), buildOf(1, 1)
		for _, name := range []string{"a", "b", "c"} {
			r.as(newer, name)
		}
		r.formed("a", "b", "c")
		if err := r.nodes["c"].plane.node.Load().Snapshot().Error(); err != nil { // an older one, which it understands
			t.Fatal(err)
		}
		r.kill("c")
		r.await("c is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
		if err := r.nodes["a"].suspend(true); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b"} {
			r.await("it is everywhere", patience, func() bool { return r.nodes[name].plane.view().SuspendMerge })
			r.compact(name)
		}
		r.kill("a")
		r.kill("b")
		c := r.as(older, "c")
		r.await("c runs alone", patience, func() bool { return c.plane.node.Load() != nil })
		r.as(newer, "a")
		r.as(newer, "b")
		err := r.ends(c)
		if r.saysUpgrade(err); !errors.Is(err, fsm.ErrSnapshot) {
			t.Errorf("it was no snapshot that ended it: %v", err)
		}
		r.await("a and b go on", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
		r.keptOut(r.as(older, "c"), "upgrade this node")
		r.kill("c")
		r.kill("a")
		r.kill("b")
		r.saysUpgrade(r.ends(r.as(older, "c")))
		for _, name := range []string{"a", "b", "c"} {
			r.as(newer, name)
		}
		r.formed("a", "b", "c")
		r.await("c has it", patience, func() bool { return r.nodes["c"].plane.view().SuspendMerge })
	})
}

// TestNewField proves that a field which a newer build has added to a command is refused by a leader that does
// not know it, with words that say whom to upgrade, and stops nobody; and that a log with such an entry
// is not said to be damaged for sure.
func TestNewField(t *testing.T) {
	story(t, 1, func(r *rig) {
		a := r.start("a", nil)
		r.formed("a")
		b, err := fsm.Encode(fsm.Command{Proposer: fsm.Operator(a.plane.boot), Number: 1, Body: fsm.SuspendMerge{On: true}})
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.Replace(b, []byte(`"on":true`), []byte(`"on":true,"until":"later"`), 1)
		if !bytes.Contains(b, []byte("later")) {
			t.Fatalf("no new field in %s", b)
		}
		resp := a.plane.handle(context.Background(), a.plane.request(opCommand, proposeBody{Command: b}))
		if err := resp.err(); resp.Code != codeLevel || !strings.Contains(resp.Text, "a:8021 leads the ring") || !errors.Is(err, fsm.ErrLevel) {
			t.Errorf("%+v", resp)
		}
		r.formed("a")
		if err := a.plane.node.Load().Apply(b, applyTimeout).Error(); err != nil {
			t.Fatal(err)
		}
		r.saysUpgrade(r.ends(a))
	})
}

// TestForgottenHoldsNothingBack proves that a server which holds the ring back does so no more once it is
// forgotten, and comes back as a newer build only.
func TestForgottenHoldsNothingBack(t *testing.T) {
	story(t, 3, func(r *rig) {
		a := r.as(buildOf(1, 2), "a")
		r.as(buildOf(1, 2), "b")
		r.as(buildOf(1, 1), "c")
		r.formed("a", "b", "c")
		r.kill("c")
		r.await("c is down", patience, func() bool { return r.leader() != nil && r.allUp("a", "b") })
		r.notYet(a, "c:8023")
		if err := a.command(fsm.ServerForget{ID: r.servers[2].ID}); err != nil {
			t.Fatal(err)
		}
		r.await("works", patience, func() bool { return a.suspend(true) == nil })
		r.keptOut(r.as(buildOf(1, 1), "c"), "upgrade this node")
		r.kill("c")
		if err := os.RemoveAll(r.dataDir("c")); err != nil {
			t.Fatal(err)
		}
		r.as(buildOf(1, 2), "c")
		r.formed("a", "b", "c")
	})
}
