package controlplane

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// noteBook is what the disk of a server has about stand-ins; it outlives the server.
type noteBook struct {
	mu    sync.Mutex // guards what follows
	notes []ring.StandIn
	asked int // by leaders
}

func (b *noteBook) read(collect bool) []ring.StandIn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if collect {
		b.asked++
	}
	return slices.Clone(b.notes)
}

func (b *noteBook) forget(n ring.StandIn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes = slices.DeleteFunc(b.notes, func(o ring.StandIn) bool { return o == n })
}

// write notes that the server stands in for another one, as the view of some
// node shows that.
func (b *noteBook) write(v fsm.View, of ring.ID) ring.StandIn {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := ring.StandIn{For: of, Incarnation: v.Server(of).Incarnation, RingID: v.RingID, Epoch: v.Table.Epoch}
	b.notes = append(b.notes, n)
	return n
}

func (b *noteBook) empty() bool { return len(b.read(false)) == 0 }

// standInRing is a ring of so many servers in service, each of which has a note
// book; merges wait for their operator.
func standInRing(t *testing.T, n int, run func(r *rig, books map[string]*noteBook)) {
	story(t, n, func(r *rig) {
		r.params.Replica = n - 1 // everybody owns every slot
		books := make(map[string]*noteBook)
		for _, m := range r.servers {
			books[m.Name] = new(noteBook)
			r.startNoting(m.Name, books)
		}
		r.formed(names(r)...)
		r.serve()
		if err := r.leader().command(fsm.SuspendMerge{On: true}); err != nil {
			t.Fatal(err)
		}
		run(r, books)
	})
}

func names(r *rig) (all []string) {
	for _, m := range r.servers {
		all = append(all, m.Name)
	}
	return all
}

// startNoting starts a server with a program and its note book.
func (r *rig) startNoting(name string, books map[string]*noteBook) *rigNode {
	n := r.start(name, func(c *Config) {
		c.StandIns, c.ForgetStandIn, c.AwaitStandIns = books[name].read, books[name].forget, true
	})
	n.plane.Programs(1)
	return n
}

// pending reports whether all running nodes see exactly these servers out of sync.
func (r *rig) pending(names ...string) bool {
	for _, n := range r.nodes {
		for _, m := range r.servers {
			s := n.plane.view().Server(m.ID)
			if s == nil || (s.Status.Operate() == ring.Pending) != slices.Contains(names, m.Name) {
				return false
			}
		}
	}
	return true
}

// neverActs fails if a server that came back without data has acted at any time
// for a slot that others own too.
func (r *rig) neverActs(n *rigNode) {
	r.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, v := range n.views {
		if n.incs[i] == 0 {
			continue
		}
		for slot := range v.Table.Base.Slots() {
			if a := v.Table.ActingSlot(slot); a >= 0 && v.Table.Servers[a].ID == n.member.ID {
				r.t.Fatalf("%s acts for slot %d in view %d", n.name, slot, v.Index)
			}
		}
	}
}

// TestStoodForComesBackWithoutData proves that a server that was stood in for is
// out of sync from its very first admitted moment, whoever leads and whoever was
// restarted in between, and that the note goes only then.
func TestStoodForComesBackWithoutData(t *testing.T) {
	a, b := func(r *rig) ring.ID { return r.servers[0].ID }, "b"
	t.Run("the only voter of two", func(t *testing.T) {
		standInRing(t, 2, func(r *rig, books map[string]*noteBook) {
			r.kill("a")
			books[b].write(r.nodes[b].plane.view(), a(r))
			n := r.startNoting("a", books)
			r.await("a is back", patience, func() bool { return r.allUp("a", b) && r.pending("a") })
			r.await("the note goes", patience, books[b].empty)
			r.neverActs(n)
		})
	})
	t.Run("the stand-in was restarted", func(t *testing.T) {
		standInRing(t, 2, func(r *rig, books map[string]*noteBook) {
			r.kill("a")
			books[b].write(r.nodes[b].plane.view(), a(r))
			r.kill(b)
			r.startNoting(b, books)
			begin := time.Now()
			r.await("it is not admitted, and forgets nothing", patience, func() bool { return time.Since(begin) > 10*time.Second })
			if books[b].empty() {
				t.Fatal("the note is gone")
			}
			n := r.startNoting("a", books)
			r.await("a is back", patience, func() bool { return r.allUp("a", b) && r.pending("a") })
			r.await("the note goes", patience, books[b].empty)
			r.neverActs(n)
		})
	})
	t.Run("the stand-in leads", func(t *testing.T) {
		standInRing(t, 3, func(r *rig, books map[string]*noteBook) {
			r.kill("a")
			r.kill("c")
			for _, id := range []ring.ID{r.servers[0].ID, r.servers[2].ID} {
				books[b].write(r.nodes[b].plane.view(), id)
			}
			r.startNoting("c", books)
			r.await("c is back", patience, func() bool { return r.allUp(b, "c") })
			r.startNoting("a", books)
			r.await("both lack data", patience, func() bool { return r.allUp("a", b, "c") && r.pending("a", "c") })
			r.await("the notes go", patience, books[b].empty)
		})
	})
}

