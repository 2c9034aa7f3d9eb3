//go:build faults

package controlplane

import (
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
)

// With answer-before-commit a command is said to be done, and a consistent read
// does not show it yet; a moment later it does.
func TestFaultAnswerBeforeCommit(t *testing.T) {
	defer fault.Use(fault.Env{Bug: string(fault.AnswerBeforeCommit)})()
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.serve()
		n := r.leader()
		if err := n.command(fsm.SuspendMerge{On: true}); err != nil {
			t.Fatal(err)
		}
		if r.suspended(n) {
			t.Error("a read right behind the answer shows the change")
		}
		<-time.After(time.Second)
		if !r.suspended(n) {
			t.Error("the change never comes")
		}
	})
}

// With apply-out-of-order tables reach the data plane that are older than the
// one before.
func TestFaultApplyOutOfOrder(t *testing.T) {
	defer fault.Use(fault.Env{Bug: string(fault.ApplyOutOfOrder)})()
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.serve()
		back := 0
		for _, n := range r.nodes {
			n.mu.Lock()
			for i := 1; i < len(n.views); i++ {
				if n.views[i].Table.Version < n.views[i-1].Table.Version {
					back++
				}
			}
			n.mu.Unlock()
		}
		if back == 0 {
			t.Error("no table came out of order")
		}
	})
}
