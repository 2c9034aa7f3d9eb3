package controlplane

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

// TestFirstStart proves that three empty servers start one ring together, and
// that every one of them sees all three UP under the same ring id.
func TestFirstStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, 3)
		r.startAll()
		r.await("all up", 20*time.Second, func() bool { return r.allUp("a", "b", "c") })
		id := r.nodes["a"].plane.Status().RingID
		for name, n := range r.nodes {
			st := n.plane.Status()
			if st.RingID != id || id == 0 {
				t.Errorf("%s is in ring %v, a in %v", name, st.RingID, id)
			}
			if st.Raft.Suffrage != "voter" || !st.Quorum.OK || st.Quorum.Have != 3 {
				t.Errorf("%s: %+v %+v", name, st.Raft, st.Quorum)
			}
		}
	})
}

// story runs one test in fake time with a ring of n servers on pipes.
func story(t *testing.T, n int, run func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { run(newRig(t, true, n)) })
}

// slaveStory is a story with slaves: yamux, on which raft reaches those, keeps
// timers in a pool of the process, and those of two stories must not meet.
func slaveStory(t *testing.T, n int, run func(*rig)) {
	t.Helper()
	defer freshPools()
	story(t, n, run)
}

// freshPools empties the pools of the process.
func freshPools() {
	runtime.GC() // a pool keeps what it has for one more
	runtime.GC()
}

const patience = 30 * time.Second

func (r *rig) formed(names ...string) {
	r.t.Helper()
	r.await("ring formed", patience, func() bool { return r.leader() != nil && r.allUp(names...) && r.linked() })
}

// linked reports whether every server's link to every other one has seen the
// incarnation that is UP.
func (r *rig) linked() bool {
	for _, n := range r.nodes {
		for _, m := range r.nodes {
			if n == m || n.plane.cfg.Slave || m.plane.cfg.Slave {
				continue
			}
			n.plane.mu.Lock()
			e := n.plane.links[m.member.ID]
			n.plane.mu.Unlock()
			if e.State != ring.LinkAlive || e.Incarnation != m.plane.incarnation(m.plane.view()) {
				return false
			}
		}
	}
	return true
}

// TestWaitingNames proves that a server without company says for whom it waits,
// and names one whose configuration differs.
func TestWaitingNames(t *testing.T) {
	story(t, 3, func(r *rig) {
		a := r.start("a", nil)
		r.await("waiting said", patience, func() bool {
			return a.plane.Status().WaitsFor == "waiting for 2 of 3 servers: b:8020, c:8020 (1 of them will do)"
		})
		r.start("c", func(c *Config) { c.Params.Replica = 2 })
		r.await("difference named", patience, func() bool {
			return strings.Contains(a.plane.Status().WaitsFor, "c:8020 has another configuration")
		})
		if a.plane.Status().RingID != 0 {
			t.Error("a ring was started without a majority of equal configurations")
		}
	})
}

// TestLateVoter proves that a first voter that comes after the ring was started
// takes the place that the first configuration holds for it, without a change
// of raft's configuration.
func TestLateVoter(t *testing.T) {
	story(t, 3, func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil)
		r.formed("a", "b")
		before := a.plane.clusterOf()
		c := r.start("c", nil)
		r.formed("a", "b", "c")
		if diff := cmp.Diff(before, a.plane.clusterOf()); diff != "" {
			t.Errorf("configuration of raft changed:\n%s", diff)
		}
		if got, want := c.plane.Status().Raft.ID, string(firstRaftID(c.member.ID)); got != want {
			t.Errorf("c runs as %s, want %s", got, want)
		}
	})
}

// TestKilledFollower proves that a dead process is DOWN on every survivor
// within moments, and UP again under a new incarnation soon after its restart.
func TestKilledFollower(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		var victim *rigNode
		for _, n := range r.nodes {
			if n != r.leader() {
				victim = n
			}
		}
		was := victim.plane.incarnation(victim.plane.view())
		r.kill(victim.name)
		down := r.await("down", patience, func() bool {
			for _, n := range r.nodes {
				if n.up(victim.member.ID) {
					return false
				}
			}
			return true
		})
		if down > 300*time.Millisecond {
			t.Errorf("down after %v", down)
		}
		again := r.start(victim.name, nil)
		up := r.await("up again everywhere", patience, func() bool { return r.allUp("a", "b", "c") })
		if up > 2*time.Second {
			t.Errorf("up again after %v", up)
		}
		if is := again.plane.incarnation(again.plane.view()); is <= was {
			t.Errorf("incarnation %d after %d", is, was)
		}
	})
}

