package controlplane

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
)

// heirs returns who follows the leader, in the order in which it would hand its lead over.
func (r *rig) heirs(leader *rigNode) (names []string) {
	n := leader.plane
	for _, s := range heirsOf(n.clusterOf(), *n.raftID.Load(), n.node.Load().Contacts()) {
		owner, _ := ownerOf(s.ID)
		for _, m := range r.servers {
			if m.ID == owner {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

// leaves has the leader leave, which is DOWN already, so that nothing comes into the
// log by that, and checks that another one leads within limit.
func (r *rig) leaves(leader *rigNode, limit time.Duration) {
	r.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*leaveTimeout)
	defer cancel()
	if err := leader.plane.Leave(ctx); err != nil {
		r.t.Errorf("leave: %v", err)
	}
	if took := time.Since(began); leader.plane.leads() || took > limit {
		r.t.Errorf("it leads: %t, after %v", leader.plane.leads(), took)
	}
	r.await("another leader", patience, func() bool { return r.leader() != nil && r.leader() != leader })
}

// quiet makes a ring of five whose leader is DOWN, and in which nothing happens.
func (r *rig) quiet() *rigNode {
	r.startAll()
	r.formed(names(r)...)
	leader := r.leader()
	leader.plane.mu.Lock()
	leader.plane.leaving = true
	leader.plane.mu.Unlock()
	v := leader.plane.view()
	if _, err := leader.plane.proposeHere(r.t.Context(), fsm.NodeDown{ID: leader.member.ID, Incarnation: leader.plane.incarnation(v)}); err != nil {
		r.t.Fatal(err)
	}
	r.blind.Store(true)
	<-time.After(time.Second)
	return leader
}

// TestHandOverToTheLiving proves that a leader that leaves a quiet ring hands its lead
// to none of two dead voters, though these have the whole log.
func TestHandOverToTheLiving(t *testing.T) {
	story(t, 5, func(r *rig) {
		leader := r.quiet()
		var dead []string
		for _, m := range leader.plane.clusterOf() { // in the order in which raft looks
			owner, _ := ownerOf(m.ID)
			for _, s := range r.servers {
				if s.ID == owner && owner != leader.member.ID && len(dead) < 2 {
					dead = append(dead, s.Name)
				}
			}
		}
		r.die(dead...)
		<-time.After(time.Second)
		r.leaves(leader, 100*time.Millisecond)
	})
}

// TestHandOverGoesOn proves that a leader that leaves tries the next voters, within
// its time, where those that were heard last died just then.
func TestHandOverGoesOn(t *testing.T) {
	story(t, 5, func(r *rig) {
		leader := r.quiet()
		for _, name := range r.heirs(leader)[:2] {
			r.nodes[name].plane.stream.Load().Hold(true)
		}
		r.leaves(leader, leaveTimeout)
	})
}

// TestHeirs proves who may take the lead, and in which order.
func TestHeirs(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	cluster := []raft.Server{{ID: "a"}, {ID: "self"}, {ID: "never"}, {ID: "standby", Suffrage: raft.Nonvoter}, {ID: "b"}, {ID: "c"}}
	heard := map[raft.ServerID]time.Time{"a": at(1), "self": at(9), "standby": at(9), "b": at(3), "c": at(2)}
	got := ""
	for _, s := range heirsOf(cluster, "self", heard) {
		got += string(s.ID)
	}
	if got != "bca" {
		t.Errorf("got %q", got)
	}
}
