package controlplane

import (
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// A configuration that differs from the ring is told with every value that
// differs, what the ring has and what it says itself; one that does not differ
// is not.
func TestDifferingParams(t *testing.T) {
	ours := fsm.Params{Slots: 16384, Replica: 1, DeliverMode: "hash", Placement: "slots", DoMerge: true, AutoMerge: true, MaxVoters: 5}
	for name, c := range map[string]struct {
		change func(*fsm.Params)
		says   []string
	}{
		"nothing":   {func(p *fsm.Params) {}, nil},
		"placement": {func(p *fsm.Params) { p.Placement, p.Slots = "chmpx", 0 }, []string{"PLACEMENT is chmpx in the ring, slots here"}},
		"two": {func(p *fsm.Params) { p.Replica, p.DeliverMode = 0, "random" },
			[]string{"DELIVERMODE is random in the ring, hash here", "REPLICA is 0 in the ring, 1 here"}},
		"slots":    {func(p *fsm.Params) { p.Slots = 8 }, []string{"number of slots is 8 in the ring, 16384 here"}},
		"switches": {func(p *fsm.Params) { p.DoMerge, p.AutoMerge = false, false }, []string{"DOMERGE is false", "AUTOMERGE is false"}},
		"ids":      {func(p *fsm.Params) { p.IDType = ring.IDByCUK }, []string{"CHMPXIDTYPE is CUK in the ring, NAME here"}},
		"voters":   {func(p *fsm.Params) { p.MaxVoters = 3 }, []string{"RAFTMAXVOTERS is 3 in the ring, 5 here"}},
	} {
		p := ours
		c.change(&p)
		got := differingParams(p, ours)
		if (got == "") != (len(c.says) == 0) || strings.Count(got, " in the ring, ") != len(c.says) {
			t.Errorf("%s: %q", name, got)
		}
		for _, s := range c.says {
			if !strings.Contains(got, s) {
				t.Errorf("%s: %q does not say %q", name, got, s)
			}
		}
	}
}

// A server whose configuration says another placement joins the ring, which
// keeps the values that it was started with, and says which one differs.
func TestRingKeepsItsParams(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.start("a", nil)
		r.start("b", nil)
		r.formed("a", "b")
		c := r.start("c", func(c *Config) { c.Params.Placement, c.Params.Slots, c.Params.Replica = "chmpx", 0, 0 })
		r.await("difference said", patience, func() bool {
			return slices.Contains(c.plane.Status().Warnings, "ring-wide values of the configuration differ from those of the ring, which count: "+
				"PLACEMENT is slots in the ring, chmpx here; REPLICA is 1 in the ring, 0 here")
		})
		if p := c.plane.Status().Params; p == nil || *p != r.params {
			t.Errorf("values of the ring: %+v, want %+v", p, r.params)
		}
	})
}