// TestKilledLeader proves that a killed leader is replaced, and DOWN on the
// survivors, within four seconds.
func TestKilledLeader(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		victim := r.leader()
		r.kill(victim.name)
		down := r.await("down", patience, func() bool {
			for _, n := range r.nodes {
				if n.up(victim.member.ID) {
					return false
				}
			}
			return r.leader() != nil
		})
		if down > 4*time.Second {
			t.Errorf("down after %v", down)
		}
		r.start(victim.name, nil)
		r.formed("a", "b", "c")
	})
}

// TestWholeRingRestarts proves that the ring comes back from disk as the same one.
func TestWholeRingRestarts(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		before := r.nodes["a"].plane.Status()
		for _, m := range r.servers {
			r.kill(m.Name)
		}
		r.startAll()
		r.formed("a", "b", "c")
		r.await("new incarnations", patience, func() bool {
			for _, n := range r.nodes {
				if n.plane.incarnation(n.plane.view()) == 0 {
					return false
				}
			}
			return true
		})
		after := r.nodes["a"].plane.Status()
		if after.RingID != before.RingID || after.Incarnation <= before.Incarnation {
			t.Errorf("ring %v incarnation %d, before %v and %d", after.RingID, after.Incarnation, before.RingID, before.Incarnation)
		}
	})
}

// TestLostDisk proves that a server that lost its disk comes back under a new
// raft id, votes again, and that its old id is gone.
func TestLostDisk(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill("b")
		if err := os.RemoveAll(filepath.Join(r.dir, "b")); err != nil {
			t.Fatal(err)
		}
		b := r.start("b", nil)
		r.formed("a", "b", "c")
		r.await("votes again", patience, func() bool {
			st := b.plane.Status()
			return st.Raft.Suffrage == "voter" && st.Quorum.Voters == 3
		})
		if id := b.plane.Status().Raft.ID; id == string(firstRaftID(b.member.ID)) {
			t.Errorf("b has its old raft id %s", id)
		}
		if i := memberIndex(r.nodes["a"].plane.clusterOf(), firstRaftID(b.member.ID)); i >= 0 {
			t.Error("the old id is still a member")
		}
	})
}

// TestFourthServer proves that a server beyond the first voters joins as a
// standby, and that two later ones make five voters.
func TestFourthServer(t *testing.T) {
	story(t, 5, func(r *rig) {
		r.servers = r.servers[:4]
		for _, m := range r.servers[:3] {
			r.start(m.Name, nil)
		}
		r.formed("a", "b", "c")
		d := r.start("d", nil)
		r.formed("a", "b", "c", "d")
		if st := d.plane.Status(); st.Raft.Suffrage != "nonvoter" || st.Quorum.Voters != 3 {
			t.Errorf("d: %+v %+v", st.Raft, st.Quorum)
		}
	})
}

// TestLoneSurvivor proves that one of three says that there is no quorum, whom
// it misses and that it waits for them.
func TestLoneSurvivor(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill("a")
		r.kill("b")
		r.await("no quorum said", patience, func() bool {
			st := r.nodes["c"].plane.Status()
			return !st.Quorum.OK && st.Quorum.Have == 1 && st.Quorum.Need == 2 &&
				cmp.Equal(st.Quorum.Missing, []string{"a:8021", "b:8022"}) &&
				st.WaitsFor == "no quorum: 1 of 3 voters reachable, 2 needed, missing a:8021, b:8022"
		})
		r.start("a", nil)
		r.await("quorum again", patience, func() bool { return r.allUp("a", "c") && r.nodes["c"].plane.Status().WaitsFor == "" })
	})
}

// TestTwoServers proves that a ring of two has one voter and comes back from
// each order of kills and restarts as the same ring with both servers in
// service, and that the other server says plainly what it cannot decide while
// the voter is away.
func TestTwoServers(t *testing.T) {
	for _, order := range []string{
		"-b +b",       // the standby dies and comes back
		"-a +a",       // the voter does
		"-a -b +a +b", // both, the voter is back first
		"-a -b +b +a", // both, the standby is back first
		"-b -a +a +b",
		"-b -a +b +a",
	} {
		t.Run(order, func(t *testing.T) {
			story(t, 2, func(r *rig) {
				up := func(name string) { r.start(name, nil).plane.Programs(1) }
				up("a")
				up("b")
				r.formed("a", "b")
				r.await("in service", patience, r.inService(2))
				id := r.nodes["a"].plane.view().RingID
				for _, step := range strings.Fields(order) {
					switch name := step[1:]; {
					case step[0] == '+':
						up(name)
					default:
						r.kill(name)
					}
					a, b := r.nodes["a"], r.nodes["b"]
					if a != nil && b == nil {
						r.await("b is down, a serves", patience, func() bool { return r.allUp("a") && a.plane.Status().WaitsFor == "" })
					}
					if a == nil && b != nil {
						r.await("b says what it cannot decide", patience, func() bool {
							st := b.plane.Status()
							return !st.Quorum.OK && strings.HasPrefix(st.WaitsFor, "no quorum: 0 of 1 voters reachable, 1 needed, missing a:8021. It is the only voter")
						})
					}
				}
				r.formed("a", "b")
				r.await("in service again", patience, r.inService(2))
				for name, n := range r.nodes {
					st := n.plane.Status()
					if uint64(st.RingID) != id || st.Quorum.Voters != 1 || (st.Raft.Suffrage == "voter") != (name == "a") {
						t.Errorf("%s: ring %v, want %v, %+v", name, st.RingID, id, st.Raft)
					}
				}
			})
		})
	}
}

