package controlplane

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// TestStaleDirectory proves that a server with the data directory of a ring
// that is no more cannot get into the ring that the others have started since,
// whose members go by the same raft ids: its longer log would replace theirs.
func TestStaleDirectory(t *testing.T) {
	t.Run("whole", func(t *testing.T) { staleDirectory(t, false, false) })
	t.Run("without ring.id", func(t *testing.T) { staleDirectory(t, true, false) })
	t.Run("without ring.id, with a snapshot", func(t *testing.T) { staleDirectory(t, true, true) })
}

func staleDirectory(t *testing.T, wipeID, snapshot bool) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		for range 3 { // a log that is longer than the new ring's will be
			r.kill("a")
			r.start("a", nil)
			r.formed("a", "b", "c")
		}
		if snapshot {
			if err := r.nodes["a"].plane.node.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			r.kill(name)
		}
		if wipeID {
			if err := os.Remove(filepath.Join(r.dataDir("a"), "ring.id")); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"b", "c"} {
			if err := os.RemoveAll(filepath.Join(r.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		b := r.start("b", nil)
		r.start("c", nil)
		r.formed("b", "c")
		id := b.plane.Status().RingID
		a := r.start("a", nil)
		r.await("said so", patience, func() bool {
			return strings.Contains(a.plane.Status().WaitsFor, "of another ring")
		})
		<-time.After(5 * time.Second)
		for _, name := range []string{"b", "c"} {
			if got := r.nodes[name].plane.Status(); got.RingID != id || !got.Quorum.OK {
				t.Errorf("%s: ring %v with quorum %+v, want ring %v", name, got.RingID, got.Quorum, id)
			}
		}
		if !b.up(r.nodes["c"].member.ID) || b.up(a.member.ID) {
			t.Error("the stale server changed who is UP")
		}
	})
}

// silence makes hosts that answer nothing of servers that do not run. Where
// packets are dropped they take no connection and refuse none; mute ones, as the
// kernel of a process that stands still, take all, and what is written on them.
func (r *rig) silence(mute bool, names ...string) {
	for _, m := range r.servers {
		if !slices.Contains(names, m.Name) {
			continue
		}
		ln := r.listener(&m)
		r.t.Cleanup(func() { ln.Close() })
		if !mute {
			continue
		}
		go func() { // ended by the listener
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go func() { // ended by the other end
					_, _ = io.Copy(io.Discard, conn)
					conn.Close()
				}()
			}
		}()
	}
}

// silently runs a test with both kinds of silent hosts.
func silently(t *testing.T, n int, run func(r *rig, mute bool)) {
	for name, mute := range map[string]bool{"dropped": false, "mute": true} {
		t.Run(name, func(t *testing.T) {
			slaveStory(t, n, func(r *rig) { run(r, mute) })
		})
	}
}

// silentLimit is more than anything takes beside silent hosts (1 to 3 s), and
// less than it would if they were waited for in turns.
const silentLimit = 6 * time.Second

// TestSilentStart proves that a first start with hosts that answer nothing says
// within seconds for whom it waits, however many they are, that its status
// is there at once, that it stops at once, and that three of five servers start
// their ring about as fast as without the two that are silent.
func TestSilentStart(t *testing.T) {
	silently(t, 5, func(r *rig, mute bool) {
		r.silence(mute, "b", "d")
		a := r.start("a", nil)
		took := r.await("waiting said", patience, func() bool {
			return strings.HasPrefix(a.plane.Status().WaitsFor, "waiting for 4 of 5 servers: ")
		})
		if took > silentLimit/2 {
			r.t.Errorf("said after %v", took)
		}
		began := time.Now()
		a.plane.Status()
		if took := time.Since(began); took > time.Second {
			r.t.Errorf("the status took %v", took)
		}
		began = time.Now()
		r.kill("a")
		if took := time.Since(began); took > silentLimit/2 {
			r.t.Errorf("the stop took %v", took)
		}
		for _, name := range []string{"a", "c", "e"} {
			r.start(name, nil)
		}
		took = r.await("three of five are a ring", patience, func() bool { return r.leader() != nil && r.allUp("a", "c", "e") })
		if took > silentLimit {
			r.t.Errorf("the ring took %v", took)
		}
	})
}

// TestSilentServers proves that with hosts that answer nothing among the servers
// a slave, a server that joins and a restarted one get in within seconds.
func TestSilentServers(t *testing.T) {
	silently(t, 6, func(r *rig, mute bool) {
		r.silence(mute, "a", "b")
		for _, name := range []string{"c", "d", "e"} {
			r.start(name, nil)
		}
		r.formed("c", "d", "e")
		s := r.start("s", nil)
		took := r.await("slave listed", patience, func() bool { return slaveIsUp(s.plane.view(), s.member.ID, s.plane.boot) })
		if took > silentLimit {
			r.t.Errorf("the slave took %v", took)
		}
		r.start("f", nil)
		took = r.await("f joined", patience, func() bool { return r.allUp("c", "d", "e", "f") })
		if took > silentLimit {
			r.t.Errorf("the join took %v", took)
		}
		r.kill("c")
		r.start("c", nil)
		c := r.nodes["c"].plane
		took = r.await("c is back", patience, func() bool { return c.incarnation(c.view()) != 0 })
		if took > silentLimit {
			r.t.Errorf("the restart took %v", took)
		}
	})
}

