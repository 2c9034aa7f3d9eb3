package controlplane

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// TestDecideRecover proves when a server with a ring on its disk goes on alone:
// only if the voters that have not answered with an empty disk are no majority.
func TestDecideRecover(t *testing.T) {
	name := func(id ring.ID) string { return string(rune('a'+id-1)) + ":8020" }
	voter := func(id ring.ID) raft.Server {
		return raft.Server{Suffrage: raft.Voter, ID: firstRaftID(id), Address: raft.ServerAddress("x@" + name(id))}
	}
	standby := func(id ring.ID) raft.Server {
		return raft.Server{Suffrage: raft.Nonvoter, ID: firstRaftID(id)}
	}
	says := func(id ring.ID, change func(*answer)) answer {
		a := answer{member: Member{ID: id, Addr: name(id)}, ok: true}
		a.RaftID = string(firstRaftID(id))
		change(&a)
		return a
	}
	empty := func(a *answer) { a.Empty, a.RaftID = true, "" }
	other := func(a *answer) { a.RaftID = "other" }
	sound := func(*answer) {}
	silent := func(a *answer) { *a = answer{member: a.member} }
	foreign := func(a *answer) { *a = answer{member: a.member, refused: true, foreign: true} }
	stranger := func(a *answer) { *a = answer{member: a.member, refused: true} }
	leads := func(a *answer) { a.Leader = "x" }
	more := func(a *answer) { a.LastIndex = 11 }
	rival := func(a *answer) { a.LastIndex, a.Bootstrap, a.RaftID = 10, true, "" }
	two := []raft.Server{voter(1), standby(2)}
	three := []raft.Server{voter(1), voter(2), voter(3)}
	five := append(three[:3:3], voter(4), voter(5), standby(6))
	for _, tc := range []struct {
		name    string
		self    ring.ID
		cluster []raft.Server
		answers []answer
		want    recoverKind
		says    string
	}{
		{"two servers, the voter is silent", 2, two, []answer{says(1, silent)}, recoverWait, "no quorum: 0 of 1 voters reachable, 1 needed, missing a:8020"},
		{"two servers, the voter is there", 2, two, []answer{says(1, sound)}, recoverNot, ""},
		{"two servers, the voter lost its disk", 2, two, []answer{says(1, empty)}, recoverNow, "1 of 1 voters lost their disk: a:8020"},
		{"two servers, the voter is somebody else", 2, two, []answer{says(1, other)}, recoverNow, ""},
		{"two servers, this is the voter", 1, two, []answer{says(2, silent)}, recoverNot, ""},
		{"two servers, of another group", 2, two, []answer{says(1, stranger)}, recoverWait, ""},
		{"two servers, another ring", 2, two, []answer{says(1, foreign)}, recoverRefuse, "a:8020 belongs to another ring"},
		{"two servers, the ring has a leader", 2, two, []answer{says(1, leads)}, recoverNot, ""},
		{"three, all disks lost but one", 3, three, []answer{says(1, empty), says(2, empty)}, recoverNow, ""},
		{"three, one disk lost, one silent", 3, three, []answer{says(1, empty), says(2, silent)}, recoverWait, ""},
		{"three, one disk lost", 3, three, []answer{says(1, empty), says(2, sound)}, recoverNot, ""},
		{"five, three disks lost", 5, five, []answer{says(1, empty), says(2, empty), says(3, empty), says(4, sound), says(6, sound)}, recoverNow, ""},
		{"five, another one knows more", 5, five, []answer{says(1, empty), says(2, empty), says(3, empty), says(4, more)}, recoverRefuse, "d:8020 knows more of it (entry 11, here 10): use --bootstrap there"},
		{"five, a standby knows more", 5, five, []answer{says(1, empty), says(2, empty), says(3, empty), says(6, more)}, recoverRefuse, "f:8020 knows more"},
		{"five, another one does it", 5, five, []answer{says(1, empty), says(2, empty), says(3, empty), says(4, rival)}, recoverWait, "d:8020 goes on with it"},
		{"five, another one waits for this one", 4, five, []answer{says(1, empty), says(2, empty), says(3, empty), says(5, rival)}, recoverNow, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := kept{id: firstRaftID(tc.self), cluster: tc.cluster, last: 10}
			got := decideRecover(tc.self, k, true, tc.answers)
			if got.kind != tc.want || !strings.Contains(got.why, tc.says) {
				t.Errorf("got %+v, want kind %d and %q", got, tc.want, tc.says)
			}
			if early := decideRecover(tc.self, k, false, tc.answers); tc.want == recoverNow && early.kind != recoverWait {
				t.Errorf("at once: %+v", early)
			}
		})
	}
}

