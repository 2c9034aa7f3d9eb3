package flow

import (
	"strings"
	"testing"
)

// run plays one seed; on a violation it plays it again and keeps the events.
func run(seed uint64, opt simOptions) *sim {
	w := newSim(seed, opt)
	w.play()
	if len(w.bad) == 0 {
		return w
	}
	again := newSim(seed, opt)
	again.tracing = true
	again.play()
	return again
}

func report(t *testing.T, seed uint64, w *sim) {
	t.Helper()
	tail := w.trace
	if len(tail) > 4000 {
		tail = tail[len(tail)-4000:]
	}
	t.Fatalf("seed %d:\n%s\n\nevents:\n%s", seed, strings.Join(w.bad, "\n"), strings.Join(tail, "\n"))
}

// The kinds of runs, from peaceful to everything at once.
var simKinds = []struct {
	name string
	opt  simOptions
	runs int
}{
	{"nothing fails", simOptions{}, 400},
	{"links are cut", simOptions{cuts: true}, 600},
	{"slots move", simOptions{cuts: true, merges: true}, 800},
	{"programs end", simOptions{cuts: true, merges: true, deaths: true}, 1000},
	{"refusals come twice", simOptions{cuts: true, merges: true, deaths: true, replays: true}, 800},
	{"everything", simOptions{cuts: true, merges: true, deaths: true, crash: true}, 4000},
}

// Proves the delivery contract over random interleavings of everything that
// can happen to a ring; the same seed always plays the same run.
func TestContractHoldsUnderRandomInterleavings(t *testing.T) {
	for _, k := range simKinds {
		t.Run(k.name, func(t *testing.T) {
			var total judge
			for seed := range uint64(k.runs / simShare) {
				w := run(seed, k.opt)
				if len(w.bad) > 0 {
					report(t, seed, w)
				}
				total.count.sent += w.judge.count.sent
				total.count.taken += w.judge.count.taken
				total.count.repeats += w.judge.count.repeats
				total.count.answers += w.judge.count.answers
			}
			t.Logf("%d runs: %+v", k.runs/simShare, total.count)
		})
	}
}
