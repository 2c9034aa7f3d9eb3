package controlplane

import (
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// die ends servers at the same moment, for whom raft reaches nobody any more.
func (r *rig) die(names ...string) {
	for _, name := range names {
		r.nodes[name].plane.stream.Load().Hold(true)
		r.nodes[name].stop()
	}
	for _, name := range names {
		r.kill(name)
	}
}

// twoOfFive makes a ring of five in service, three of which are dead and counted as
// UP, since the other two cannot decide. Returns is the first one of these in
// the ring, and lacks an entry, so that it will not lead.
func (r *rig) twoOfFive() (returns Member, dead []Member) {
	r.t.Helper()
	r.startAll()
	r.formed(names(r)...)
	r.serve()
	leader := r.leader().member.ID
	for _, m := range r.servers {
		if m.ID != leader && len(dead) < 3 {
			dead = append(dead, m)
		}
	}
	r.blind.Store(true)
	r.die(dead[0].Name)
	if err := r.leader().command(fsm.SuspendMerge{On: true}); err != nil {
		r.t.Fatal(err)
	}
	r.die(dead[1].Name, dead[2].Name)
	r.await("nobody leads", patience, func() bool { return r.leader() == nil })
	r.blind.Store(false)
	<-time.After(patience) // links have told that all three refuse
	r.blind.Store(true)
	for _, n := range r.nodes {
		if !n.up(dead[0].ID) || !n.up(dead[1].ID) || !n.up(dead[2].ID) {
			r.t.Fatal("somebody was declared DOWN")
		}
	}
	return dead[0], dead[1:]
}

// TestWhoReturnsIsNotDown proves that when one of three dead servers of five returns,
// and with it the majority, only the other two are declared DOWN, and at once, though the
// links of who leads have only told of before: who was declared DOWN first would wait for the data of who was last.
func TestWhoReturnsIsNotDown(t *testing.T) {
	story(t, 5, func(r *rig) {
		back, dead := r.twoOfFive()
		before := uint64(0)
		for _, n := range r.nodes {
			before = max(before, n.plane.view().Index)
		}
		r.start(back.Name, nil).plane.Programs(1)
		r.await("a leader", patience, func() bool { return r.leader() != nil })
		leader := r.leader()
		took := r.await("the dead are down", patience, func() bool { return !leader.up(dead[0].ID) && !leader.up(dead[1].ID) })
		if took > outdatedTimeout {
			t.Errorf("that took %v", took)
		}
		r.await("it is back", patience, func() bool {
			n := r.nodes[back.Name].plane
			return n.incarnation(n.view()) != 0
		})
		r.blind.Store(false)
		<-time.After(patience)
		leader.mu.Lock()
		defer leader.mu.Unlock()
		for _, v := range leader.views {
			if s := v.Server(back.ID); v.Index > before && (s.Status.Live() != ring.Up || s.Status.Operate() == ring.Pending) {
				t.Fatalf("in view %d it is %v", v.Index, s.Status)
			}
		}
	})
}

// TestWhoAnswersAndIsNotAdmitted proves that a server that answers and does not come
// up is DOWN after all, though no link tells anything new.
func TestWhoAnswersAndIsNotAdmitted(t *testing.T) {
	story(t, 5, func(r *rig) {
		back, _ := r.twoOfFive()
		r.prepare = func(p *Plane) { p.leaving = true }
		r.start(back.Name, nil)
		r.await("a leader", patience, func() bool { return r.leader() != nil })
		leader := r.leader()
		took := r.await("it is down", patience, func() bool { return !leader.up(back.ID) })
		if took < settleTime-judgeTick || took > settleTime+time.Second {
			t.Errorf("that took %v", took)
		}
	})
}
