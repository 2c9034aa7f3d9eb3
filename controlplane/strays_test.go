package controlplane

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// strayLimit is when a server that joined and never came up is removed, in tests.
const strayLimit = 20 * time.Second

func straySoon(c *Config) { c.StrayAfter, c.StandbyAfter = strayLimit, time.Second }

// halfway starts a server that becomes a member of raft and follows the log, but
// does not come up before mayComeUp says so.
func (r *rig) halfway(name string) *rigNode {
	r.t.Helper()
	r.prepare = func(p *Plane) { p.leaving = true }
	n := r.start(name, straySoon)
	r.prepare = nil
	r.await(name+" follows the log", patience, func() bool { return n.plane.view().RingID != 0 })
	return n
}

// halfwayBesideThree is halfway of d, in a ring of the others.
func (r *rig) halfwayBesideThree() *rigNode {
	r.t.Helper()
	for _, m := range r.servers[:3] {
		r.start(m.Name, straySoon)
	}
	r.formed("a", "b", "c")
	return r.halfway("d")
}

func (n *rigNode) mayComeUp() {
	n.plane.mu.Lock()
	n.plane.leaving = false
	n.plane.mu.Unlock()
}

// idsOf returns the raft ids of a server, as the leader's configuration has them.
func (r *rig) idsOf(id ring.ID) (ids []raft.ServerID) {
	r.await("leader", patience, func() bool { return r.leader() != nil })
	for _, m := range r.leader().plane.clusterOf() {
		if owner, _ := ownerOf(m.ID); owner == id {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// removed waits until a server is no member of raft and checks that it took its time.
func (r *rig) removed(id ring.ID) {
	r.t.Helper()
	took := r.await("it is removed", 2*strayLimit, func() bool { return len(r.idsOf(id)) == 0 })
	if took < strayLimit-time.Second {
		r.t.Errorf("it was removed after %v", took)
	}
}

// TestHalfAJoin proves that a server which became a member of raft and ended before
// it came up is removed after a while, and gets in when it is started again:
// with what it has on disk under the same raft id, with an empty disk under another one.
func TestHalfAJoin(t *testing.T) {
	for name, wiped := range map[string]bool{"kept": false, "wiped": true} {
		t.Run(name, func(t *testing.T) {
			story(t, 4, func(r *rig) {
				d := r.halfwayBesideThree()
				was := *d.plane.raftID.Load()
				r.kill("d")
				r.removed(d.member.ID)
				if l := r.leader().plane; len(l.unknownMembers(l.view(), l.clusterOf())) > 0 {
					t.Error("it holds the level of the ring back")
				}
				if wiped {
					r.wipe("d")
				}
				d = r.start("d", straySoon)
				r.formed("a", "b", "c", "d")
				if is := *d.plane.raftID.Load(); is == was == wiped {
					t.Errorf("raft id %s, it was %s", is, was)
				}
				if ids := r.idsOf(d.member.ID); len(ids) != 1 {
					t.Errorf("raft has it as %v", ids)
				}
			})
		})
	}
}

// TestHalfAJoinOfAFirstVoter proves the same for a server that began the ring with
// others, lost its vote to a standby, and has its first raft id.
func TestHalfAJoinOfAFirstVoter(t *testing.T) {
	story(t, 4, func(r *rig) {
		r.start("a", straySoon)
		r.start("c", straySoon)
		b := r.halfway("b")
		r.start("d", straySoon)
		r.formed("a", "c", "d")
		r.kill("b")
		r.removed(b.member.ID)
		b = r.start("b", straySoon)
		r.formed("a", "b", "c", "d")
		if is := *b.plane.raftID.Load(); is != firstRaftID(b.member.ID) {
			t.Errorf("its raft id is %s", is)
		}
	})
}

// TestFirstVoterKeepsItsPlace proves that a first voter that nobody has seen
// yet keeps the vote that the first configuration gave it: without a standby to take it, the
// ring would have one less.
func TestFirstVoterKeepsItsPlace(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.start("a", straySoon)
		r.start("b", straySoon)
		r.formed("a", "b")
		<-time.After(2 * strayLimit)
		r.start("c", straySoon)
		r.formed("a", "b", "c")
		if ids := r.idsOf(r.servers[2].ID); len(ids) != 1 || ids[0] != firstRaftID(r.servers[2].ID) {
			t.Errorf("raft has c as %v", ids)
		}
	})
}

// TestWhoAnswersIsNoStray proves that a server is not removed that follows the log,
// or whose process answers though raft cannot reach it, for however long it has
// not come up, and that the time counts from the last answer.
func TestWhoAnswersIsNoStray(t *testing.T) {
	story(t, 4, func(r *rig) {
		d := r.halfwayBesideThree()
		stays := func(when string) {
			t.Helper()
			<-time.After(3 * strayLimit)
			if ids := r.idsOf(d.member.ID); len(ids) != 1 {
				t.Fatalf("%s: raft has it as %v", when, ids)
			}
		}
		stays("it follows the log")
		d.plane.stream.Load().Hold(true)
		stays("its process answers")
		d.plane.stream.Load().Hold(false)
		stays("it follows the log again")
		r.kill("d")
		r.removed(d.member.ID)
	})
}

// TestStrayOfALeaderLost proves that the next leader counts anew, and removes it.
func TestStrayOfALeaderLost(t *testing.T) {
	story(t, 4, func(r *rig) {
		d := r.halfwayBesideThree()
		r.kill("d")
		<-time.After(strayLimit - 2*time.Second)
		old := r.leader()
		r.kill(old.name)
		r.await("another leader", patience, func() bool { return r.leader() != nil })
		r.start(old.name, straySoon)
		r.removed(d.member.ID)
	})
}

// TestRemovedWhileItRuns proves that a server which was out of reach for so long
// before it came up joins again when the network is back, without a restart.
func TestRemovedWhileItRuns(t *testing.T) {
	story(t, 4, func(r *rig) {
		d := r.halfwayBesideThree()
		here := r.net.listener(d.member.Addr)
		r.net.put(d.member.Addr, nil)
		d.plane.server.mu.Lock()
		for conn := range d.plane.server.conns {
			conn.Close()
		}
		d.plane.server.mu.Unlock()
		d.plane.stream.Load().Hold(true)
		r.removed(d.member.ID)
		r.net.put(d.member.Addr, here)
		d.plane.stream.Load().Hold(false)
		d.mayComeUp()
		r.formed("a", "b", "c", "d")
	})
}

// TestOldHalf proves that the data directory of a join that ended half-way, put back
// after its server had joined with an empty one, gets no second member in.
func TestOldHalf(t *testing.T) {
	story(t, 4, func(r *rig) {
		d := r.halfwayBesideThree()
		r.kill("d")
		r.removed(d.member.ID)
		move := func(from, to string) {
			if err := os.Rename(r.dataDir(from), r.dataDir(to)); err != nil {
				t.Fatal(err)
			}
		}
		move("d", "half")
		r.start("d", straySoon)
		r.formed("a", "b", "c", "d")
		is := r.idsOf(d.member.ID)
		r.kill("d")
		move("d", "new")
		move("half", "d")
		d = r.start("d", straySoon)
		r.await("it says so", patience, func() bool {
			return strings.Contains(d.plane.Status().WaitsFor, "under a newer raft id than that of this data directory")
		})
		if ids := r.idsOf(d.member.ID); len(ids) != 1 || ids[0] != is[0] {
			t.Errorf("raft has it as %v, it was %v", ids, is)
		}
		r.kill("d")
		move("d", "half")
		move("new", "d")
		r.start("d", straySoon)
		r.formed("a", "b", "c", "d")
	})
}

// TestForgottenStaysOut proves that a server which was forgotten while it was away
// does not join again by itself with the log that lists it, although it cannot know
// what of that was committed.
func TestForgottenStaysOut(t *testing.T) {
	story(t, 4, func(r *rig) {
		for _, m := range r.servers {
			r.start(m.Name, straySoon)
		}
		r.formed("a", "b", "c", "d")
		d := r.servers[3]
		if r.leader().member.ID == d.ID {
			d = r.servers[0]
		}
		r.kill(d.Name)
		leader := r.leader()
		r.await("it is down", patience, func() bool { return !leader.up(d.ID) })
		if err := leader.command(fsm.ServerForget{ID: d.ID}); err != nil {
			t.Fatal(err)
		}
		r.await("it is forgotten", patience, func() bool { return leader.plane.view().Server(d.ID) == nil })
		n := r.start(d.Name, straySoon)
		r.await("it says so", patience, func() bool {
			return strings.Contains(n.plane.Status().WaitsFor, "no member of the ring any more")
		})
		<-time.After(patience)
		if ids := r.idsOf(d.ID); len(ids) > 0 {
			t.Errorf("raft has it as %v", ids)
		}
	})
}
