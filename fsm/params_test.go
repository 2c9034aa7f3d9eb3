package fsm

import "testing"

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
