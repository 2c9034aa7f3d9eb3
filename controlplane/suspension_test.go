package controlplane

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// holder is the part of a data plane that holds: it writes down what it was
// asked and shown, one word for each change.
type holder struct {
	node *rigNode
	id   ring.ID

	mu       sync.Mutex // guards what follows
	programs int
	held     bool
	words    []string
}

// startHolder starts a server with a holder.
func (r *rig) startHolder(name string) *holder {
	h := &holder{}
	h.node = r.start(name, func(c *Config) {
		h.id = c.Self.ID
		take := c.OnView
		c.OnView = func(v fsm.View, self ring.Incarnation) {
			h.shown(v, self)
			take(v, self)
		}
		c.Hold, c.Release = h.hold, h.release
	})
	return h
}

func (h *holder) hold() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.programs > 0 {
		return false
	}
	if !h.held {
		h.words = append(h.words, "hold")
	}
	h.held = true
	return true
}

func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	h.words = append(h.words, "release")
}

func (h *holder) shown(v fsm.View, self ring.Incarnation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	word := "away"
	if s := v.Server(h.id); s != nil && self != 0 {
		word = map[bool]string{true: "suspended", false: "serving"}[s.Status.Suspended()]
	}
	last := ""
	for _, w := range slices.Backward(h.words) {
		if w != "hold" && w != "release" {
			last = w
			break
		}
	}
	if word != last {
		h.words = append(h.words, word)
	}
}

// attached tells both planes how many programs there are.
func (h *holder) attached(n int) {
	h.mu.Lock()
	h.programs = n
	h.mu.Unlock()
	h.node.plane.Programs(n)
}

// since returns what was written down and forgets it.
func (h *holder) since() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.words
	h.words = nil
	return w
}

func (h *holder) state() (held, serving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.node.plane.view().Server(h.id)
	return h.held, s != nil && s.Status == ring.ServiceIn|ring.Up
}

// threeHolders starts a ring of three servers with a program each.
func threeHolders(r *rig) map[string]*holder {
	all := make(map[string]*holder)
	for _, m := range r.servers {
		all[m.Name] = r.startHolder(m.Name)
	}
	r.formed("a", "b", "c")
	for _, h := range all {
		h.attached(1)
	}
	r.await("all in service", patience, func() bool {
		return !slices.ContainsFunc([]string{"a", "b", "c"}, func(n string) bool { _, serving := all[n].state(); return !serving })
	})
	for _, h := range all {
		h.since()
	}
	return all
}

// Proves that the data plane holds before the ring can know that the server has
// no program, and until it has been shown that it does.
func TestHoldAroundSuspension(t *testing.T) {
	story(t, 3, func(r *rig) {
		h := threeHolders(r)["b"]
		h.attached(0)
		r.await("suspended", patience, func() bool { held, serving := h.state(); return !serving && !held })
		h.attached(1)
		r.await("serving", patience, func() bool { _, serving := h.state(); return serving })
		<-time.After(time.Second)
		if got, want := h.since(), []string{"hold", "suspended", "release", "serving"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// Proves that nothing is held for long where no leader has heard anything: a
// server without quorum serves the program that comes.
func TestHoldWithoutLeader(t *testing.T) {
	story(t, 3, func(r *rig) {
		h := threeHolders(r)["b"]
		r.kill("a")
		r.kill("c")
		<-time.After(3 * time.Second)
		h.attached(0)
		r.await("held", patience, func() bool { held, _ := h.state(); return held })
		h.attached(1)
		r.await("released", 100*time.Millisecond, func() bool { held, _ := h.state(); return !held })
		if got := h.since(); slices.Contains(got, "suspended") {
			t.Errorf("%v", got)
		}
	})
}

// Proves that a server that told a leader, which lost its majority before it
// could answer, holds until there is a majority again, whatever became of it.
func TestHoldOfUnsettledReport(t *testing.T) {
	story(t, 3, func(r *rig) {
		all := threeHolders(r)
		n := r.leader()
		h := all[n.name]
		h.attached(0)
		<-time.After(990 * time.Millisecond) // almost SUSPENDGRACE
		var others []string
		for name := range all {
			if name != n.name {
				others = append(others, name)
				r.nodes[name].stop()
			}
		}
		<-time.After(20 * time.Millisecond) // it still leads
		n.plane.reports.raise()
		r.await("held", patience, func() bool { held, _ := h.state(); return held })
		<-time.After(time.Second)
		h.attached(1)
		<-time.After(20 * time.Second)
		says := func(text string) bool { return strings.Contains(strings.Join(n.plane.Status().Warnings, "\n"), text) }
		if !says(holdText) || says(holdOver) {
			t.Errorf("without majority the status says %q", n.plane.Status().Warnings)
		}
		n.plane.mu.Lock()
		n.plane.foreign = true // as if the others had answered with another ring
		n.plane.mu.Unlock()
		if n.plane.noteHold(true); !says(holdText + holdOver) {
			t.Errorf("with the others of another ring the status says %q", n.plane.Status().Warnings)
		}
		if got, want := h.since(), []string{"hold"}; !slices.Equal(got, want) {
			t.Errorf("without majority: %v, want %v", got, want)
		}
		for _, name := range others {
			r.kill(name) // waits for its end
			r.start(name, nil)
		}
		r.await("serving and not holding", patience, func() bool { held, serving := h.state(); return serving && !held })
		<-time.After(5 * time.Second)
		if says(holdText) {
			t.Errorf("after it the status says %q", n.plane.Status().Warnings)
		}
		got := h.since()
		if i, j := slices.Index(got, "suspended"), slices.Index(got, "release"); j < 0 || i > j {
			t.Errorf("%v: suspended after the release", got)
		}
	})
}

// Proves that a report that is in no log changes nothing of what is held: not
// when a leader refuses to write it, nor when there is none.
func TestHoldOfReportThatIsInNoLog(t *testing.T) {
	story(t, 3, func(r *rig) {
		all := threeHolders(r)
		var n, other *rigNode
		for _, h := range all {
			if h.node != r.leader() {
				n, other = h.node, n
			}
		}
		all[n.name].attached(0)
		b := fsm.ProgramsChanged{ID: other.member.ID, Incarnation: n.plane.incarnation(n.plane.view())}
		report := func(what string, before suspension) {
			s := before
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			if err := s.report(ctx, n.plane, b); err == nil || s != before {
				t.Errorf("%s: %v, %+v after %+v", what, err, s, before)
			}
		}
		report("refused", suspension{})
		for name := range all {
			if name != n.name {
				r.kill(name)
			}
		}
		r.await("no leader", patience, func() bool { _, addr := n.plane.leader(); return addr == "" })
		b.ID = n.member.ID
		report("no leader", suspension{})
		report("no leader, settled before", suspension{held: true, incarnation: 1, settledAt: 2})
		report("no leader, unsettled before", suspension{held: true, incarnation: 1, warned: true})
	})
}
