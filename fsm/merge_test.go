package fsm

import (
	"errors"
	"maps"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// TestAutoMerge proves the steps by which AUTOMERGE takes a first server into
// service, then others, then one out: a settled ring serves every slot.
func TestAutoMerge(t *testing.T) {
	r := newRig(t, testParams())
	r.up(0)
	if steps := r.settle(); len(steps) != 0 {
		t.Fatalf("a server without program: %v", steps)
	}
	r.attach(0)
	want := []CommandType{CommandServiceIn, CommandPendingTable, CommandMergeStart, CommandMergeSeal, CommandMergeCommit}
	if steps := r.settle(); !equalSteps(steps, want) {
		t.Fatalf("steps %v, want %v", steps, want)
	}
	r.status(0, stIn)
	if got := r.actors(); got[0] != 12 {
		t.Fatalf("acting: %v", got)
	}
	for n := 1; n < 4; n++ {
		r.up(n)
		r.attach(n)
	}
	want = append([]CommandType{CommandServiceIn, CommandServiceIn}, want...)
	if steps := r.settle(); !equalSteps(steps, want) {
		t.Fatalf("steps %v, want %v", steps, want)
	}
	if got := r.actors(); !maps.Equal(got, map[int]int{0: 3, 1: 3, 2: 3, 3: 3}) {
		t.Fatalf("acting: %v", got)
	}
	r.do(ServiceOut{ID: id(2)})
	r.settle()
	r.status(2, stOut)
	if got := r.actors(); !maps.Equal(got, map[int]int{0: 4, 1: 4, 3: 4}) {
		t.Fatalf("acting: %v", got)
	}
	if _, ok := NextMergeStep(r.s.View(), r.nowUs); ok {
		t.Fatal("a server that an operator took out comes back by itself")
	}
}

func equalSteps(a, b []CommandType) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestMergeStatuses proves what a merge shows at each step, and that it
// neither seals nor commits early.
func TestMergeStatuses(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	r := ringOf(t, p, 2)
	r.up(2)
	r.attach(2)
	r.do(ServiceIn{ID: id(2)})
	m := r.mergeTo()
	if m.Phase != ring.MergeCopying || m.ID != r.index || len(m.Transfers) == 0 {
		t.Fatalf("merge %+v", m)
	}
	doing := func(st ring.Status) ring.Status { return st.WithOperate(ring.Doing) }
	r.status(2, doing(stAdd))
	r.refused(MergeSeal{MergeID: m.ID}, ErrNotReady)
	r.refused(MergeSeal{MergeID: m.ID - 1}, ErrNoMerge)
	r.refused(MergeCommit{MergeID: m.ID}, ErrNoMerge)
	r.refused(TransferReady{MergeID: m.ID, Donor: id(2), Receiver: id(0)}, ErrUnknownTransfer)
	epoch := r.s.View().Table.Epoch
	r.ready()
	r.status(2, stAdd.WithOperate(ring.Done))
	r.refused(TransferFinal{MergeID: m.ID, Donor: m.Transfers[0].Donor, Receiver: m.Transfers[0].Receiver}, ErrNoMerge)
	r.do(MergeSeal{MergeID: m.ID})
	v := r.s.View()
	if v.Merge.Phase != ring.MergeSealed || v.Merge.Seal != r.index || v.Ring().Merge != v.Merge || v.Table.Epoch != epoch {
		t.Fatalf("sealed: %+v epoch %v", v.Merge, v.Table.Epoch)
	}
	r.refused(MergeCommit{MergeID: m.ID}, ErrNotReady)
	r.final()
	r.do(MergeCommit{MergeID: m.ID})
	r.status(0, stIn)
	r.status(2, stIn)
	if v := r.s.View(); v.Merge != nil || v.Pending != nil || v.Table.Epoch.Index != r.index {
		t.Fatalf("after commit: %+v", v)
	}
}

// TestLateFinalOfAnEarlierSeal proves that a report of a donor that has served
// again since does not count.
func TestLateFinalOfAnEarlierSeal(t *testing.T) {
	r := ringOf(t, testParams(), 2)
	r.do(ServiceOut{ID: id(0)})
	m := r.mergeTo()
	r.ready()
	r.do(MergeSeal{MergeID: m.ID})
	x := m.Transfers[0]
	late := TransferFinal{MergeID: m.ID, Seal: r.index, Donor: x.Donor, Receiver: x.Receiver}
	r.do(MergeUnseal{MergeID: m.ID})
	r.refused(late, ErrNoMerge)
	r.do(MergeSeal{MergeID: m.ID})
	r.refused(late, ErrNoMerge)
	if m := r.s.View().Merge; m.Transfers[0].Final {
		t.Fatal("a late Final counted")
	}
}

// TestCrashInMerge proves that the end of a donor or receiver, or of its last
// program, voids the merge, that nothing is lost, and that AUTOMERGE makes a
// new one when it can.
func TestCrashInMerge(t *testing.T) {
	crashes := map[string]func(r *rig, n int){
		"killed":    func(r *rig, n int) { r.kill(n) },
		"restarted": func(r *rig, n int) { r.up(n) },
		"suspended": func(r *rig, n int) { r.detach(n) },
	}
	for name, crash := range crashes {
		for _, sealed := range []bool{false, true} {
			for who := range 3 {
				r := ringOf(t, testParams(), 2)
				r.up(2)
				r.attach(2)
				r.do(ServiceIn{ID: id(2)})
				m := r.mergeTo()
				if sealed {
					r.ready()
					r.do(MergeSeal{MergeID: m.ID})
					r.final()
				}
				crash(r, who)
				if v := r.s.View(); v.Merge != nil || v.Pending != nil {
					t.Fatalf("%s server %d: merge goes on: %+v", name, who, v.Merge)
				}
				if r.apply(MergeCommit{MergeID: m.ID}).Err == nil {
					t.Fatalf("%s server %d: commit of a void merge", name, who)
				}
				if lost := r.actors()[-1]; lost != 0 {
					t.Fatalf("%s server %d: nobody acts for %d slots", name, who, lost)
				}
				r.up(who)
				if r.server(who).Status.Suspended() {
					r.attach(who)
				}
				r.settle()
				for n := range 3 {
					r.status(n, stIn)
				}
			}
		}
	}
}

// TestDonorMissing proves that a merge that would take a slot from the only
// server with its data waits for that server, and says so.
func TestDonorMissing(t *testing.T) {
	p := testParams()
	p.Replica = 0
	r := ringOf(t, p, 2)
	r.kill(0)
	r.do(ServiceOut{ID: id(0)})
	if steps := r.settle(); len(steps) != 0 {
		t.Fatalf("steps %v without a donor", steps)
	}
	if err := MergeBlocked(r.s.View()); !errors.Is(err, ErrDonorMissing) {
		t.Fatalf("blocked by %v", err)
	}
	if r.s.View().Covered(id(0)) || !r.s.View().Covered(id(9)) {
		t.Fatal("Covered")
	}
	to1 := ring.Interleaved(p.Slots, 1, []uint16{r.server(1).Number})
	v := r.s.View()
	r.do(PendingTable{Base: v.Table.Epoch, Delta: to1.Delta(v.Table.Base)})
	r.refused(MergeStart{}, ErrDonorMissing)
	r.up(0)
	if r.s.View().Merge != nil {
		t.Fatal("a plan of an earlier epoch survived")
	}
	r.settle()
	r.status(0, stOut)
	if got := r.actors(); got[1] != p.Slots {
		t.Fatalf("acting: %v", got)
	}
}

// TestActingChangeIsDrained proves that a slot that passes to an owner that is
// in sync already is under transfer too: the old owner has to stop first.
func TestActingChangeIsDrained(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	r := ringOf(t, p, 2)
	r.do(ServiceOut{ID: id(0)})
	before := r.s.View().Table
	m := r.mergeTo()
	for slot := range p.Slots {
		if before.Servers[before.ActingSlot(slot)].ID != id(0) {
			continue
		}
		if len(m.Transfers) != 1 || !m.Transfers[0].Slots.Has(slot) || m.Transfers[0].Receiver != id(1) {
			t.Fatalf("slot %d passes undrained: %+v", slot, m.Transfers)
		}
	}
	if n := m.Transfers[0].Slots.Len(); n != 6 {
		t.Fatalf("%d slots under transfer, want the 6 that server 0 acts for", n)
	}
}

// TestSealTimeout proves that a seal without its Finals is opened again, and
// that the next one waits.
func TestSealTimeout(t *testing.T) {
	r := ringOf(t, testParams(), 2)
	r.do(ServiceOut{ID: id(0)})
	m := r.mergeTo()
	r.ready()
	r.do(MergeSeal{MergeID: m.ID})
	now := r.nowUs
	if c, ok := NextMergeStep(r.s.View(), now+SealTimeoutUs-1); ok {
		t.Fatalf("early: %s", c.Type())
	}
	c, ok := NextMergeStep(r.s.View(), now+SealTimeoutUs)
	if !ok || c.Type() != CommandMergeUnseal {
		t.Fatalf("late: %v %s", ok, c.Type())
	}
	r.do(c.Body)
	if c, ok := NextMergeStep(r.s.View(), r.nowUs); ok {
		t.Fatalf("sealed again at once: %s", c.Type())
	}
	if c, _ := NextMergeStep(r.s.View(), r.nowUs+SealTimeoutUs); c.Type() != CommandMergeSeal {
		t.Fatalf("after the pause: %s", c.Type())
	}
}

// TestAbortMergeHolds proves that after ABORTMERGE nothing starts by itself
// before the next command or change of membership.
func TestAbortMergeHolds(t *testing.T) {
	r := ringOf(t, testParams(), 2)
	r.up(2)
	r.attach(2)
	r.do(ServiceIn{ID: id(2)})
	r.mergeTo()
	r.do(MergeAbort{Operator: true, Reason: "ABORTMERGE"})
	r.status(2, stAdd)
	r.status(0, stIn)
	if c, ok := NextMergeStep(r.s.View(), r.nowUs); ok {
		t.Fatalf("after ABORTMERGE: %s", c.Type())
	}
	r.up(3)
	if len(r.settle()) == 0 {
		t.Fatal("nothing starts after a new server came")
	}
	r.status(2, stIn)
}

// TestWithoutDoMerge proves that with DOMERGE off a server that comes back is
// in sync, and that a new owner takes over without data but not undrained.
func TestWithoutDoMerge(t *testing.T) {
	p := testParams()
	p.DoMerge = false
	r := ringOf(t, p, 2)
	before := r.actors()
	r.kill(0)
	if got := r.actors(); got[1] != p.Slots {
		t.Fatalf("acting: %v", got)
	}
	r.up(0)
	r.status(0, stIn)
	if got := r.actors(); !maps.Equal(got, before) {
		t.Fatalf("acting: %v, want %v", got, before)
	}
}
