package fsm

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

const hold30s = 30_000_000

// ownersOf returns the owners of a slot as the numbers of the tests.
func (r *rig) ownersOf(a *ring.Assignment, slot int) []int {
	var out []int
	t := r.s.View().Table
	for _, n := range a.Of(slot) {
		out = append(out, int(t.Servers[t.IndexOfNumber(n)].ID)-100)
	}
	return out
}

// TestPlannedRestart proves that while a server restarts nobody acts for what
// it owns, that it comes back in sync with everything, so that nothing is to be
// merged, and that others serve what it does not own all the time.
func TestPlannedRestart(t *testing.T) {
	p := testParams()
	r := ringOf(t, p, 3) // REPLICA=1: server 0 owns 8 of 12 slots
	base := r.s.View().Table.Base
	r.do(ServerRestart{ID: id(0), HoldUs: hold30s})
	if n := r.actors(); n[-1] != 0 || r.s.View().Member(id(0)).HoldUs != hold30s {
		t.Errorf("before it is down: %v act, %+v", n, r.s.View().Member(id(0)))
	}
	r.kill(0)
	r.status(0, stInDown)
	if n := r.actors(); n[0] != 0 || n[-1] != 8 || n[1]+n[2] != 4 {
		t.Errorf("while it is down act, by twelfths: %v", n)
	}
	for hash := range uint64(testHashes) {
		v := r.s.View().Table
		if waits := v.Acting(hash) < 0; v.Waits(hash) != waits || waits && len(v.Owners(hash, nil)) > 0 {
			t.Fatalf("hash %d: waits %t, owners %v", hash, v.Waits(hash), v.Owners(hash, nil))
		}
	}
	if steps := r.settle(); len(steps) > 0 {
		t.Errorf("AUTOMERGE went on with %v", steps)
	}
	r.up(0)
	r.status(0, stIn)
	if n := r.actors(); n[-1] != 0 || n[0] != 4 {
		t.Errorf("after it act, by twelfths: %v", n)
	}
	if steps := r.settle(); len(steps) > 0 || !r.s.View().Table.Base.Equal(base) {
		t.Errorf("after it AUTOMERGE went on with %v", steps)
	}
}

// TestPlannedRestartFails proves that after the time for it is over the ring
// does without the server: others act, and it lacks data when it is back.
func TestPlannedRestartFails(t *testing.T) {
	r := ringOf(t, testParams(), 3)
	inc := r.server(0).Incarnation
	r.refused(HoldEnd{ID: id(0), Incarnation: inc}, ErrStale)
	r.do(ServerRestart{ID: id(0), HoldUs: hold30s})
	r.kill(0)
	r.refused(HoldEnd{ID: id(0), Incarnation: inc - 1}, ErrStale)
	r.do(HoldEnd{ID: id(0), Incarnation: inc})
	if n := r.actors()[-1]; n != 0 {
		t.Errorf("nobody acts for %d twelfths", n)
	}
	r.up(0)
	r.status(0, stInPending)
}

// TestMergeWaitsForRestart proves that no merge starts while a server is waited for: what is
// in sync with it may be the only copy if it does not come back.
func TestMergeWaitsForRestart(t *testing.T) {
	r := ringOf(t, testParams(), 3)
	r.up(3)
	r.do(ServerRestart{ID: id(0), HoldUs: hold30s})
	r.kill(0)
	r.attach(3)
	if steps := r.settle(); slices.Contains(steps, CommandMergeStart) {
		t.Errorf("AUTOMERGE went on with %v", steps)
	}
	r.refused(RequestMerge(r.s.View()), ErrHeld)
	if err := MergeBlocked(r.s.View()); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "s0:8021") {
		t.Errorf("blocked: %v", err)
	}
	r.do(HoldEnd{ID: id(0), Incarnation: r.server(0).Incarnation})
	if n := r.actors()[-1]; n != 0 {
		t.Errorf("nobody acts for %d twelfths", n)
	}
	if r.settle(); r.actors()[3] == 0 {
		t.Error("who waited has not joined")
	}
}