// TestOnlyVoterLost proves that a ring of two whose only voter lost its disk
// says on both servers what is the matter and how to go on, and that with
// --bootstrap on the other one it goes on with the same servers, statuses and
// assignment in a new era, which the first one joins.
func TestOnlyVoterLost(t *testing.T) {
	story(t, 2, func(r *rig) {
		r.startAll()
		r.formed("a", "b")
		for _, n := range r.nodes {
			n.plane.Programs(1)
		}
		r.await("in service", patience, r.inService(2))
		before := r.nodes["b"].plane.view()
		r.kill("a")
		r.wipe("a")
		a := r.start("a", nil)
		r.await("b says it", patience, func() bool {
			why := r.nodes["b"].plane.Status().WaitsFor
			return strings.Contains(why, "1 of 1 voters lost their disk: a:8020; start b:8020 again with --bootstrap ")
		})
		r.await("a says it", patience, func() bool {
			why := a.plane.Status().WaitsFor
			return strings.Contains(why, "b:8020 (it says: the ring has lost its majority") && strings.Contains(why, "; start b:8020 again with --bootstrap ")
		})
		r.kill("b")
		<-time.After(3 * time.Second) // a must not start a new ring meanwhile
		r.start("b", bootstrap).plane.Programs(1)
		a.plane.Programs(1)
		r.formed("a", "b")
		r.await("in service again", patience, r.inService(2))
		after := r.nodes["b"].plane.view()
		if after.RingID == before.RingID || after.Era != before.Era+1 || !after.Table.Newer(before.Table) {
			t.Errorf("ring %v era %d became ring %v era %d", before.RingID, before.Era, after.RingID, after.Era)
		}
		for i, s := range before.Table.Servers {
			if is := after.Table.Servers[i]; is.ID != s.ID || is.BaseHash != s.BaseHash {
				t.Errorf("server %d was %+v and is %+v", i, s, is)
			}
		}
		r.kill("b")
		r.start("b", bootstrap) // the option may stay
		r.formed("a", "b")
		if is := r.nodes["b"].plane.view(); is.RingID != after.RingID || is.Era != after.Era {
			t.Errorf("the option has made another ring: %x era %d", is.RingID, is.Era)
		}
	})
}

// TestAllDisksLostButOne proves the same for a ring of three.
func TestAllDisksLostButOne(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill("a")
		r.kill("b")
		r.wipe("a", "b")
		r.start("a", nil)
		r.start("b", nil)
		r.await("said", patience, func() bool {
			for _, n := range r.nodes {
				if !strings.Contains(n.plane.Status().WaitsFor, "--bootstrap") {
					return false
				}
			}
			return true
		})
		r.kill("c")
		r.start("c", bootstrap)
		r.formed("a", "b", "c")
		r.await("all vote", patience, func() bool { return r.voters(3) })
	})
}

// TestAloneAndForgotten proves that a server which was to be forgotten when its ring
// lost its majority goes on with --bootstrap all the same: that is the later word.
func TestAloneAndForgotten(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		last := r.servers[2]
		if r.leader().name == last.Name {
			last = r.servers[0]
		}
		n, leader := r.nodes[last.Name], r.leader()
		if err := n.plane.Leave(r.t.Context()); err != nil { // its raft goes on
			t.Fatal(err)
		}
		r.await("it is down", patience, func() bool { return !leader.up(last.ID) })
		if _, err := leader.plane.proposeHere(r.t.Context(), fsm.ServerForget{ID: last.ID}); err != nil {
			t.Fatal(err)
		}
		r.await("its log says so", patience, func() bool { return n.plane.view().Member(last.ID).Forget })
		var others []string
		for _, m := range r.servers {
			if m.ID != last.ID {
				others = append(others, m.Name)
			}
		}
		r.die(others...) // before the leader has looked, which it does every 500 ms
		r.kill(last.Name)
		r.wipe(others...)
		for _, name := range others {
			r.start(name, nil)
		}
		r.start(last.Name, bootstrap)
		r.formed("a", "b", "c")
		r.await("all vote", patience, func() bool { return r.voters(3) })
	})
}

// TestBootstrapRefused proves that --bootstrap on a server with a ring on its
// disk ends with an error that names the directory where another ring of the
// group has begun, waits where the ring may come back, and takes nobody's vote
// away then.
func TestBootstrapRefused(t *testing.T) {
	story(t, 2, func(r *rig) {
		r.startAll()
		r.formed("a", "b")
		id := r.nodes["a"].plane.view().RingID
		r.kill("a")
		r.kill("b")
		b := r.start("b", bootstrap)
		r.await("waits", patience, func() bool {
			return strings.HasPrefix(b.plane.Status().WaitsFor, "no quorum: 0 of 1 voters reachable")
		})
		r.start("a", nil)
		r.formed("a", "b")
		if is := b.plane.view().RingID; is != id {
			t.Errorf("ring %v became %v", id, is)
		}
		r.kill("a")
		r.kill("b")
		r.wipe("b")
		b = r.start("b", bootstrap)
		r.await("another ring", patience, func() bool { return b.plane.view().RingID != 0 })
		err := r.startError(bootstrap)
		if !errors.Is(err, ErrOtherRing) || !strings.Contains(err.Error(), r.dataDir("a")) || !strings.Contains(err.Error(), "b:8020 belongs to another ring") {
			t.Errorf("a started with %v", err)
		}
	})
}

// TestSlaveOutlivesRing proves that a slave comes back by itself when all servers
// of its ring were wiped and started a new one.
func TestSlaveOutlivesRing(t *testing.T) {
	slaveStory(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		x := r.start("x", nil)
		back := func() bool {
			l := r.leader() // there may be an election
			return l != nil && slaveIsUp(x.plane.view(), x.member.ID, x.plane.boot) && x.plane.Status().RingID == l.plane.Status().RingID
		}
		r.await("slave up", patience, back)
		old := x.plane.Status().RingID
		for _, m := range r.servers {
			r.kill(m.Name)
		}
		r.wipe("a", "b", "c")
		r.startAll()
		r.await("ring formed", patience, func() bool { return r.leader() != nil })
		took := r.await("slave back", patience, back)
		t.Logf("back after %v", took)
		if is := x.plane.Status(); is.RingID == old {
			t.Errorf("it is in the old ring %v", is.RingID)
		}
		r.await("nothing to wait for", patience, func() bool { return x.plane.Status().WaitsFor == "" })
		x.mu.Lock()
		defer x.mu.Unlock()
		if v := x.views[len(x.views)-1]; v.RingID == uint64(old) {
			t.Error("the data plane was not told")
		}
	})
}
