package controlplane

import (
	"errors"
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// TestPartialMerge proves on real nodes that MERGE goes as far as it can when
// the only holder of data is down, that the status of every node shows what it
// waits for and after a minute that nothing goes on, and that COMPMERGE FORCE
// ends it with every slot served.
func TestPartialMerge(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.params.Replica = 0
		r.startAll()
		r.formed("a", "b", "c")
		r.serve()
		c := r.servers[2].ID
		r.kill("c")
		r.await("c down", patience, func() bool { return r.allUp("a", "b") })
		a := r.nodes["a"]
		for _, body := range []fsm.Body{fsm.ServiceOut{ID: c}, fsm.MergeRequest{}} {
			if err := a.command(body); err != nil {
				t.Fatalf("%s: %v", body.Type(), err)
			}
		}
		waits := func(n *rigNode) bool {
			m := n.plane.Status().Merge
			if m == nil || m.Phase != "copying" {
				return false
			}
			for _, x := range m.Transfers {
				if x.Partial && x.Donor == ring.HexID(c) && x.Slots > 0 {
					return true
				}
			}
			return false
		}
		r.await("the merge waits for c", patience, func() bool { return waits(a) && waits(r.nodes["b"]) })
		if err := a.command(fsm.MergeComplete{}); !errors.Is(err, fsm.ErrNotReady) {
			t.Errorf("COMPMERGE: %v", err)
		}
		if s := a.plane.Status().Merge.Stalled; s != 0 {
			t.Errorf("stalled for %d s at once", s)
		}
		if took := r.await("stalled", 2*stallLimit, func() bool { return a.plane.Status().Merge.Stalled >= 60 }); took < stallLimit-10*time.Second {
			t.Errorf("stalled after %v", took)
		}
		if err := a.command(fsm.MergeComplete{Force: true}); err != nil {
			t.Fatalf("COMPMERGE FORCE: %v", err)
		}
		r.await("c is out", patience, func() bool {
			v := a.plane.view()
			return v.Merge == nil && v.Server(c).Status == ring.ServiceOut|ring.Down
		})
		for slot := range r.params.Slots {
			if a.plane.view().Table.ActingSlot(slot) < 0 {
				t.Fatalf("nobody acts for slot %d", slot)
			}
		}
	})
}

// TestStalled proves which merges are called stalled: those of which something
// is to be copied or handed over, and not before a minute without progress.
func TestStalled(t *testing.T) {
	ready, final, raw := ring.Transfer{Ready: true}, ring.Transfer{Ready: true, Final: true}, ring.Transfer{}
	for name, tc := range map[string]struct {
		m    *ring.Merge
		want int
	}{
		"none":            {nil, 0},
		"planned":         {&ring.Merge{Phase: ring.MergePlanned}, 0},
		"copying":         {&ring.Merge{Phase: ring.MergeCopying, Transfers: []ring.Transfer{ready, raw}}, 61},
		"copied":          {&ring.Merge{Phase: ring.MergeCopying, Transfers: []ring.Transfer{ready}}, 0},
		"partial":         {&ring.Merge{Phase: ring.MergeCopying, Transfers: []ring.Transfer{ready}, Partial: []ring.Transfer{raw}}, 61},
		"partial, forced": {&ring.Merge{Phase: ring.MergeCopying, Partial: []ring.Transfer{raw}, Forced: true}, 0},
		"sealed":          {&ring.Merge{Phase: ring.MergeSealed, Transfers: []ring.Transfer{ready, final}}, 61},
		"handed over":     {&ring.Merge{Phase: ring.MergeSealed, Transfers: []ring.Transfer{final}}, 0},
	} {
		if got := stalledFor(tc.m, stallLimit+time.Second); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
		if got := stalledFor(tc.m, stallLimit-1); got != 0 {
			t.Errorf("%s, a moment before: %d", name, got)
		}
	}
}