// TestRestartRefused proves when no restart can be asked for: one at a time,
// of a server that is up, for a bounded time, and not during a merge. SERVICEOUT
// ends the wait.
func TestRestartRefused(t *testing.T) {
	r := ringOf(t, testParams(), 3)
	for _, us := range []int64{HoldMinUs - 1, HoldMaxUs + 1} {
		r.refused(ServerRestart{ID: id(0), HoldUs: us}, ErrInvalid)
	}
	if err := r.apply(ServerRestart{ID: id(0), HoldUs: 999_000}).Err; err == nil || !strings.Contains(err.Error(), "999ms, 1s to 1h0m0s allowed") {
		t.Errorf("999 ms: %v", err)
	}
	r.refused(ServerRestart{ID: id(7), HoldUs: hold30s}, ErrUnknownNode)
	r.do(ServerRestart{ID: id(0), HoldUs: hold30s})
	r.refused(ServerRestart{ID: id(1), HoldUs: hold30s}, ErrHeld)
	r.kill(0)
	r.refused(ServerRestart{ID: id(0), HoldUs: hold30s}, ErrStatusNotAllowed)
	r.refused(ServerRestart{ID: id(1), HoldUs: hold30s}, ErrHeld)
	r.do(ServiceOut{ID: id(0)})
	if n := r.actors()[-1]; n != 0 {
		t.Errorf("after SERVICEOUT nobody acts for %d twelfths", n)
	}
	r.mergeTo()
	r.refused(ServerRestart{ID: id(1), HoldUs: hold30s}, ErrOperating)
}

// TestRestartWithoutData proves that with DOMERGE off, where nobody falls
// behind, others act at once.
func TestRestartWithoutData(t *testing.T) {
	p := testParams()
	p.DoMerge = false
	r := ringOf(t, p, 3)
	r.do(ServerRestart{ID: id(0), HoldUs: hold30s})
	r.kill(0)
	if n := r.actors()[-1]; n != 0 {
		t.Errorf("nobody acts for %d twelfths", n)
	}
}