// TestSlave proves that a slave joins without a vote, comes back after a
// restart without a change of raft's configuration, and is DOWN when its
// sessions are gone.
func TestSlave(t *testing.T) {
	slaveStory(t, 3, func(r *rig) {
		for _, m := range r.servers {
			r.start(m.Name, func(c *Config) { c.SlaveGrace = 500 * time.Millisecond })
		}
		r.formed("a", "b", "c")
		x := r.start("x", nil)
		listed := func(up bool) func() bool {
			return func() bool {
				for _, n := range r.nodes {
					sl := n.plane.Status().Slaves
					if len(sl) != 1 || sl[0].Up != up {
						return false
					}
				}
				return true
			}
		}
		r.await("slave up", patience, listed(true))
		if st := x.plane.Status(); st.Role != "slave" || st.Raft.Suffrage != "nonvoter" || len(st.Servers) != 3 {
			t.Errorf("slave: %+v", st)
		}
		before := r.nodes["a"].plane.clusterOf()
		boot := r.nodes["a"].plane.view().Boot(x.member.ID)
		r.kill("x")
		x = r.start("x", nil)
		r.await("restarted", patience, func() bool {
			return x.plane.view().Boot(x.member.ID) != boot && listed(true)()
		})
		if diff := cmp.Diff(before, r.nodes["a"].plane.clusterOf()); diff != "" {
			t.Errorf("configuration of raft changed:\n%s", diff)
		}
		r.kill("x")
		r.await("slave down", patience, listed(false))
	})
}

// TestSlaveRemoved proves that a slave that stays away is removed, and may come back.
func TestSlaveRemoved(t *testing.T) {
	slaveStory(t, 1, func(r *rig) {
		short := func(c *Config) { c.SlaveGC, c.SlaveGrace = time.Second, 100*time.Millisecond }
		a := r.start("a", short)
		r.formed("a")
		r.start("x", nil)
		r.await("slave up", patience, func() bool { return len(a.plane.Status().Slaves) == 1 })
		r.kill("x")
		r.await("slave removed", time.Minute, func() bool {
			return len(a.plane.Status().Slaves) == 0 && len(a.plane.clusterOf()) == 1
		})
		r.start("x", nil)
		r.await("slave back", patience, func() bool { return len(a.plane.Status().Slaves) == 1 })
	})
}

// inService returns a condition: every node sees n servers that can act for all
// they own, and no merge.
func (r *rig) inService(n int) func() bool {
	return func() bool {
		for _, node := range r.nodes {
			v := node.plane.view()
			if v.Table == nil || v.Merge != nil {
				return false
			}
			have := 0
			for _, s := range v.Table.Servers {
				if s.Status.CanAct() && s.Status.Operate() == ring.Nothing {
					have++
				}
			}
			if have != n {
				return false
			}
		}
		return true
	}
}

// TestMerge proves that a server that gets its program later is merged in, with
// every step reported by donors and receivers, and that a server that was
// stood in for gets its data back in a merge.
func TestMerge(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		for _, name := range []string{"a", "b"} {
			r.nodes[name].plane.Programs(1)
		}
		r.await("two in service", patience, r.inService(2))
		r.nodes["c"].plane.Programs(2)
		took := r.await("three in service", patience, r.inService(3))
		if took > time.Second {
			t.Errorf("the merge took %v", took)
		}
		r.kill("a")
		r.await("a down", patience, r.inService(2))
		r.start("a", nil).plane.Programs(1)
		r.await("a in sync again", patience, r.inService(3))
		for slot, bits := range r.nodes["b"].plane.view().Table.Base.InSync {
			if bits != 3 {
				t.Errorf("slot %d: in sync %b", slot, bits)
			}
		}
	})
}

