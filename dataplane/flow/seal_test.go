package flow

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Proves that a seal of a finer division than the table's slots, as it is while
// a merge changes their number, refuses exactly its hashes and waits for exactly
// their records; also under a table that has another number of slots already.
func TestSealOfParts(t *testing.T) {
	r := newRig(t, 100)
	p := r.up(101)
	s := r.attach(9, true)
	part := ring.NewSlotSet(12) // of 4 slots before and 3 after
	part.Add(8)                 // slot 0 before
	message := func(seq, hash uint64) {
		r.gets(p, wire.Header{Type: wire.TypeMessage, Seq: seq, Hash: hash, Attempt: 1, Epoch: r.c.epoch})
	}
	accepted := func() uint64 { return r.c.Stats().Accepted }
	message(1, 8)
	message(2, 4) // the same slot, another part
	if accepted() != 2 {
		t.Fatalf("%d of 2 accepted before the seal", accepted())
	}
	r.c.SetView(r.now, r.table(), r.incs[0], part)
	if r.c.Drained() {
		t.Error("drained with an untaken record of the sealed part")
	}
	message(3, 8+12)
	if accepted() != 2 || r.c.Stats().Later != 1 {
		t.Errorf("%d accepted, %d refused: a hash of the sealed part is taken", accepted(), r.c.Stats().Later)
	}
	message(4, 0)
	if accepted() != 3 {
		t.Error("a hash of the same slot outside the sealed part is refused")
	}
	r.c.Taken(r.now, s, 1)
	if !r.c.Drained() {
		t.Error("not drained though the record of the sealed part is taken")
	}
	three := r.table()
	r.epoch++
	after, err := ring.NewTable(ring.Table{Epoch: ring.Epoch{Era: 1, Index: r.epoch}, Servers: three.Servers, Base: ring.Modulo(1, []uint16{0, 1, 2})})
	if err != nil {
		t.Fatal(err)
	}
	r.c.SetView(r.now, after, r.incs[0], part)
	message(5, 8+36) // slot 2 of 3: another's
	part = ring.NewSlotSet(12)
	part.Add(6) // slot 0 of 3
	r.c.SetView(r.now, after, r.incs[0], part)
	message(6, 6)
	message(7, 3)
	if accepted() != 4 || r.c.Stats().Moved != 1 || r.c.Stats().Later != 2 {
		t.Errorf("%d accepted, %d moved, %d refused, want 4, 1 and 2", accepted(), r.c.Stats().Moved, r.c.Stats().Later)
	}
}
