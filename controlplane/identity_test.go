package controlplane

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestDecideIdentity proves which process may act as a server.
func TestDecideIdentity(t *testing.T) {
	const me, other = 7, 8
	for _, tc := range []struct {
		name    string
		answers []uint64
		own     uint64
		want    string
	}{
		{"nobody to ask", nil, me, ""},
		{"nobody to ask, no answer here either", nil, 0, ""},
		{"nobody to ask, another one answers", nil, other, "another process"},
		{"the others reach this one", []uint64{me, me}, me, ""},
		{"one of them does", []uint64{0, me}, 0, ""},
		{"one of them reaches another one", []uint64{me, other}, me, "another process"},
		{"all reach another one", []uint64{other, other}, me, "another process"},
		{"they reach nobody", []uint64{0, 0}, me, "does not lead here"},
		{"only this one reaches another one", []uint64{me}, other, "another process"},
	} {
		got, other := decideIdentity(me, tc.answers, tc.own, "a:8020")
		if other != strings.Contains(tc.want, "another") || (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// twin starts a second process of the server a, at the address addr.
func (r *rig) twin(addr string) *rigNode {
	return r.start("t", func(c *Config) {
		c.Slave, c.Self = false, r.servers[0]
		c.Self.Addr = addr
	})
}

// TestSecondProcess proves that a second process of a server, on another host
// and with an empty or a copied disk, gets neither its place nor its vote nor
// makes the ring write anything, says why, and takes over within moments once
// the first one is gone and the address leads to it.
func TestSecondProcess(t *testing.T) {
	for _, disk := range []string{"empty", "copied"} {
		t.Run(disk, func(t *testing.T) {
			story(t, 3, func(r *rig) {
				r.startAll()
				r.formed("a", "b", "c")
				if disk == "copied" {
					r.kill("a")
					if err := os.CopyFS(r.dataDir("t"), os.DirFS(r.dataDir("a"))); err != nil {
						t.Fatal(err)
					}
					r.start("a", nil)
					r.formed("a", "b", "c")
				}
				a := r.nodes["a"]
				was, last := a.plane.Status(), r.leader().plane.Status().Raft.LastIndex
				twin := r.twin("t:8020")
				r.await("said", patience, func() bool {
					return strings.Contains(twin.plane.Status().WaitsFor, "another process runs as this server, and is the one that answers at")
				})
				<-time.After(20 * time.Second)
				if is := a.plane.Status(); is.Incarnation != was.Incarnation || is.Raft.Suffrage != "voter" || is.Raft.ID != was.Raft.ID {
					t.Errorf("a was %d %+v and is %d %+v", was.Incarnation, was.Raft, is.Incarnation, is.Raft)
				}
				if is := r.leader().plane.Status().Raft.LastIndex; is > last+10 {
					t.Errorf("the second process cost %d entries", is-last)
				}
				r.kill("a")
				r.net.move("t:8020", "a:8020")
				r.await("took over", patience, func() bool { return twin.plane.incarnation(twin.plane.view()) != 0 && r.allUp("a", "b", "c") })
				r.await("three voters", patience, func() bool { return r.voters(3) })
			})
		})
	}
}

// TestSecondWhileFirstHangs proves that a second process on another host, while
// the first one at the server's address hangs, takes nothing over and says why,
// and that the first one is as before when it goes on.
func TestSecondWhileFirstHangs(t *testing.T) {
	for _, disk := range []string{"empty", "copied"} {
		t.Run(disk, func(t *testing.T) {
			story(t, 3, func(r *rig) {
				r.startAll()
				r.formed("a", "b", "c")
				if disk == "copied" {
					r.kill("a")
					if err := os.CopyFS(r.dataDir("t"), os.DirFS(r.dataDir("a"))); err != nil {
						t.Fatal(err)
					}
					r.start("a", nil)
					r.formed("a", "b", "c")
				}
				was := r.nodes["a"].plane.Status()
				first := r.net.listener("a:8020")
				mute := r.net.listen("a:8020") // to the network a hangs: nobody takes connections
				twin := r.twin("t:8020")
				r.await("said", patience, func() bool {
					why := twin.plane.Status().WaitsFor
					if r.leader() == r.nodes["a"] && strings.Contains(why, "dial rpc to a:8020") {
						return true // who decides is the one that hangs
					}
					return strings.Contains(why, "does not lead") && strings.Contains(why, "answer")
				})
				<-time.After(10 * time.Second)
				if twin.plane.incarnation(twin.plane.view()) != 0 {
					t.Error("the second process was admitted")
				}
				r.net.put("a:8020", first)
				mute.Close()
				r.await("said that the first one is there", patience, func() bool {
					return strings.Contains(twin.plane.Status().WaitsFor, "another process runs as this server")
				})
				r.await("a is UP", patience, func() bool { return r.nodes["a"].plane.incarnation(r.nodes["a"].plane.view()) != 0 })
				if is := r.nodes["a"].plane.Status(); is.Raft.ID != was.Raft.ID || is.Raft.Suffrage != "voter" || is.RingID != was.RingID {
					t.Errorf("a was %+v and is %+v", was.Raft, is.Raft)
				}
			})
		})
	}
}

// TestAddressMoves proves that the process at a server's address is the server:
// when the address comes to lead to a second one that one takes over, the first
// one says why it is out and keeps quiet, neither comes and goes, and the first
// one is back when the address is.
func TestAddressMoves(t *testing.T) {
	for _, disk := range []string{"empty", "copied"} {
		t.Run(disk, func(t *testing.T) {
			story(t, 3, func(r *rig) {
				r.startAll()
				r.formed("a", "b", "c")
				if disk == "copied" {
					r.kill("a")
					if err := os.CopyFS(r.dataDir("t"), os.DirFS(r.dataDir("a"))); err != nil {
						t.Fatal(err)
					}
					r.start("a", nil)
					r.formed("a", "b", "c")
				}
				a, b := r.nodes["a"], r.nodes["b"]
				first := r.net.listener("a:8020")
				twin := r.twin("t:8020")
				r.net.move("t:8020", "a:8020")
				inc := func() uint64 { return uint64(b.plane.view().Server(a.member.ID).Incarnation) }
				r.await("the second one is the server", patience, func() bool { return twin.plane.incarnation(twin.plane.view()) != 0 })
				r.await("the first one says so", patience, func() bool {
					return strings.Contains(a.plane.Status().WaitsFor, "another process runs as this server") ||
						strings.Contains(a.plane.Status().WaitsFor, "no member of the ring any more")
				})
				was := inc()
				<-time.After(30 * time.Second)
				if is := inc(); is != was || twin.plane.incarnation(twin.plane.view()) == 0 {
					t.Errorf("incarnation %d became %d", was, is)
				}
				if disk == "empty" { // the first one's raft id is superseded: it has no way back
					return
				}
				r.kill("t")
				r.net.put("a:8020", first)
				r.await("the first one is back", patience, func() bool { return a.plane.incarnation(a.plane.view()) != 0 && r.allUp("a", "b", "c") })
			})
		})
	}
}

// TestRestoredDisk proves that a server which lost its disk, joined again and
// then got its old disk back says that it is no member any more, and that the
// ring neither admits nor lists it.
func TestRestoredDisk(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill("b")
		if err := os.Rename(r.dataDir("b"), r.dataDir("old")); err != nil {
			t.Fatal(err)
		}
		r.start("b", nil)
		r.formed("a", "b", "c")
		r.await("three voters", patience, func() bool {
			return r.voters(3) && memberIndex(r.leader().plane.clusterOf(), firstRaftID(r.servers[1].ID)) < 0
		})
		r.kill("b")
		r.wipe("b")
		if err := os.Rename(r.dataDir("old"), r.dataDir("b")); err != nil {
			t.Fatal(err)
		}
		r.unknown.Store(uint64(r.servers[1].ID)) // its hello cannot name the present incarnation
		b := r.start("b", nil)
		r.await("said so", patience, func() bool {
			why := b.plane.Status().WaitsFor
			return strings.Contains(why, "no member of the ring any more") && strings.Contains(why, "move the directory away")
		})
		<-time.After(10 * time.Second)
		if r.nodes["a"].up(b.member.ID) {
			t.Error("a process that cannot follow the log is UP")
		}
		r.kill("b")
		r.wipe("b")
		r.unknown.Store(0)
		r.start("b", nil)
		r.formed("a", "b", "c")
	})
}
