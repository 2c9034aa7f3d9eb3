package controlplane

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// restartRing is a ring of three in service whose servers say when they are to
// restart, and with whom.
func restartRing(r *rig) (asked chan time.Duration, b ring.ID) {
	asked = make(chan time.Duration, 1)
	for _, m := range r.servers {
		r.start(m.Name, func(c *Config) {
			if m.Name == "b" {
				c.OnRestart = func(hold time.Duration) { asked <- hold }
			}
		})
	}
	r.formed("a", "b", "c")
	r.serve()
	return asked, r.servers[1].ID
}

// leave ends a node in order.
func (r *rig) leave(name string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.nodes[name].plane.Leave(ctx); err != nil {
		r.t.Errorf("leave: %v", err)
	}
	r.kill(name)
}

// waiting returns how many slots wait for a server that restarts, as a node sees it.
func (n *rigNode) waiting() int {
	t, waiting := n.plane.view().Table, 0
	for slot := range t.Base.Slots() {
		if t.WaitsSlot(slot) {
			waiting++
		}
	}
	return waiting
}

// TestPlannedRestart proves that a server is told to restart by whichever node
// is asked, that what it owns waits for it meanwhile, longer than DOWNOUT, and
// that it comes back without any data to copy.
func TestPlannedRestart(t *testing.T) {
	story(t, 3, func(r *rig) {
		asked, b := restartRing(r)
		a := r.nodes["a"]
		base := a.plane.view().Table.Base
		if err := r.nodes["c"].command(fsm.ServerRestart{ID: b, HoldUs: (2 * time.Minute).Microseconds()}); err != nil {
			t.Fatal(err)
		}
		if hold := <-asked; hold != 2*time.Minute {
			t.Errorf("asked for %v", hold)
		}
		r.leave("b")
		begin := time.Now()
		r.await("slots wait", patience, func() bool { return a.waiting() > 0 })
		r.await("DOWNOUT has passed", 2*time.Minute, func() bool { return time.Since(begin) > 90*time.Second })
		if w := strings.Join(a.plane.Status().Warnings, "; "); !strings.Contains(w, "b:8022 restarts, and messages for what it owns wait: for at most 120 s") {
			t.Errorf("warnings: %s", w)
		}
		if n, s := a.waiting(), a.plane.view().Server(b).Status; n == 0 || s != ring.ServiceIn|ring.Down {
			t.Errorf("after 90 s %d slots wait, b is %v", n, s)
		}
		r.start("b", nil)
		r.await("b is back", patience, func() bool { return a.plane.view().Server(b).Status == ring.ServiceIn|ring.Up })
		if v := a.plane.view(); a.waiting() != 0 || v.Merge != nil || !v.Table.Base.Equal(base) || v.Member(b).HoldUs != 0 {
			t.Errorf("after it %d slots wait, merge %+v, %+v", a.waiting(), v.Merge, v.Member(b))
		}
	})
}

// TestRestartIsBounded proves that a server which does not leave stays as it
// is, and that one which does not come back is done without, each after the
// time for the restart.
func TestRestartIsBounded(t *testing.T) {
	story(t, 3, func(r *rig) {
		asked, b := restartRing(r)
		a := r.nodes["a"]
		restart := fsm.ServerRestart{ID: b, HoldUs: (5 * time.Second).Microseconds()}
		for _, leaves := range []bool{false, true} {
			if err := a.command(restart); err != nil {
				t.Fatal(err)
			}
			<-asked
			r.await("a knows", patience, func() bool { return a.plane.view().Member(b).HoldUs > 0 })
			if leaves {
				r.leave("b")
			}
			if took := r.await("the wait is over", patience, func() bool { return a.plane.view().Member(b).HoldUs == 0 }); took < 4*time.Second {
				t.Errorf("leaves %t: over after %v", leaves, took)
			}
			if a.waiting() != 0 {
				t.Errorf("leaves %t: %d slots wait", leaves, a.waiting())
			}
		}
		table := a.plane.view().Table
		for slot := range table.Base.Slots() {
			if table.ActingSlot(slot) < 0 {
				t.Fatalf("nobody acts for slot %d", slot)
			}
		}
	})
}