// TestReplace proves that a new server gets exactly the slots of the one whose
// place it takes, up or down, asked for before or after it has started.
func TestReplace(t *testing.T) {
	start := func(r *rig) { r.up(4); r.attach(4) }
	for name, steps := range map[string][]func(r *rig){
		"before it starts": {func(r *rig) { r.do(ServerReplace{Old: id(1), New: id(4)}) }, start, func(r *rig) { r.do(ServiceIn{ID: id(4)}) }},
		"when it is up":    {start, func(r *rig) { r.do(ServerReplace{Old: id(1), New: id(4)}) }},
		"when it joins":    {start, func(r *rig) { r.do(ServiceIn{ID: id(4)}); r.do(ServerReplace{Old: id(1), New: id(4)}) }},
		"of one that is down": {func(r *rig) { r.kill(1) }, start, func(r *rig) {
			r.do(ServerReplace{Old: id(1), New: id(4)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := testParams()
			p.AutoMerge = false
			r := ringOf(t, p, 4)
			before := r.s.View().Table.Base
			for _, step := range steps {
				step(r)
			}
			r.status(4, stAdd)
			if st := r.server(1).Status; st.Action() != ring.Delete {
				t.Errorf("who is replaced is %v", st)
			}
			r.mergeTo()
			r.ready()
			r.do(MergeComplete{})
			r.settle()
			r.status(4, stIn)
			if st := r.server(1).Status; st.Ring() != ring.ServiceOut || r.s.View().Member(id(1)).ReplacedBy != 0 {
				t.Errorf("after it: %v, %+v", st, r.s.View().Member(id(1)))
			}
			after := r.s.View().Table.Base
			for slot := range after.Slots() {
				want := r.ownersOf(before, slot)
				for i := range want {
					if want[i] == 1 {
						want[i] = 4
					}
				}
				if got := r.ownersOf(after, slot); !slices.Equal(got, want) {
					t.Errorf("slot %d has the owners %v, want %v", slot, got, want)
				}
			}
		})
	}
}

// TestReplaceWaits proves that who is to be replaced stays in service while its
// replacement cannot join, and again when that goes away, and how the wish is
// taken back.
func TestReplaceWaits(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	replace := ServerReplace{Old: id(1), New: id(4)}
	r := ringOf(t, p, 4)
	r.do(replace)
	r.status(1, stIn)
	r.up(4)
	r.status(1, stIn)
	r.attach(4)
	r.do(ServiceIn{ID: id(4)})
	r.status(1, stDelete)
	r.detach(4)
	r.status(1, stIn)
	r.attach(4)
	r.status(1, stDelete)
	r.kill(4)
	r.status(1, stIn)
	for name, back := range map[string]Body{"ABORTMERGE": MergeAbort{Operator: true}, "SERVICEOUT": ServiceOut{ID: id(1)}, "SERVICEIN": ServiceIn{ID: id(1)}} {
		r := ringOf(t, p, 4)
		for _, leaves := range []bool{false, true} {
			if leaves {
				r.up(4)
				r.attach(4)
			}
			r.do(replace)
			r.do(back)
			if m := r.s.View().Member(id(1)); m.ReplacedBy != 0 {
				t.Errorf("%s while it leaves, %t: %+v", name, leaves, m)
			}
			if name == "SERVICEOUT" {
				r.do(ServiceIn{ID: id(1)})
			}
		}
		r.refused(ServiceIn{ID: id(1)}, ErrStatusNotAllowed)
	}
}

// TestReplacedStaysOut proves that AUTOMERGE does not take a server into service
// again that was replaced, whenever its process was started.
func TestReplacedStaysOut(t *testing.T) {
	restart := func(r *rig) { r.kill(1); r.up(1) }
	ask := func(r *rig) { r.do(ServerReplace{Old: id(1), New: id(4)}) }
	join := func(r *rig) { r.up(4); r.attach(4); r.do(ServiceIn{ID: id(4)}) }
	out := func(r *rig) { r.kill(1); r.do(ServiceOut{ID: id(1), Auto: true}) }
	for name, steps := range map[string][]func(r *rig){
		"started before":         {restart, ask, join},
		"started while it waits": {ask, restart, join},
		"started as it leaves":   {ask, join, restart},
		"started in the merge":   {out, ask, join, func(r *rig) { r.mergeTo(); r.up(1) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := ringOf(t, testParams(), 4)
			for _, step := range steps {
				step(r)
			}
			r.settle()
			r.status(4, stIn)
			r.status(1, stOut)
		})
	}
}

// TestReplaceByFormer proves that AUTOMERGE takes a server that was taken out before, and is
// to replace another one, in as soon as it has a program.
func TestReplaceByFormer(t *testing.T) {
	r := ringOf(t, testParams(), 4)
	r.do(ServiceOut{ID: id(3)})
	r.settle()
	r.detach(3)
	r.status(3, stOutSuspend)
	r.do(ServerReplace{Old: id(1), New: id(3)})
	r.settle()
	r.status(1, stIn)
	r.attach(3)
	r.settle()
	r.status(3, stIn)
	r.status(1, stOut)
}

// TestReplaceRefused proves which replacements are refused.
func TestReplaceRefused(t *testing.T) {
	r := ringOf(t, testParams(), 3)
	for _, tc := range []struct {
		old, by int
		want    error
	}{
		{0, 0, ErrInvalid},
		{0, 1, ErrStatusNotAllowed}, // has a place
		{7, 4, ErrUnknownNode},
	} {
		r.refused(ServerReplace{Old: id(tc.old), New: id(tc.by)}, tc.want)
	}
	r.do(ServerReplace{Old: id(0), New: id(4)})
	r.refused(ServerReplace{Old: id(1), New: id(4)}, ErrStatusNotAllowed)
	r.up(5)
	r.refused(ServerReplace{Old: id(5), New: id(6)}, ErrStatusNotAllowed)
	r = ringOf(t, chmpxParams(), 3)
	r.refused(ServerReplace{Old: id(0), New: id(4)}, ErrPlacement)
}

// TestForget proves that only a server that is out of service and down can be
// forgotten, that it stays down until it has been, that nothing of it is left then,
// and that it may join again as somebody new.
func TestForget(t *testing.T) {
	r := ringOf(t, testParams(), 3)
	r.up(3)
	r.refused(ServerForget{ID: id(0)}, ErrStatusNotAllowed)
	r.refused(ServerForget{ID: id(3)}, ErrStatusNotAllowed)
	r.refused(ServerForget{ID: id(9)}, ErrUnknownNode)
	r.do(ServerReplace{Old: id(0), New: id(3)})
	r.kill(3)
	number := r.server(3).Number
	r.refused(ServerForgotten{ID: id(3)}, ErrStatusNotAllowed)
	r.do(ServerForget{ID: id(3)})
	r.do(ServerForget{ID: id(3)})
	v := r.s.View()
	if v.Server(id(3)) == nil || !v.Member(id(3)).Forget || v.Member(id(0)).ReplacedBy != 0 {
		t.Errorf("while it is to be: %+v, %+v", v.Table.Servers, v.Members)
	}
	r.refused(ServerUp{ID: id(3), Server: r.server(3).Identity, Addr: "x:1", Boot: 4711}, ErrStatusNotAllowed)
	r.refused(ServerReplace{Old: id(0), New: id(3)}, ErrStatusNotAllowed)
	r.refused(ServiceIn{ID: id(3)}, ErrStatusNotAllowed)
	r.do(ServerForgotten{ID: id(3)})
	v = r.s.View()
	if v.Server(id(3)) != nil || len(v.Table.Servers) != 3 || len(v.Members) != 3 || v.Member(id(0)).ReplacedBy != 0 {
		t.Errorf("after it: %+v, %+v", v.Table.Servers, v.Members)
	}
	r.refused(ServerForget{ID: id(3)}, ErrUnknownNode)
	r.refused(ServerForgotten{ID: id(3)}, ErrUnknownNode)
	r.up(3)
	if got := r.server(3).Number; got == number {
		t.Errorf("number %d is given twice", got)
	}
	r.kill(0)
	r.refused(ServerForget{ID: id(0)}, ErrStatusNotAllowed)
}
