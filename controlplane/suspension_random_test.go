package controlplane

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// TestHoldAtRandom proves that no server gives its program anything by a table
// while a later one says that it has no program, whatever happens to the
// programs, the servers and the lead; and that all serve in the end.
func TestHoldAtRandom(t *testing.T) {
	for seed := range uint64(8) {
		story(t, 3, func(r *rig) { holdAtRandom(r, rand.New(rand.NewPCG(seed, 0))) })
	}
}

const grace = time.Second // SUSPENDGRACE

// givers are the data planes of a ring.
type givers struct {
	r   *rig
	mu  sync.Mutex // guards what follows
	all []*giver
}

// giver is a data plane that gives messages, or does not.
type giver struct {
	member      Member
	node        *rigNode // nil: it does not run
	programs    int
	held        bool
	view        fsm.View // as shown last
	incarnation ring.Incarnation
}

// gives reports whether it would give a program what is sent by hash.
func (g *giver) gives() bool {
	s := g.view.Server(g.member.ID)
	return g.node != nil && g.programs > 0 && !g.held && g.incarnation != 0 && s.Status.Ring() == ring.ServiceIn && !s.Status.Suspended()
}

// start starts a server that does not run.
func (a *givers) start(g *giver) {
	n := a.r.start(g.member.Name, func(c *Config) {
		take := c.OnView
		c.OnView = func(v fsm.View, self ring.Incarnation) {
			a.shown(g, v, self)
			take(v, self)
		}
		c.Hold = func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			g.held = g.held || g.programs == 0
			return g.programs == 0
		}
		c.Release = func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			g.held = false
		}
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	g.node = n
}

// shown notes what one of them is shown, and looks at all the others: who is
// suspended by it must not give anything by an older one.
func (a *givers) shown(to *giver, v fsm.View, self ring.Incarnation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	to.view, to.incarnation = v, self
	for _, g := range a.all {
		s := v.Server(g.member.ID)
		if s != nil && s.Status.Suspended() && s.Incarnation == g.incarnation && g.gives() && g.view.Index < v.Index {
			a.r.t.Errorf("%s shows %s suspended at %d, which gives by %d", to.member.Name, g.member.Name, v.Index, g.view.Index)
		}
	}
}

// attached sets how many programs there are.
func (a *givers) attached(g *giver, n int) {
	a.mu.Lock()
	g.programs = n
	a.mu.Unlock()
	g.node.plane.Programs(n)
}

// one does something to one of them.
func (a *givers) one(g *giver, rnd *rand.Rand) {
	if g.node == nil {
		a.start(g)
		return
	}
	lead := a.r.leader()
	switch k := rnd.IntN(20); {
	case k < 3 && lead != nil: // who leads is cut off when it is told
		a.attached(g, 0)
		<-time.After(grace - time.Duration(rnd.Int64N(int64(20*time.Millisecond))))
		s := lead.plane.stream.Load()
		s.Hold(true)
		<-time.After(time.Duration(rnd.Int64N(int64(200 * time.Millisecond))))
		a.attached(g, 1)
		<-time.After(time.Duration(rnd.Int64N(int64(400 * time.Millisecond))))
		s.Hold(false)
	case k < 7:
		a.attached(g, 0)
	case k < 14:
		a.attached(g, 1)
	case k < 16:
		a.r.kill(g.member.Name)
		a.mu.Lock()
		*g = giver{member: g.member}
		a.mu.Unlock()
	default:
		if s := g.node.plane.stream.Load(); s != nil {
			s.Hold(k < 18) // cut off from raft's others, or not any more
		}
	}
}

func holdAtRandom(r *rig, rnd *rand.Rand) {
	a := &givers{r: r}
	for _, m := range r.servers {
		a.all = append(a.all, &giver{member: m})
	}
	for _, g := range a.all {
		a.start(g)
		a.attached(g, 1)
	}
	pauses := []time.Duration{20 * time.Millisecond, 300 * time.Millisecond, 2 * grace, 6 * grace}
	for range 40 {
		g := a.all[rnd.IntN(3)]
		if l := r.leader(); l != nil && rnd.IntN(3) == 0 {
			g = a.all[slices.IndexFunc(a.all, func(g *giver) bool { return g.node == l })]
		}
		a.one(g, rnd)
		pause := time.Duration(rnd.Int64N(int64(pauses[rnd.IntN(len(pauses))])))
		if rnd.IntN(4) == 0 {
			pause = grace - 10*time.Millisecond + time.Duration(rnd.IntN(30))*time.Millisecond
		}
		<-time.After(pause)
	}
	for _, g := range a.all {
		if g.node == nil {
			a.start(g)
		}
		if s := g.node.plane.stream.Load(); s != nil {
			s.Hold(false)
		}
		a.attached(g, 1)
	}
	r.await("all serve", 4*patience, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !slices.ContainsFunc(a.all, func(g *giver) bool { return !g.gives() })
	})
}
