//go:build faults

package flow

import (
	"strings"
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
)

// The simulation notices the deliberate bugs of this package, for the right reason.
func TestFaultBugs(t *testing.T) {
	for bug, want := range map[fault.BugName]string{fault.DropAck: "STUCK", fault.SkipDedup: "REPEAT"} {
		t.Run(string(bug), func(t *testing.T) {
			defer fault.Use(fault.Env{Bug: string(bug)})()
			seed, what := caughtBy(simOptions{cuts: true}, 0)
			if kind, _, _ := strings.Cut(what, ":"); kind != want {
				t.Errorf("seed %d: caught as %q, want %s", seed, what, want)
			}
			t.Logf("seed %d: %s", seed, what)
		})
	}
}
