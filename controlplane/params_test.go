package controlplane

import (
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
