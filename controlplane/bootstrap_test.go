package controlplane

import (
	"strings"
	"testing"
	"time"
)

// bootstrap is a start with --bootstrap.
func bootstrap(c *Config) { c.Bootstrap = true }

// TestBootstrap proves that --bootstrap starts a ring of one where nobody
// answers, that servers that wait join it, that three of them all vote in the
// end, and that with --bootstrap again it is still the same ring.
func TestBootstrap(t *testing.T) {
	story(t, 3, func(r *rig) {
		b := r.start("b", bootstrap)
		took := r.await("ring of one", patience, func() bool { return r.allUp("b") && b.plane.leading.Load() })
		if took > 3*time.Second {
			t.Errorf("the ring of one took %v", took)
		}
		id := b.plane.Status().RingID
		r.start("a", nil)
		r.await("two are a ring with one voter", patience, func() bool {
			return r.allUp("a", "b") && b.plane.Status().Quorum.Voters == 1
		})
		r.start("c", nil)
		r.await("three voters", patience, func() bool { return r.allUp("a", "b", "c") && r.voters(3) })
		r.kill("b")
		r.start("b", bootstrap)
		r.formed("a", "b", "c")
		for name, n := range r.nodes {
			if st := n.plane.Status(); st.RingID != id || id == 0 || st.Raft.Suffrage != "voter" {
				t.Errorf("%s: ring %v, want %v, raft %+v", name, st.RingID, id, st.Raft)
			}
		}
	})
}

// TestBootstrapJoins proves that --bootstrap joins the ring that somebody answers with.
func TestBootstrapJoins(t *testing.T) {
	story(t, 4, func(r *rig) {
		for _, m := range r.servers[:3] {
			r.start(m.Name, nil)
		}
		r.formed("a", "b", "c")
		d := r.start("d", bootstrap)
		r.formed("a", "b", "c", "d")
		if got, want := d.plane.Status().RingID, r.leader().plane.Status().RingID; got != want {
			t.Errorf("d is in ring %v, the others are in %v", got, want)
		}
	})
}

// TestBootstrapAtOnce proves that servers which start at the same moment end in
// one ring, however many of them have --bootstrap.
func TestBootstrapAtOnce(t *testing.T) {
	for _, with := range []string{"a", "c", "ab", "abc", "bc"} {
		t.Run(with, func(t *testing.T) {
			story(t, 3, func(r *rig) {
				for _, m := range r.servers {
					r.start(m.Name, func(c *Config) { c.Bootstrap = strings.Contains(with, m.Name) })
				}
				r.formed("a", "b", "c")
				r.await("all vote", patience, func() bool { return r.voters(3) })
				for name, n := range r.nodes {
					if got, want := n.plane.Status().RingID, r.nodes["a"].plane.Status().RingID; got != want {
						t.Errorf("%s is in ring %v, a in %v", name, got, want)
					}
				}
			})
		})
	}
}

// voters reports whether every running node knows this many voters.
func (r *rig) voters(n int) bool {
	for _, node := range r.nodes {
		if node.plane.Status().Quorum.Voters != n {
			return false
		}
	}
	return true
}
