package fsm

import (
	"errors"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// manualParams are those of a ring whose operators merge.
func manualParams() Params {
	p := testParams()
	p.AutoMerge = false
	return p
}

// merge is MERGE as the leader brings it into the log.
func (r *rig) merge() Result { r.t.Helper(); return r.apply(RequestMerge(r.s.View())) }

// complete is COMPMERGE, and what nodes and leader do until the merge is over.
func (r *rig) complete() {
	r.t.Helper()
	r.do(MergeComplete{})
	r.settle()
}

// TestMergeByOperators proves the way of SERVICEIN, MERGE and COMPMERGE: each
// step waits for its command, and is refused where it must be.
func TestMergeByOperators(t *testing.T) {
	r := ringOf(t, manualParams(), 2)
	if res := r.merge(); res.Err != nil || res.Changed {
		t.Fatalf("MERGE of a ring with nothing to merge: %+v", res)
	}
	r.do(MergeComplete{})
	r.up(2)
	r.attach(2)
	r.do(ServiceIn{ID: id(2)})
	if steps := r.settle(); len(steps) > 0 {
		t.Fatalf("without any command: %v", steps)
	}
	if res := r.merge(); res.Err != nil || res.MergeID == 0 || r.s.View().Merge.ID != res.MergeID {
		t.Fatalf("MERGE: %+v", res)
	}
	r.status(2, stAdd.WithOperate(ring.Doing))
	r.refused(RequestMerge(r.s.View()), ErrOperating)
	r.refused(MergeComplete{}, ErrNotReady)
	r.settle()
	r.status(2, stAdd.WithOperate(ring.Done))
	r.complete()
	r.status(2, stIn)
}

// TestMergeIsPlannedForThisRing proves that a plan made before another command
// is refused instead of leaving out what that command asked for.
func TestMergeIsPlannedForThisRing(t *testing.T) {
	r := ringOf(t, manualParams(), 2)
	r.up(2)
	r.attach(2)
	r.up(3)
	r.attach(3)
	r.do(ServiceIn{ID: id(2)})
	merge := RequestMerge(r.s.View())
	auto, _ := PlanMerge(r.s.View())
	r.do(ServiceIn{ID: id(3)})
	r.refused(merge, ErrBaseChanged)
	r.refused(auto.Body, ErrBaseChanged)
}

// TestOperatorsCountOnce proves that each command counts once however often it
// is proposed: MERGE does not find its own merge in the way, and the answer of
// the first time is given again, after many strangers and a restart of the node.
func TestOperatorsCountOnce(t *testing.T) {
	r := ringOf(t, manualParams(), 2)
	operator := Operator(r.s.View().Boot(id(0)))
	number := uint64(0)
	send := func(b Body) Result {
		t.Helper()
		r.index++
		res, err := r.s.Apply(r.index, Command{Proposer: operator, Number: number, Body: b})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	r.do(ServiceOut{ID: id(0)})
	for _, b := range []Body{RequestMerge(r.s.View()), ServiceOut{ID: id(1)}, MergeComplete{}, MergeAbort{Operator: true}, SuspendMerge{On: true}} {
		number++
		first := send(b)
		if b == (MergeAbort{Operator: true}) {
			r.do(ServiceOut{ID: id(0)}) // which must not be taken back again
		}
		for n := range uint64(2 * strangersMax) {
			r.index++
			if _, err := r.s.Apply(r.index, Command{Proposer: 1 + n, Number: 1, Body: SlaveForget{}}); err != nil {
				t.Fatal(err)
			}
		}
		before := r.s.View()
		again := send(b)
		if !again.Repeat || again.Changed || (first.Err == nil) != (again.Err == nil) || first.Err != nil && !errors.Is(first.Err, again.Err) {
			t.Errorf("%s: %+v, then %+v", b.Type(), first, again)
		}
		if after := r.s.View(); after.Merge != before.Merge || after.Table != before.Table {
			t.Errorf("%s counted twice", b.Type())
		}
	}
	r.up(0)
	if again := send(SuspendMerge{On: false}); !again.Repeat || !r.s.View().SuspendMerge {
		t.Errorf("after the restart: %+v", again)
	}
}

// TestMergeBesideSuspended proves that a suspended server holds up no merge
// when others have its data (CHMPX refuses every MERGE then), that it gives and
// gets nothing. What it alone has: TestPartial.
func TestMergeBesideSuspended(t *testing.T) {
	r := ringOf(t, manualParams(), 3)
	r.detach(0)
	r.do(ServiceOut{ID: id(1)})
	if res := r.merge(); res.Err != nil {
		t.Fatalf("MERGE: %v", res.Err)
	}
	for _, x := range r.s.View().Merge.Transfers {
		if x.Donor == id(0) || x.Receiver == id(0) {
			t.Errorf("the suspended server is in a transfer: %+v", x)
		}
	}
	r.settle()
	r.complete()
	r.status(0, stInSuspend)
	r.status(1, stOut)
}

// TestSuspendedServerIsTakenOut proves that SERVICEOUT, MERGE and COMPMERGE
// take a suspended server out, and one that is down, where CHMPX refuses MERGE
// and spins in COMPMERGE.
func TestSuspendedServerIsTakenOut(t *testing.T) {
	for name, tt := range map[string]struct {
		ends func(r *rig)
		want ring.Status
	}{
		"suspended": {func(r *rig) { r.detach(0) }, stOutSuspend},
		"down":      {func(r *rig) { r.kill(0) }, stOutDown},
	} {
		t.Run(name, func(t *testing.T) {
			r := ringOf(t, manualParams(), 3)
			tt.ends(r)
			r.do(ServiceOut{ID: id(0)})
			if res := r.merge(); res.Err != nil {
				t.Fatalf("MERGE: %v", res.Err)
			}
			r.settle()
			r.complete()
			r.status(0, tt.want)
			r.status(1, stIn)
			r.status(2, stIn)
			if n := r.actors()[-1]; n > 0 {
				t.Errorf("%d slots without acting owner", n)
			}
		})
	}
}

// TestCompleteIsBounded proves that COMPMERGE beside a suspended server in
// service is one entry that changes nothing when nothing is to be done (CHMPX
// completes round and round without end), however often it is sent.
func TestCompleteIsBounded(t *testing.T) {
	for _, ends := range []func(r *rig){
		func(r *rig) { r.detach(0) },
		func(r *rig) { r.detach(0); r.detach(1); r.kill(2) },
		func(r *rig) { r.detach(0); r.do(ServiceOut{ID: id(0)}) },
	} {
		r := ringOf(t, manualParams(), 3)
		ends(r)
		before := r.s.View()
		for range 3 {
			if res := r.apply(MergeComplete{}); res.Err != nil || res.Changed {
				t.Fatalf("COMPMERGE: %+v", res)
			}
		}
		if steps := r.settle(); len(steps) > 0 || r.s.View().Table != before.Table {
			t.Errorf("COMPMERGE led to %v", steps)
		}
	}
}

// TestAbortHoldsUnderAutoMerge proves that after ABORTMERGE nothing starts by
// itself before the next command, MERGE for one, or change of membership.
func TestAbortHoldsUnderAutoMerge(t *testing.T) {
	for name, next := range map[string]func(r *rig){
		"MERGE":                     func(r *rig) { r.merge() },
		"MERGE of nothing":          func(r *rig) { r.do(MergeRequest{Version: r.s.View().Table.Version}) },
		"SERVICEOUT":                func(r *rig) { r.do(ServiceOut{ID: id(1)}) },
		"a server goes down":        func(r *rig) { r.kill(1) },
		"a server's program leaves": func(r *rig) { r.detach(1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := ringOf(t, testParams(), 3)
			r.up(3)
			r.attach(3)
			r.do(ServiceIn{ID: id(3)})
			r.do(MergeAbort{Operator: true})
			r.status(3, stAdd)
			if steps := r.settle(); len(steps) > 0 {
				t.Fatalf("after ABORTMERGE: %v", steps)
			}
			if r.unchanged(MergeComplete{}); len(r.settle()) > 0 {
				t.Fatal("COMPMERGE of nothing started a merge")
			}
			next(r)
			r.settle()
			r.status(3, stIn)
		})
	}
}

// unchanged applies a body that must change nothing, refused or not.
func (r *rig) unchanged(body Body) {
	r.t.Helper()
	if res := r.apply(body); res.Changed {
		r.t.Fatalf("%s changed something", body.Type())
	}
}

// TestAbortOfADeadServersLeave proves that ABORTMERGE gives a server that is
// down and leaving back to service with its slots, sealed or not (CHMPX makes
// it SERVICE OUT, and its data is nobody's).
func TestAbortOfADeadServersLeave(t *testing.T) {
	for name, far := range map[string]func(r *rig){
		"planned": func(r *rig) {},
		"merging": func(r *rig) { r.merge() },
		"sealed":  func(r *rig) { r.merge(); r.ready(); r.do(MergeComplete{}) },
	} {
		t.Run(name, func(t *testing.T) {
			r := ringOf(t, manualParams(), 3)
			r.kill(0)
			base := r.s.View().Table.Base
			r.do(ServiceOut{ID: id(0)})
			far(r)
			r.do(MergeAbort{Operator: true})
			r.status(0, stInDown)
			if !r.s.View().Table.Base.Equal(base) {
				t.Error("the slots have other owners")
			}
		})
	}
}

// TestOnlyServerStays proves that SERVICEOUT of the only server changes
// nothing at all (CHMPX refuses it and shows DELETE).
func TestOnlyServerStays(t *testing.T) {
	for name, before := range map[string]func(r *rig){
		"in service":            func(r *rig) {},
		"suspended":             func(r *rig) { r.detach(0) },
		"down":                  func(r *rig) { r.up(1); r.kill(0) },
		"others out of service": func(r *rig) { r.up(1); r.attach(1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := ringOf(t, manualParams(), 1)
			before(r)
			r.refused(ServiceOut{ID: id(0)}, ErrLastServer)
		})
	}
}

// TestRefusalTexts proves that a refusal is known again by its text.
func TestRefusalTexts(t *testing.T) {
	for _, want := range refusals {
		if got := Refusal(RefusalText(errors.Join(errors.New("x"), want))); got != want {
			t.Errorf("%v became %v", want, got)
		}
	}
	if err := Refusal(""); err != nil || RefusalText(errors.New("x")) != "" {
		t.Errorf("no refusal became %v", err)
	}
}