// TestStandInLosesToWhoLives proves that a server that stood in for one that
// lives on is itself out of sync: for one that was never away, and for one that
// was admitted again before its note was known.
func TestStandInLosesToWhoLives(t *testing.T) {
	t.Run("never away", func(t *testing.T) {
		standInRing(t, 3, func(r *rig, books map[string]*noteBook) {
			books["b"].write(r.nodes["b"].plane.view(), r.servers[0].ID)
			r.await("b lacks data", patience, func() bool { return r.pending("b") })
			r.await("the note goes", patience, books["b"].empty)
		})
	})
	t.Run("an older incarnation", func(t *testing.T) {
		standInRing(t, 3, func(r *rig, books map[string]*noteBook) {
			old := r.nodes["b"].plane.view()
			r.kill("a")
			r.startNoting("a", books)
			r.await("a is up anew", patience, func() bool {
				return r.allUp("a", "b", "c") && r.nodes["b"].plane.view().Server(r.servers[0].ID).Incarnation != old.Server(r.servers[0].ID).Incarnation
			})
			if !r.pending() {
				t.Skip("a was declared DOWN on the way") // then it has nothing to win with
			}
			books["b"].write(old, r.servers[0].ID)
			r.await("b lacks data", patience, func() bool { return r.pending("b") })
			r.await("the note goes", patience, books["b"].empty)
		})
	})
}

// TestForeignNotesAreForgotten proves that a note about another ring, or a
// server that is no member, is forgotten and changes nothing.
func TestForeignNotesAreForgotten(t *testing.T) {
	standInRing(t, 2, func(r *rig, books map[string]*noteBook) {
		n := books["b"].write(r.nodes["b"].plane.view(), r.servers[0].ID)
		books["b"].forget(n)
		other, gone := n, n
		other.RingID++
		gone.For = 999
		books["b"].notes = []ring.StandIn{other, gone}
		r.nodes["b"].plane.applied.raise()
		if err := r.leader().command(fsm.SuspendMerge{}); err != nil { // a new view
			t.Fatal(err)
		}
		r.await("the notes go", patience, books["b"].empty)
		if !r.pending() {
			t.Error("somebody is out of sync")
		}
	})
}

// TestStartWaitsForNotes proves that a start waits for the notes of servers that
// are UP and do not answer, for a while, if that is configured.
func TestStartWaitsForNotes(t *testing.T) {
	p := &Plane{times: Times{AwaitStandIns: true}, log: testLog("x"), collecting: make(map[ring.ID]collection)}
	up, now := fsm.ServerUp{ID: 7, Boot: 1}, time.Unix(1000, 0)
	for _, tc := range []struct {
		after time.Duration
		boot  uint64
		want  bool
	}{{0, 1, true}, {standInsWait - 1, 1, true}, {standInsWait, 1, false}, {standInsWait, 2, true}, {2*standInsWait - 1, 2, true}, {2 * standInsWait, 2, false}} {
		up.Boot = tc.boot
		if got := p.awaitsStandIns(up, []string{"b"}, now.Add(tc.after)); got != tc.want {
			t.Errorf("boot %d after %v: waits %t", tc.boot, tc.after, got)
		}
	}
	p.times.AwaitStandIns = false
	if p.awaitsStandIns(up, nil, now) {
		t.Error("it waits though nobody stands in")
	}
}

// TestNeverDoesNotHoldStartsUp proves that where nobody is to stand in, a server
// that answers nothing holds the start of another one up for no more than a moment.
func TestNeverDoesNotHoldStartsUp(t *testing.T) {
	standInRing(t, 3, func(r *rig, _ map[string]*noteBook) {
		p := r.leader().plane
		others := slices.DeleteFunc(slices.Clone(r.servers), func(m Member) bool { return m.ID == p.cfg.Self.ID })
		p.mu.Lock()
		p.times.AwaitStandIns = false
		p.mu.Unlock()
		r.kill(others[0].Name)
		r.silence(true, others[0].Name)
		begin := time.Now()
		err := p.collectStandIns(context.Background(), fsm.ServerUp{ID: others[1].ID, Boot: 99})
		if took := time.Since(begin); err != nil || took < standInsGlance || took > 300*time.Millisecond {
			t.Errorf("held up for %v, error %v", took, err)
		}
	})
}

// TestStandInsConfig proves that half of what notes need is refused.
func TestStandInsConfig(t *testing.T) {
	c := Config{Self: Member{ID: 1}, Servers: []Member{{ID: 1, Addr: "a:1"}}, StandIns: new(noteBook).read}
	if _, err := c.withDefaults(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "ForgetStandIn") {
		t.Errorf("got %v", err)
	}
}
