package flow

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
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
	{"programs come back", simOptions{cuts: true, merges: true, deaths: true, returns: true}, 800},
	{"refusals come twice", simOptions{cuts: true, merges: true, deaths: true, replays: true}, 800},
	{"deadlines pass", simOptions{cuts: true, merges: true, deadlines: true}, 600},
	{"nobody acts", simOptions{cuts: true, deaths: true, crash: true, deadlines: true}, 1000},
	{"others stand in", simOptions{cuts: true, merges: true, deaths: true, standIns: true}, 1500},
	{"others stand in for the dead", simOptions{cuts: true, crash: true, deaths: true, returns: true, standIns: true}, 1500},
	{"everything", simOptions{cuts: true, merges: true, deaths: true, crash: true}, 4000},
}

// runsOf returns how many of the runs of a kind are played: of all kinds
// together FLOW_RUNS, if that is set.
func runsOf(runs, all int) uint64 {
	if n, err := strconv.Atoi(os.Getenv("FLOW_RUNS")); err == nil {
		return uint64(runs * n / all)
	}
	return uint64(runs / simShare)
}

// Proves the delivery contract over random interleavings of everything that
// can happen to a ring; the same seed always plays the same run.
func TestContractHoldsUnderRandomInterleavings(t *testing.T) {
	for _, k := range simKinds {
		t.Run(k.name, func(t *testing.T) {
			var total judge
			runs := runsOf(k.runs, 13000)
			for seed := range runs {
				w := run(seed, k.opt)
				if len(w.bad) > 0 {
					report(t, seed, w)
				}
				total.count.add(&w.judge.count)
			}
			t.Logf("%d runs: %+v", runs, total.count)
		})
	}
}

// drawn lets rapid make every choice of a run, so that it can shrink a failure
// to the shortest run that still fails. Choices are mixed with their number:
// rapid favours small values, which alone would always pick the first thing.
type drawn struct {
	t *rapid.T
	n uint64
}

func (d *drawn) Uint64() uint64 {
	d.n++
	x := (choice.Draw(d.t, "choice") + d.n) * 0x9e3779b97f4a7c15
	x = (x ^ x>>31) * 0xbf58476d1ce4e5b9
	return x ^ x>>29
}

var choice = rapid.Uint64()

// Proves the contract once more with interleavings that rapid chooses: a
// failure comes back shrunk. Every run is played
// to its calm end, where nothing may be left.
func TestContractHoldsForRapid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := simKinds[rapid.IntRange(0, len(simKinds)-1).Draw(t, "kind")]
		opt := k.opt
		opt.steps = rapid.IntRange(100, 1000).Draw(t, "steps")
		w := newSimOf(&drawn{t: t}, opt)
		w.play()
		if len(w.bad) > 0 {
			t.Fatalf("%s:\n%s", k.name, strings.Join(w.bad, "\n"))
		}
	})
}

// Proves the contract a third way: rapid chooses the actions, too, and checks
// after each of them.
func TestContractHoldsForStateMachine(t *testing.T) {
	steps := flag.Lookup("rapid.steps")
	if was := steps.Value.String(); was == steps.DefValue { // too few for anything to happen
		_ = steps.Value.Set("300")
		t.Cleanup(func() { _ = steps.Value.Set(was) })
	}
	rapid.Check(t, func(t *rapid.T) {
		k := simKinds[rapid.IntRange(0, len(simKinds)-1).Draw(t, "kind")]
		opt := k.opt
		opt.kinds.all = rapid.Bool().Draw(t, "all kinds of messages")
		w := newSimOf(&drawn{t: t}, opt)
		actions := map[string]func(*rapid.T){"": func(t *rapid.T) {
			if len(w.bad) > 0 {
				t.Fatalf("%s:\n%s", k.name, strings.Join(w.bad, "\n"))
			}
		}}
		if opt.standIns {
			for i := range simSplits {
				actions[simSplits[i].name] = func(*rapid.T) { simSplits[i].do(w) }
			}
		}
		for i := range simActions {
			act := &simActions[i]
			for n := range (act.weight + 47) / 48 { // rapid chooses evenly among names
				actions[act.name+strings.Repeat("'", n)] = func(*rapid.T) { act.do(w) }
			}
		}
		t.Repeat(actions)
		w.rest()
		if len(w.bad) > 0 {
			t.Fatalf("%s, at rest:\n%s", k.name, strings.Join(w.bad, "\n"))
		}
	})
}
