package fsm

import (
	"bytes"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// note is that server by has stood in for server of, as the ring has it now.
func (r *rig) note(by, of int) StoodIn {
	r.t.Helper()
	return StoodIn{By: id(by), For: id(of), Incarnation: r.server(of).Incarnation, Epoch: r.s.View().Table.Epoch}
}

// TestStoodIn proves who is out of sync after a stand-in: whoever was stood in for
// and is DOWN, even if it is waited for; else the one that stood in. And that
// with DOMERGE off nobody is.
func TestStoodIn(t *testing.T) {
	r := ringOf(t, testParams(), 2)
	n := r.note(1, 0)
	r.do(ServerRestart{ID: id(0), HoldUs: HoldMinUs})
	r.kill(0)
	r.do(n)
	r.up(0)
	r.attach(0)
	r.status(0, stInPending)
	r.status(1, stIn)
	if got := r.actors(); got[1] != 12 {
		t.Errorf("%v act", got)
	}

	r = ringOf(t, testParams(), 2)
	r.do(r.note(1, 0))
	r.status(0, stIn)
	r.status(1, stInPending)
	if got := r.actors(); got[0] != 6 || got[1] != 6 {
		t.Errorf("%v act: what it owns itself it goes on with", got)
	}

	r = ringOf(t, testParams(), 2)
	n = r.note(1, 0)
	r.up(0) // admitted before the note is known
	r.do(n)
	r.status(1, stInPending)

	p := testParams()
	p.DoMerge = false
	r = ringOf(t, p, 2)
	r.do(r.note(1, 0))
	r.status(0, stIn)
	r.status(1, stIn)
}

// TestStoodInOnce proves that a note that was applied, or an older one, changes
// nothing any more, that later ones do, and that snapshots keep that.
func TestStoodInOnce(t *testing.T) {
	r := ringOf(t, testParams(), 2)
	n := r.note(1, 0)
	older := n
	older.Epoch.Index--
	if r.s.View().Collected(n) {
		t.Error("it is known before")
	}
	r.do(n)
	r.settle()
	r.status(1, stIn)
	for _, again := range []StoodIn{n, older} {
		if res := r.do(again); res.Changed || !r.s.View().Collected(again) {
			t.Errorf("%+v: changed %t", again, res.Changed)
		}
	}
	b := r.s.Snapshot()
	fresh := New()
	if err := fresh.Restore(b); err != nil || !bytes.Equal(fresh.Snapshot(), b) || !fresh.View().Collected(n) {
		t.Errorf("restored: %v", err)
	}
	later := r.note(1, 0)
	if r.s.View().Collected(later) {
		t.Error("a later one is known before")
	}
	r.do(later)
	r.status(1, stInPending)
	r.settle()
	r.kill(0)
	r.settle()
	r.do(ServiceOut{ID: id(0)})
	r.settle()
	r.do(ServerForget{ID: id(0)})
	r.do(ServerForgotten{ID: id(0)})
	if got := r.s.View().Stood; len(got) != 0 {
		t.Errorf("of a server that was forgotten there is left %+v", got)
	}
	r.refused(later, ErrUnknownNode)
	r.refused(StoodIn{By: id(1), For: id(1), Incarnation: 3}, ErrInvalid)
	r.refused(StoodIn{By: id(1), For: id(2), Epoch: ring.Epoch{Era: 1, Index: 1}}, ErrInvalid)
}
