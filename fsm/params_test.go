package fsm

import (
	"errors"
	"testing"
)

// The table says that servers keep no data (DOMERGE=off) in every state of the ring, also
// after a snapshot.
func TestNoMergeIsInTheTable(t *testing.T) {
	for _, merge := range []bool{false, true} {
		p := testParams()
		p.DoMerge = merge
		r := ringOf(t, p, 2)
		restored := New()
		if err := restored.Restore(r.s.Snapshot()); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]*State{"applied": r.s, "restored": restored} {
			if got := s.View().Table.NoMerge; got == merge {
				t.Errorf("DoMerge %v, %s: the table says NoMerge %v", merge, name, got)
			}
		}
	}
}

// The table says DELIVERMODE=random in every state of the ring, also after a
// snapshot, and changes nothing else by it.
func TestRandomModeIsInTheTable(t *testing.T) {
	for mode, want := range map[string]bool{"hash": false, "random": true} {
		p := testParams()
		p.Replica, p.DoMerge, p.DeliverMode = 0, false, mode
		r := ringOf(t, p, 3)
		r.detach(1)
		restored := New()
		if err := restored.Restore(r.s.Snapshot()); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]*State{"applied": r.s, "restored": restored} {
			tab := s.View().Table
			if tab.Random != want || len(tab.Serving()) != 2 || tab.Index(id(1)) == tab.Serving()[1] {
				t.Errorf("%s %s: random %t, %v serve; want %t and the two servers that have programs", mode, name, tab.Random, tab.Serving(), want)
			}
		}
	}
}

// Ring-wide values that no ring can have are refused with the reason.
func TestRingInitRefusesParams(t *testing.T) {
	for name, change := range map[string]func(*Params){
		"no slots":        func(p *Params) { p.Slots = 0 },
		"too many slots":  func(p *Params) { p.Slots = SlotsMax + 1 },
		"slots of chmpx":  func(p *Params) { p.Placement = "chmpx" },
		"placement":       func(p *Params) { p.Placement = "SLOTS" },
		"delivery mode":   func(p *Params) { p.DeliverMode = "" },
		"replica":         func(p *Params) { p.Replica = 64 },
		"too many owners": func(p *Params) { p.Slots, p.Replica = SlotsMax, 63 },
		"merge timeout":   func(p *Params) { p.MergeTimeoutS = -1 },
		"voters":          func(p *Params) { p.MaxVoters = 0 },
	} {
		p := testParams()
		change(&p)
		r := &rig{t: t, s: New()}
		if res := r.apply(RingInit{RingID: 1, Era: 1, Group: "G", Params: p}); !errors.Is(res.Err, ErrInvalid) || r.s.View().RingID != 0 {
			t.Errorf("%s: %v, want ErrInvalid", name, res.Err)
		}
	}
}

// A server that alone owns slots is covered only where there is no data to
// lose, so that random mode does not wait for a dead server.
func TestCoveredWithoutData(t *testing.T) {
	for _, doMerge := range []bool{true, false} {
		p := testParams()
		p.Replica, p.DoMerge = 0, doMerge
		r := ringOf(t, p, 3)
		r.kill(1)
		if got := r.s.View().Covered(id(1)); got != !doMerge {
			t.Errorf("DOMERGE %t: covered %t", doMerge, got)
		}
		r.do(ServiceOut{ID: id(1), Auto: true})
		r.settle()
		if left := r.server(1).Status == stOutDown; left != !doMerge {
			t.Errorf("DOMERGE %t: the dead server is %v", doMerge, r.server(1).Status)
		}
	}
}
