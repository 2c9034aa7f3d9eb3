//go:build faults

package fsm

import (
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
)

// With forget-suspend the flag of SUSPENDMERGE goes with a server that comes
// UP, and with a snapshot; else it stays.
func TestFaultForgetSuspend(t *testing.T) {
	for bug, want := range map[fault.BugName]bool{"": true, fault.ForgetSuspend: false} {
		restore := fault.Use(fault.Env{Bug: string(bug)})
		r := ringOf(t, testParams(), 2)
		r.do(SuspendMerge{On: true})
		s := New()
		if err := s.Restore(r.s.Snapshot()); err != nil {
			t.Fatal(err)
		}
		r.up(1)
		if up, restored := r.s.View().SuspendMerge, s.View().SuspendMerge; up != want || restored != want {
			t.Errorf("bug %q: suspended after ServerUp %t, after a snapshot %t, want %t", bug, up, restored, want)
		}
		restore()
	}
}

// With reuse-incarnation a server that starts again is who it was.
func TestFaultReuseIncarnation(t *testing.T) {
	for bug, want := range map[fault.BugName]bool{"": false, fault.ReuseIncarnation: true} {
		restore := fault.Use(fault.Env{Bug: string(bug)})
		r := ringOf(t, testParams(), 2)
		was := r.server(1).Incarnation
		r.kill(1)
		if is := r.up(1); (is == was) != want {
			t.Errorf("bug %q: incarnation %d, then %d", bug, was, is)
		}
		restore()
	}
}