// TestForgottenSlave proves that a slave which raft knows and the ring does not
// list (its leader ended in between, and the slave too) is removed in the end.
func TestForgottenSlave(t *testing.T) {
	story(t, 3, func(r *rig) {
		for _, m := range r.servers {
			r.start(m.Name, func(c *Config) { c.SlaveGC = time.Minute })
		}
		r.formed("a", "b", "c")
		l := r.leader().plane
		ghost := slaveRaftID(4711)
		ctx, cancel := context.WithTimeout(context.Background(), memberTimeout)
		defer cancel()
		if err := l.addNonvoter(ctx, l.clusterOf(), ghost, raftnode.Address(ghost, ""), func() {}); err != nil {
			t.Fatal(err)
		}
		r.await("ghost removed", 2*time.Minute, func() bool { return memberIndex(l.clusterOf(), ghost) < 0 })
	})
}

// TestTwins proves that two processes which run as the same slave, and so push
// each other out, do it at a bounded pace.
func TestTwins(t *testing.T) {
	slaveStory(t, 1, func(r *rig) {
		r.startAll()
		r.formed("a")
		var dials atomic.Int64
		count := func(c *Config) {
			dial := c.Dial
			c.Self.ID = 2000
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				if dials.Add(1) > 10_000 {
					return nil, syscall.EADDRNOTAVAIL
				}
				return dial(ctx, addr)
			}
		}
		r.start("s", count)
		r.start("t", count)
		r.await("listed", patience, func() bool { return len(r.leader().plane.view().Slaves) == 1 })
		before := r.leader().plane.Status().Raft.LastIndex
		<-time.After(20 * time.Second)
		if n := dials.Load(); n > 200 {
			t.Errorf("%d connections in 20 s", n)
		}
		if n := r.leader().plane.Status().Raft.LastIndex - before; n > 200 {
			t.Errorf("%d log entries in 20 s", n)
		}
	})
}

// TestRefusedServer proves that a server which the leader knows neither from
// its configuration nor as a member says why it does not get in.
func TestRefusedServer(t *testing.T) {
	story(t, 4, func(r *rig) {
		for _, m := range r.servers[:3] {
			r.start(m.Name, func(c *Config) { c.Servers = r.servers[:3] })
		}
		r.await("ring of three", patience, func() bool { return r.leader() != nil && r.allUp("a", "b", "c") })
		d := r.start("d", nil)
		r.await("reason said", patience, func() bool {
			return strings.Contains(d.plane.Status().WaitsFor, "is not in our configuration")
		})
	})
}

// TestVerdictAfterPause proves that a leader which did not run for a while does
// not judge by what it believed before, even if the verdict comes to run first.
func TestVerdictAfterPause(t *testing.T) {
	story(t, 2, func(r *rig) {
		r.startAll()
		r.formed("a", "b")
		l := r.leader().plane
		known := make(map[ring.ID]knownServer)
		if _, ok := l.gather(l.view(), known, time.Now()); !ok {
			t.Fatal("no verdict at all")
		}
		if _, ok := l.gather(l.view(), known, time.Now().Add(5*time.Second)); ok {
			t.Error("a verdict right after a pause of 5 s")
		}
	})
}

// TestHungDisk proves that a leader whose disk hangs loses the lead, although
// its heartbeats would go on for ever, that its ring goes on without it, that
// it takes part again when the disk does, and that it can be stopped meanwhile.
func TestHungDisk(t *testing.T) {
	story(t, 3, func(r *rig) {
		disks := make(map[string]*hangingStore)
		r.prepare = func(p *Plane) {
			p.stores.Intercept(func(s raft.LogStore) raft.LogStore {
				d := &hangingStore{LogStore: s, turn: make(chan struct{}, 1)}
				disks[p.cfg.Self.Name] = d
				return d
			})
		}
		r.startAll()
		r.formed("a", "b", "c")
		was := r.leader()
		free := disks[was.name].hang()
		was.plane.Programs(1) // something to write
		r.await("another leader", patience, func() bool {
			for _, n := range r.nodes {
				if n != was && n.plane.leading.Load() {
					return true
				}
			}
			return false
		})
		free()
		r.await("the old leader follows", patience, func() bool {
			st := was.plane.Status()
			return st.Raft.Role == "follower" && st.Raft.LeaderID != 0 && ring.ID(st.Raft.LeaderID) != was.member.ID
		})
		r.formed("a", "b", "c")

		is := r.leader()
		free = disks[is.name].hang()
		defer free()
		is.plane.Programs(1)
		<-time.After(time.Second)
		was = r.nodes[is.name]
		delete(r.nodes, is.name)
		was.stop()
		select {
		case err := <-was.done:
			if err == nil {
				err = <-was.done // that was the port
			}
			if !errors.Is(err, raftnode.ErrNoStop) {
				t.Errorf("stopped with %v", err)
			}
		case <-time.After(patience):
			t.Error("a node with a hanging disk does not stop")
		}
	})
}