// TestReplaceServer proves that a server which is to be replaced by one that has
// not started stays in service, down, beyond DOWNOUT, that the status says so,
// and that the new one takes its place as soon as it comes.
func TestReplaceServer(t *testing.T) {
	story(t, 4, func(r *rig) {
		for _, name := range []string{"a", "b", "c"} {
			r.start(name, nil)
			r.await(name+" up", patience, func() bool { return r.leader() != nil || len(r.nodes) < 3 })
		}
		for _, n := range r.nodes {
			n.plane.Programs(1)
		}
		a, b, d := r.nodes["a"], r.servers[1].ID, r.servers[3].ID
		r.await("in service", patience, func() bool {
			v := a.plane.view()
			return v.Table != nil && len(v.Table.Serving()) == 3 && v.Merge == nil && a.plane.view().Server(b).Status == ring.ServiceIn|ring.Up
		})
		if err := a.command(fsm.ServerReplace{Old: b, New: d}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		r.kill("b")
		r.await("DOWNOUT has passed", 2*time.Minute, func() bool { return time.Since(begin) > 90*time.Second })
		if w := strings.Join(a.plane.Status().Warnings, "; "); !strings.Contains(w, "b:8022 is to be replaced by d:8024") || a.plane.view().Server(b).Status != ring.ServiceIn|ring.Down {
			t.Errorf("after 90 s b is %v, warnings: %s", a.plane.view().Server(b).Status, w)
		}
		r.start("d", nil).plane.Programs(1)
		r.await("d has its place", patience, func() bool {
			v := a.plane.view()
			return v.Merge == nil && v.Server(d) != nil && v.Server(d).Status == ring.ServiceIn|ring.Up && v.Server(b).Status == ring.ServiceOut|ring.Down
		})
	})
}

// TestForgetServer proves that only a server that is out of service and down
// can be forgotten, that it leaves raft too, which keeps an odd number of
// voters, and that with an empty disk it may join again.
func TestForgetServer(t *testing.T) {
	story(t, 4, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c", "d")
		r.serve()
		a, c := r.nodes["a"], r.servers[2].ID
		member := func() (voters int, is bool) {
			for _, m := range a.plane.clusterOf() {
				voters += count(suffrage(m) == "voter")
				owner, _ := ownerOf(m.ID)
				is = is || owner == c
			}
			return voters, is
		}
		refused := func(when string) {
			if err := a.command(fsm.ServerForget{ID: c}); !errors.Is(err, fsm.ErrStatusNotAllowed) {
				t.Errorf("%s: %v", when, err)
			}
			if _, is := member(); !is {
				t.Errorf("%s: removed from raft all the same", when)
			}
		}
		refused("in service")
		r.kill("c")
		r.await("c down", patience, func() bool { return !a.up(c) })
		refused("in service and down")
		r.await("c out", 3*time.Minute, func() bool {
			v := a.plane.view()
			return v.Merge == nil && v.Server(c).Status == ring.ServiceOut|ring.Down
		})
		if err := a.command(fsm.ServerForget{ID: c}); err != nil {
			t.Fatal(err)
		}
		r.await("the ring does not list it", patience, func() bool { return a.plane.view().Server(c) == nil })
		r.await("three voters without c", patience, func() bool { voters, is := member(); return voters == 3 && !is })
		if err := a.command(fsm.ServerForget{ID: c}); !errors.Is(err, fsm.ErrUnknownNode) {
			t.Errorf("again: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(r.dir, "c")); err != nil {
			t.Fatal(err)
		}
		r.start("c", nil)
		r.await("c joins again", patience, func() bool { _, is := member(); return is && a.up(c) })
	})
}

// TestForgetGoesOn proves that the next leader forgets a server that an operator
// wanted to be forgotten, wherever the one before it had got to.
func TestForgetGoesOn(t *testing.T) {
	for _, left := range []bool{false, true} { // raft, when its leader dies
		story(t, 4, func(r *rig) {
			r.startAll()
			r.formed("a", "b", "c", "d")
			r.serve()
			last := r.servers[2]
			if r.leader().name == last.Name {
				last = r.servers[0]
			}
			r.kill(last.Name)
			member := func(n *rigNode) (voters int, ids []raft.ServerID) {
				for _, m := range n.plane.clusterOf() {
					voters += count(suffrage(m) == "voter")
					if owner, _ := ownerOf(m.ID); owner == last.ID {
						ids = append(ids, m.ID)
					}
				}
				return voters, ids
			}
			r.await("it is out, and others vote", 3*time.Minute, func() bool {
				leader := r.leader()
				voters, _ := member(leader)
				v := leader.plane.view()
				return v.Merge == nil && v.Server(last.ID).Status == ring.ServiceOut|ring.Down && voters == 3
			})
			leader := r.leader()
			mark := fsm.Command{Body: fsm.ServerForget{ID: last.ID}}
			if res, err := leader.plane.apply(context.Background(), mark); err != nil || res.Err != nil {
				t.Fatal(err, res.Err)
			}
			if _, ids := member(leader); left {
				for _, id := range ids {
					if err := leader.plane.node.Load().RemoveServer(id, 0, 0).Error(); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.kill(leader.name) // nearly always before it looks itself, which it does every 500 ms
			r.await("the next leader forgets it", patience, func() bool {
				next := r.leader()
				if next == nil {
					return false
				}
				_, ids := member(next)
				return next.plane.view().Server(last.ID) == nil && len(ids) == 0
			})
		})
	}
}

// TestForgetTwo proves that two gone servers of five are forgotten though nobody
// waits for the first one, and that the one of them which is back meanwhile is, too.
func TestForgetTwo(t *testing.T) {
	story(t, 5, func(r *rig) {
		r.startAll()
		r.formed(names(r)...)
		leader := r.leader()
		var gone []Member
		for _, m := range r.servers {
			if m.ID != leader.member.ID && len(gone) < 2 {
				gone = append(gone, m)
			}
		}
		for _, m := range gone {
			r.kill(m.Name)
		}
		r.await("they are down", patience, func() bool { return !leader.up(gone[0].ID) && !leader.up(gone[1].ID) })
		for _, m := range gone {
			if err := leader.command(fsm.ServerForget{ID: m.ID}); err != nil {
				t.Fatal(err)
			}
		}
		r.start(gone[1].Name, nil)
		took := r.await("both are forgotten", patience, func() bool {
			v := leader.plane.view()
			return v.Server(gone[0].ID) == nil && v.Server(gone[1].ID) == nil
		})
		if took > 3*time.Second {
			t.Errorf("that took %v", took)
		}
		r.await("three voters", patience, func() bool { return leader.plane.Status().Quorum.Voters == 3 })
	})
}

// TestForgetWhoComesBack proves that a server which is started while it is being
// forgotten is forgotten all the same, says so, and joins anew with an empty disk.
func TestForgetWhoComesBack(t *testing.T) {
	story(t, 4, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c", "d")
		r.serve()
		last := r.servers[2]
		if r.leader().name == last.Name {
			last = r.servers[0]
		}
		r.kill(last.Name)
		r.await("it is out", 3*time.Minute, func() bool {
			v := r.leader().plane.view()
			return v.Merge == nil && v.Server(last.ID).Status == ring.ServiceOut|ring.Down
		})
		leader := r.leader()
		mark := fsm.Command{Body: fsm.ServerForget{ID: last.ID}}
		if res, err := leader.plane.apply(context.Background(), mark); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
		r.kill(leader.name) // before it has begun, so that the server is there to see it
		back := r.start(last.Name, nil)
		r.await("it says that it was removed", patience, func() bool {
			return strings.Contains(back.plane.Status().WaitsFor, "no member of the ring any more")
		})
		if v := r.leader().plane.view(); v.Server(last.ID) != nil {
			t.Errorf("it is listed: %v", v.Server(last.ID).Status)
		}
		r.kill(last.Name)
		if err := os.RemoveAll(filepath.Join(r.dir, last.Name)); err != nil {
			t.Fatal(err)
		}
		r.start(last.Name, nil)
		r.await("it joins anew", patience, func() bool { return r.leader() != nil && r.leader().up(last.ID) })
	})
}

// TestForgetWhileItStarts proves that a server which is forgotten between its wish to
// come up and the entry for that is not listed again: it is being forgotten, or no
// member of raft any more.
func TestForgetWhileItStarts(t *testing.T) {
	story(t, 3, func(r *rig) {
		type forgets struct{}
		for _, m := range r.servers {
			r.start(m.Name, func(c *Config) {
				dial := c.Dial
				c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
					if forget, ok := ctx.Value(forgets{}).(func()); ok {
						forget()
					}
					return dial(ctx, addr)
				}
			})
		}
		r.formed("a", "b", "c")
		last := r.servers[2]
		if r.leader().name == last.Name {
			last = r.servers[0]
		}
		leader := r.leader()
		r.kill(last.Name)
		r.await("it is down", patience, func() bool { return !leader.up(last.ID) })
		r.prepare = func(p *Plane) { p.leaving = true } // it does not come up by itself
		starts := r.start(last.Name, nil).plane
		r.await("it knows the ring", patience, func() bool { return starts.view().Server(last.ID) != nil })

		up, err := fsm.Encode(fsm.Command{Body: fsm.ServerUp{ID: last.ID, Server: last.Identity, Addr: last.Addr, Boot: starts.boot}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.WithValue(context.Background(), forgets{}, func() {
			if err := leader.command(fsm.ServerForget{ID: last.ID}); err != nil {
				t.Error(err)
			}
		})
		resp := leader.plane.handle(ctx, starts.request(opPropose, proposeBody{Command: up}))
		if err := resp.err(); !errors.Is(err, ErrRefused) ||
			!strings.Contains(err.Error(), "is no member") && !strings.Contains(err.Error(), "is being forgotten") {
			t.Errorf("it comes up: %v", err)
		}
		r.await("the ring does not list it", patience, func() bool { return leader.plane.view().Server(last.ID) == nil })
	})
}