// TestStorm proves that a ring of five comes back to one table after a storm of
// kills and restarts, with programs coming and going in it.
func TestStorm(t *testing.T) {
	for seed := range uint64(3) {
		story(t, 5, func(r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r.startAll()
			r.formed("a", "b", "c", "d", "e")
			id := r.nodes["a"].plane.view().RingID
			for range 40 {
				m := r.servers[rnd.IntN(len(r.servers))]
				if n := r.nodes[m.Name]; n == nil {
					r.start(m.Name, nil).plane.Programs(rnd.IntN(2))
				} else if rnd.IntN(3) == 0 {
					n.plane.Programs(rnd.IntN(2))
				} else {
					r.kill(m.Name)
				}
				<-time.After(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			}
			for _, m := range r.servers {
				if r.nodes[m.Name] == nil {
					r.start(m.Name, nil)
				}
				r.nodes[m.Name].plane.Programs(1)
			}
			r.await("calm", 5*time.Minute, r.inService(5))
			r.await("one table", patience, func() bool {
				want := r.nodes["a"].plane.view()
				for _, n := range r.nodes {
					if v := n.plane.view(); v.RingID != id || v.Table.Epoch != want.Table.Epoch || v.Table.Version != want.Table.Version {
						return false
					}
				}
				return true
			})
		})
	}
}

// TestServiceIn proves that AUTOMERGE takes servers with programs into service,
// that a program that leaves suspends its server after the grace, and that one
// that comes back within it does not.
func TestServiceIn(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		for _, n := range r.nodes {
			n.plane.Programs(1)
		}
		r.await("all in service", patience, r.inService(3))
		a := r.nodes["a"]
		a.plane.Programs(0)
		a.plane.Programs(1)
		at := a.plane.view().Index
		a.plane.Programs(0)
		took := r.await("a suspended", patience, r.inService(2))
		if took < time.Second {
			t.Errorf("suspended after %v (entry %d), the grace is 1 s", took, at)
		}
	})
}

// TestLeave proves that a leader that leaves is DOWN at once and hands the lead over.
func TestLeave(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		old := r.leader()
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		if err := old.plane.Leave(ctx); err != nil {
			t.Fatalf("leave: %v", err)
		}
		took := r.await("another leader, old one down", patience, func() bool {
			l := r.leader()
			return l != nil && l != old && !l.up(old.member.ID)
		})
		if took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestViewsInOrder proves that OnView sees states in log order, ends with the
// newest one and names the incarnation.
func TestViewsInOrder(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		synctest.Wait()
		for name, n := range r.nodes {
			n.mu.Lock()
			last := len(n.views) - 1
			for i := 1; i <= last; i++ {
				if n.views[i].Index <= n.views[i-1].Index {
					t.Errorf("%s: view %d has index %d after %d", name, i, n.views[i].Index, n.views[i-1].Index)
				}
			}
			if last < 0 || n.views[last].Index != n.plane.view().Index || n.incs[last] != n.plane.incarnation(n.plane.view()) {
				t.Errorf("%s: OnView did not see the newest state", name)
			}
			n.mu.Unlock()
		}
	})
}

// TestLocked proves that a second start of a node says who holds its data directory.
func TestLocked(t *testing.T) {
	story(t, 1, func(r *rig) {
		r.start("a", nil)
		_, err := New(Config{
			Group: r.group, Params: r.params, Servers: r.servers, Self: r.servers[0],
			DataDir: filepath.Join(r.dir, "a"), Mux: mux.New(r.net.listen("z:1"), testLog("a")),
		})
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
			t.Errorf("second start: %v", err)
		}
	})
}

// TestRealSockets proves over loopback TCP what the stories prove over pipes:
// a first start, a killed leader, its restart, a slave. It runs in a process of
// its own: see slaveStory.
func TestRealSockets(t *testing.T) {
	const alone = "CHMPX_TEST_REAL_SOCKETS"
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealSockets$", "-test.v", fmt.Sprintf("-test.short=%t", testing.Short()))
		cmd.Env = append(os.Environ(), alone+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s", out)
		return
	}
	r := newRig(t, false, 3)
	r.startAll()
	r.formed("a", "b", "c")
	r.start("x", nil)
	r.await("slave up", patience, func() bool {
		st := r.nodes["x"].plane.Status()
		return len(st.Slaves) == 1 && st.Slaves[0].Up
	})
	victim := r.leader()
	r.kill(victim.name)
	took := r.await("down", patience, func() bool {
		for _, n := range r.nodes {
			if n.up(victim.member.ID) {
				return false
			}
		}
		return true
	})
	t.Logf("killed leader down everywhere, slave included, after %v", took)
	r.start(victim.name, nil)
	took = r.await("up again", patience, func() bool { return r.allUp("a", "b", "c") })
	t.Logf("up again everywhere after %v", took)
}