// TestFullDisk proves that a leader whose disk is full says so, loses the lead,
// and takes part again when there is room; and that a server with a full disk
// can be stopped.
func TestFullDisk(t *testing.T) {
	story(t, 3, func(r *rig) {
		disks := make(map[string]*fillingStore)
		r.prepare = func(p *Plane) {
			p.stores.Intercept(func(s raft.LogStore) raft.LogStore {
				d := &fillingStore{LogStore: s}
				disks[p.cfg.Self.Name] = d
				return d
			})
		}
		r.startAll()
		r.formed("a", "b", "c")
		warns := func(n *rigNode) bool {
			return slices.ContainsFunc(n.plane.Status().Warnings, func(w string) bool { return strings.Contains(w, "is full") })
		}
		was := r.leader()
		disks[was.name].full.Store(true)
		was.plane.Programs(1) // something to write
		r.await("the server says that its disk is full", patience, func() bool { return warns(was) })
		r.await("another leader", patience, func() bool {
			for _, n := range r.nodes {
				if n != was && n.plane.leading.Load() {
					return true
				}
			}
			return false
		})
		disks[was.name].full.Store(false)
		r.await("the old leader follows", patience, func() bool {
			st := was.plane.Status()
			return st.Raft.Role == "follower" && st.Raft.LeaderID != 0 && ring.ID(st.Raft.LeaderID) != was.member.ID && !warns(was)
		})
		r.formed("a", "b", "c")

		disks[was.name].full.Store(true)
		r.leader().plane.Programs(1)
		r.await("the follower says that its disk is full", patience, func() bool { return warns(was) })
		r.kill(was.name)
		disks[was.name].full.Store(false)
		r.start(was.name, nil)
		r.formed("a", "b", "c")
	})
}

// fillingStore is a log on a disk that can be full.
type fillingStore struct {
	raft.LogStore
	full atomic.Bool
}

func (s *fillingStore) StoreLogs(ls []*raft.Log) error {
	if s.full.Load() {
		return &fs.PathError{Op: "write", Path: "raft.db", Err: syscall.ENOSPC}
	}
	return s.LogStore.StoreLogs(ls)
}

// hangingStore is a log on a disk that can hang.
type hangingStore struct {
	raft.LogStore
	turn chan struct{} // capacity 1; a mutex that fake time can wait for
}

// hang makes writes hang until free is called, which may be called again.
func (s *hangingStore) hang() (free func()) {
	s.turn <- struct{}{}
	return sync.OnceFunc(func() { <-s.turn })
}

// StoreLogs implements raft.LogStore.
func (s *hangingStore) StoreLogs(l []*raft.Log) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.LogStore.StoreLogs(l)
}

// TestReplacedProcess proves that a server whose process was replaced by one
// that the ring does not admit does not stay UP: nobody would take its messages.
func TestReplacedProcess(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		var victim *rigNode
		for _, n := range r.nodes {
			if n != r.leader() {
				victim = n
			}
		}
		// Its port answers again before anybody looks, and never with an incarnation.
		r.unknown.Store(uint64(victim.member.ID))
		r.kill(victim.name)
		defer r.net.listen(victim.member.Addr).Close()
		r.await("down", patience, func() bool { return !r.leader().up(victim.member.ID) })
	})
}

// TestLeaderEndsInMerge proves that a merge comes to its end whatever the stage
// is in which the leader is killed.
func TestLeaderEndsInMerge(t *testing.T) {
	for _, phase := range []ring.MergePhase{ring.MergePlanned, ring.MergeCopying, ring.MergeSealed} {
		t.Run(phase.String(), func(t *testing.T) {
			story(t, 5, func(r *rig) {
				var armed atomic.Bool
				seen := make(chan string, 1) // the node that saw the stage first
				for _, m := range r.servers {
					r.start(m.Name, func(c *Config) {
						next := c.OnView
						c.OnView = func(v fsm.View, self ring.Incarnation) {
							if v.Merge != nil && v.Merge.Phase == phase && armed.CompareAndSwap(true, false) {
								seen <- m.Name
							}
							next(v, self)
						}
					})
				}
				r.formed("a", "b", "c", "d", "e")
				joiner := "a"
				if r.leader().name == joiner {
					joiner = "b"
				}
				for _, m := range r.servers {
					if m.Name != joiner {
						r.nodes[m.Name].plane.Programs(1)
					}
				}
				r.await("four in service", patience, r.inService(4))
				armed.Store(true)
				r.nodes[joiner].plane.Programs(1)
				<-seen
				l := r.leader().name
				r.kill(l)
				r.start(l, nil).plane.Programs(1)
				r.await("all in service", 2*patience, r.inService(5))
			})
		})
	}
}
