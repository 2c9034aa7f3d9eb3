// Package run breaks a ring of real processes for a while and says what became
// of its promises. A run is made of rounds: programs send and take while faults
// come by a schedule that was drawn from the seed, then everything is healed,
// all that was accepted must settle, and the round is judged. The ring lives on
// through all rounds.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/testcluster/fault"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Options say what to run. Those with a JSON name decide what happens; they
// are kept with the report, for Replay.
type Options struct {
	Servers   int           `json:"servers"`
	Slaves    int           `json:"slaves"`
	Replica   int           `json:"replica"`
	Faults    string        `json:"faults"` // names with commas between them, or all
	Duration  time.Duration `json:"duration"`
	Rounds    int           `json:"rounds"` // 0: as many as begin within Duration
	Round     time.Duration `json:"round"`  // of a round, without healing and judging
	Gap       time.Duration `json:"gap"`    // between the begins of two faults, on average
	Seed      uint64        `json:"seed"`
	Rate      int           `json:"rate"`      // messages per second of all senders together
	Operators int           `json:"operators"` // who give commands to the control ports meanwhile
	// OperatorRest is how long an operator rests between two commands, on average.
	OperatorRest time.Duration `json:"operator_rest"`
	Netns        bool          `json:"netns"`
	StandInAfter time.Duration `json:"stand_in_after,omitempty"` // STANDINAFTER of all nodes; 0: never
	Bug          string        `json:"bug,omitempty"`

	Bin       string    `json:"-"` // directory of the binaries, built with faults
	Self      string    `json:"-"` // program that knows the verbs of programs
	First     bool      `json:"-"` // end with the first round in which a promise is broken
	Keep      bool      `json:"-"` // keep the directory of the ring, and that of the report in any case
	ReportDir string    `json:"-"` // for the report and what rounds with violations leave
	Out       io.Writer `json:"-"` // progress and report, for people
	Terminal  bool      `json:"-"` // Out is one: progress is a line in place
	// Schedules are those of an earlier run, by round; rounds beyond are drawn.
	Schedules [][]fault.Event `json:"-"`
}

// What the options are where nobody chooses.
const (
	DefaultRound     = 20 * time.Second
	DefaultGap       = 1200 * time.Millisecond
	DefaultRate      = 800
	DefaultOperators = 2
	DefaultRest      = 700 * time.Millisecond
)

// ErrViolated says that the run ended and found violations.
var ErrViolated = errors.New("promises were broken")

// runner is one run.
type runner struct {
	Options
	faults []fault.Fault
	rig    *rig.Rig
	out    *progress
	watch  *observer
	before map[string]check.Usage // in the quiet moment after the first round
	report check.Report
	past   []string // sessions of earlier rounds
	stuck  bool     // the ring does not come back: another round would find the same
	rounds []Round
}

// Run runs until it is over, or ctx ends, and writes the report. It returns
// ErrViolated if a promise was broken; every other error says why there was
// nothing to judge.
func Run(ctx context.Context, o Options) (err error) {
	r := &runner{Options: o, out: newProgress(o.Out, o.Terminal), before: map[string]check.Usage{}}
	if r.faults, err = fault.ByName(o.Faults); err != nil {
		return err
	}
	if o.Netns {
		r.faults = withoutForwarders(r.faults)
	}
	if err := makeReportDir(o.ReportDir); err != nil {
		return err
	}
	r.rig, err = rig.New(rig.Options{Bin: o.Bin, Self: o.Self, Servers: o.Servers, Slaves: o.Slaves, Replica: o.Replica,
		Seed: o.Seed, Netns: o.Netns, Bug: o.Bug, Rate: o.Rate, StandInAfter: o.StandInAfter})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(err)) }()
	r.out.say("seed %d; to repeat: %s", o.Seed, o.Command())
	if err := os.Mkdir(r.rig.HistoryDir(), 0o750); err != nil {
		return fmt.Errorf("make directory of histories: %w", err)
	}
	watchCtx, stop := context.WithCancel(ctx)
	r.watch = newObserver(r.rig)
	watching := r.watch.start(watchCtx)
	defer watching.Wait()
	defer stop()
	if err := r.startNodes(ctx); err != nil {
		return err
	}
	return r.all(ctx)
}

// all runs the rounds and reports.
func (r *runner) all(ctx context.Context) error {
	start := time.Now()
	var err error
	for n := 0; err == nil && ctx.Err() == nil && !r.stuck && (!r.First || r.report.OK()); n++ {
		if r.Rounds > 0 && n >= r.Rounds || r.Rounds == 0 && time.Since(start) >= r.Duration {
			break
		}
		err = r.round(ctx, n)
	}
	r.out.clear()
	if err == nil && ctx.Err() != nil {
		r.out.say("interrupted: the report is about %d rounds", len(r.rounds))
	}
	if r.stuck {
		r.out.say("the ring did not become whole again: no more rounds")
	}
	if len(r.rounds) == 0 {
		return errors.Join(err, ctx.Err())
	}
	if writeErr := r.writeReport(); writeErr != nil || err != nil {
		return errors.Join(err, writeErr)
	}
	if !r.report.OK() {
		return ErrViolated
	}
	return nil
}

// end ends all processes and removes the directory of the ring, unless it is to be kept.
func (r *runner) end(err error) error {
	if r.Keep {
		r.out.say("the directory of the ring is kept: %s", r.rig.Dir)
		return r.rig.End()
	}
	if err != nil && !errors.Is(err, ErrViolated) { // what the logs say is the only trace
		if err := r.keepLogs(filepath.Join(r.ReportDir, "failed")); err != nil {
			r.out.say("the logs could not be kept: %v", err)
		}
	}
	return r.rig.Close()
}

// startNodes starts all nodes and waits until all have heard of each other.
func (r *runner) startNodes(ctx context.Context) error {
	for _, h := range r.rig.Hosts {
		if err := h.Start(""); err != nil {
			return err
		}
	}
	return nil
}

// healWait bounds how long a ring may take to become whole when nothing is
// wrong any more: the longest wait of a node that was DOWN often is 60 s.
const healWait = 100 * time.Second

// ofTheRing reports whether an error is of the ring: of what it owes, not of the
// machine that it runs on.
func ofTheRing(err error) bool {
	return errors.Is(err, testcluster.ErrTimeout) || errors.Is(err, testcluster.ErrEnded)
}
