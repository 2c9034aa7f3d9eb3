package fsm

import (
	"errors"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// ends are how the only holder of data becomes unable to give it, and how it
// is back.
var ends = map[string]struct{ away, back func(r *rig) }{
	"down":      {func(r *rig) { r.kill(0) }, func(r *rig) { r.up(0); r.attach(0) }},
	"suspended": {func(r *rig) { r.detach(0) }, func(r *rig) { r.attach(0) }},
}

// partialRing is a ring of three without copies in which server 0 is to leave,
// cannot give its data, and MERGE was sent all the same. Servers 3 and 4 join, so
// that there is also something to copy.
func partialRing(t *testing.T, p Params, away func(r *rig)) *rig {
	p.AutoMerge, p.Replica = false, 0
	r := ringOf(t, p, 3)
	away(r)
	for _, n := range []int{3, 4} {
		r.up(n)
		r.attach(n)
		r.do(ServiceIn{ID: id(n)})
	}
	r.do(ServiceOut{ID: id(0)})
	if err := MergeBlocked(r.s.View()); !errors.Is(err, ErrDonorMissing) || !strings.Contains(err.Error(), "s0:8021") {
		t.Errorf("before MERGE: %v", err)
	}
	r.do(RequestMerge(r.s.View()))
	if m := r.s.View().Merge; len(m.Partial) == 0 || len(m.Transfers) == 0 || m.Partial[0].Donor != id(0) {
		t.Fatalf("MERGE led to %+v", m)
	}
	return r
}

// TestPartial proves that MERGE is not refused for a server that alone holds
// data and does not act: what others give is copied, and COMPMERGE waits, says
// for whom, and with FORCE goes on without that data.
func TestPartial(t *testing.T) {
	for name, tt := range ends {
		for placement, p := range map[string]Params{"slots": testParams(), "chmpx": chmpxParams()} {
			t.Run(name+" "+placement, func(t *testing.T) {
				r := partialRing(t, p, tt.away)
				leaving := r.server(0).Status
				if leaving.Action() != ring.Delete || leaving.Operate() != ring.Pending {
					t.Errorf("who cannot give is %v", leaving)
				}
				r.ready()
				if res := r.apply(MergeComplete{}); !errors.Is(res.Err, ErrNotReady) || !strings.Contains(res.Err.Error(), "waits for s0:8021") || res.Changed {
					t.Errorf("COMPMERGE: %+v", res)
				}
				r.refused(MergeSeal{MergeID: r.s.View().Merge.ID}, ErrNotReady)
				if steps := r.settle(); len(steps) > 0 {
					t.Errorf("by itself the merge went on with %v", steps)
				}
				r.do(MergeComplete{Force: true})
				r.settle()
				if m := r.s.View().Merge; m != nil {
					t.Fatalf("the merge is not complete: %+v", m)
				}
				if st := r.server(0).Status; st.Ring() != ring.ServiceOut || st.Action() != ring.NoAct {
					t.Errorf("who was given up is %v", st)
				}
				if n := r.actors(); n[-1] > 0 || n[0] > 0 {
					t.Errorf("who acts, by twelfths: %v", n)
				}
			})
		}
	}
}

// TestForceWaitsForReady proves that COMPMERGE FORCE gives up only what nobody
// can give: it is refused while something is still copied.
func TestForceWaitsForReady(t *testing.T) {
	r := partialRing(t, testParams(), ends["down"].away)
	r.refused(MergeComplete{Force: true}, ErrNotReady)
	r.ready()
	r.do(MergeComplete{Force: true})
	r.do(MergeUnseal{MergeID: r.s.View().Merge.ID})
	r.do(MergeComplete{}) // the word holds for this merge
	r.settle()
	if r.s.View().Merge != nil {
		t.Errorf("merge goes on: %+v", r.s.View().Merge)
	}
}

// TestPartialDonorIsBack proves that a merge which waits for a donor takes its
// data when it acts again, without a command and without beginning anew what
// is copied already.
func TestPartialDonorIsBack(t *testing.T) {
	for name, tt := range ends {
		t.Run(name, func(t *testing.T) {
			r := partialRing(t, testParams(), tt.away)
			r.ready()
			before := r.s.View().Merge
			tt.back(r)
			m := r.s.View().Merge
			if m == nil || m.ID != before.ID || len(m.Partial) != 0 || len(m.Transfers) <= len(before.Transfers) {
				t.Fatalf("with its donor back the merge is %+v, it was %+v", m, before)
			}
			for i, x := range before.Transfers {
				if m.Transfers[i].Slots != x.Slots || !m.Transfers[i].Ready {
					t.Errorf("transfer %d was %+v, is %+v", i, x, m.Transfers[i])
				}
			}
			r.status(0, stDelete.WithOperate(ring.Doing))
			r.refused(MergeComplete{}, ErrNotReady)
			r.settle()
			r.do(MergeComplete{})
			r.settle()
			r.status(0, stOut)
			if n := r.actors()[-1]; n > 0 {
				t.Errorf("%d twelfths without acting owner", n)
			}
		})
	}
}

// TestPartialDonorIsBackAfterForce proves that a donor which is back before the
// forced merge is committed ends it: its data is not thrown away.
func TestPartialDonorIsBackAfterForce(t *testing.T) {
	r := partialRing(t, testParams(), ends["suspended"].away)
	r.ready()
	r.do(MergeComplete{Force: true})
	r.attach(0)
	if m := r.s.View().Merge; m != nil {
		t.Errorf("the merge goes on: %+v", m)
	}
	r.status(0, stDelete)
}

// TestPartialAbort proves that ABORTMERGE ends a merge that waits for a donor
// and takes the SERVICEOUT back, and that a receiver's end ends it too.
func TestPartialAbort(t *testing.T) {
	r := partialRing(t, testParams(), ends["down"].away)
	r.do(MergeAbort{Operator: true})
	r.status(0, stInDown)
	r = partialRing(t, testParams(), ends["down"].away)
	r.kill(3)
	if m := r.s.View().Merge; m != nil {
		t.Errorf("without a receiver the merge is %+v", m)
	}
	r.status(0, stInDown|ring.Delete|ring.Pending)
}

// TestStaleCopyAfterForce proves that an owner which lacks data gets nothing
// erased and serves with what it has when the one that had all is given up.
func TestStaleCopyAfterForce(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	r := ringOf(t, p, 2)
	r.kill(1) // server 0 acts for all and server 1 falls behind
	r.up(1)
	r.attach(1)
	r.status(1, stInPending)
	r.kill(0)
	if n := r.actors()[-1]; n != 12 {
		t.Fatalf("%d twelfths without acting owner, want 12", n)
	}
	r.do(ServiceOut{ID: id(0)})
	r.do(RequestMerge(r.s.View()))
	if m := r.s.View().Merge; len(m.Transfers) != 0 || len(m.Partial) != 1 {
		t.Fatalf("MERGE led to %+v", m)
	}
	r.do(MergeComplete{Force: true})
	r.settle()
	r.status(0, stOutDown)
	r.status(1, stIn)
	if n := r.actors()[1]; n != 12 {
		t.Errorf("server 1 acts for %d twelfths, want 12", n)
	}
}
