package controlplane

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// without returns the servers but for one.
func (r *rig) without(name string) []Member {
	return slices.DeleteFunc(slices.Clone(r.servers), func(m Member) bool { return m.Name == name })
}

// A server that others do not have in their lists is refused by them, and joins
// once they do. A member that their lists lack again stays one: it comes up after
// a restart, and leads a ring with a slave whose list lacks it.
func TestSetServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, 3)
		fewer := func(c *Config) { c.Servers = r.without("c") }
		for _, name := range []string{"a", "b"} {
			r.start(name, fewer)
		}
		r.await("ring of two", time.Minute, func() bool { return r.allUp("a", "b") })
		r.start("c", nil)
		<-time.After(10 * time.Second)
		if r.nodes["a"].up(r.servers[2].ID) {
			t.Fatal("a server that nobody knows was admitted")
		}
		set := func(servers []Member) {
			t.Helper()
			for _, name := range []string{"a", "b"} {
				if err := r.nodes[name].plane.SetServers(servers); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		set(r.servers)
		r.await("ring of three", time.Minute, func() bool { return r.allUp("a", "b", "c") })
		r.await("a vote for c", 5*time.Minute, func() bool { return r.nodes["c"].plane.Status().Raft.Suffrage == "voter" })

		set(r.without("c"))
		r.kill("c")
		r.await("c down", time.Minute, func() bool { return r.allUp("a", "b") })
		r.start("c", nil)
		r.await("c up again", time.Minute, func() bool { return r.allUp("a", "b", "c") })
		for r.leader() == nil || r.leader().name != "c" { // one of the others is gone for a while
			r.await("a leader", time.Minute, func() bool { return r.leader() != nil })
			if name := r.leader().name; name != "c" {
				r.kill(name)
				r.await("another leader", time.Minute, func() bool { return r.leader() != nil })
				r.start(name, fewer)
				r.await("all up", time.Minute, func() bool { return r.allUp("a", "b", "c") })
			}
		}
		st := r.nodes["a"].plane.Status()
		if ring.ID(st.Raft.LeaderID) != r.servers[2].ID || st.Raft.Leader != "c" && st.Raft.Leader != "c:8023" {
			t.Errorf("a shows the leader %s, %v", st.Raft.Leader, st.Raft.LeaderID)
		}
	})
}

// What SetServers does not take leaves all as it was.
func TestSetServersRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, 3)
		a := r.start("a", nil) // which waits for the others
		if err := a.plane.SetServers(r.without("c")); !errors.Is(err, ErrNoRingYet) {
			t.Errorf("before there is a ring: %v", err)
		}
		if err := a.plane.SetServers(r.servers); err != nil {
			t.Errorf("the same servers: %v", err)
		}
		for name, servers := range map[string][]Member{"none": nil, "without itself": r.without("a"), "twice": append(r.without(""), r.servers[1])} {
			if err := a.plane.SetServers(servers); !errors.Is(err, ErrConfig) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !slices.Equal(a.plane.configured(), r.servers) {
			t.Errorf("%+v", a.plane.configured())
		}
	})
}

// A slave whose list lacks the leader joins and follows it.
func TestSlaveLacksLeader(t *testing.T) {
	slaveStory(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		leader := r.leader()
		x := r.start("x", func(c *Config) { c.Servers = r.without(leader.name) })
		r.await("slave follows", patience, func() bool {
			st := x.plane.Status()
			return ring.ID(st.Raft.LeaderID) == leader.member.ID && len(st.Servers) == 3 && len(st.Slaves) == 1 && st.Slaves[0].Up
		})
	})
}
