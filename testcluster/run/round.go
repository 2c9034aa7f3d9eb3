package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/testcluster/fault"
	"github.com/chmpx/chmpx/testcluster/rig"
	"github.com/chmpx/chmpx/testcluster/traffic"
)

// Round is what happened in one round, for the report.
type Round struct {
	Number   int
	Schedule []fault.Event
	Skipped  []string // faults that did not begin, and why
	Length   time.Duration
	Dir      string // of what was kept, "" when nothing was
	check.Report
}

// current is a round that runs.
type current struct {
	*runner
	Round
	startNs int64

	mu     sync.Mutex // guards what follows
	faults []*check.Fault
	ops    []check.Op
	broken []error // what the ring owes and did not do
	failed []error // what made the round impossible
}

func inService(n int) func(controlplane.Status) bool {
	return func(st controlplane.Status) bool { return testcluster.InService(st) == n }
}

// round runs and judges one round.
func (r *runner) round(ctx context.Context, n int) error {
	c := &current{runner: r, Round: Round{Number: n}, startNs: check.Now()}
	if n < len(r.Schedules) {
		c.Schedule = r.Schedules[n]
	} else {
		c.Schedule = draw(r.Seed, n, r.Options.Round, r.Gap, r.faults, diceOf(r.rig))
	}
	r.out.begin(c)
	var following sync.WaitGroup
	followCtx, stop := context.WithCancel(ctx)
	defer following.Wait()
	defer stop()
	following.Go(func() { r.out.follow(followCtx, c) })
	steps := []struct {
		doing string
		do    func(context.Context) error
	}{{"programs start", c.startPrograms}, {"faults", c.breakThings}, {"all is healed", c.heal}, {"programs stop", c.stopPrograms}, {"nodes let go", c.settle}}
	for _, step := range steps {
		r.out.doing(step.doing)
		if err := step.do(ctx); err != nil && ctx.Err() != nil {
			return fmt.Errorf("round %d: interrupted while %s: %w", n, step.doing, err)
		} else if err != nil && !c.blame(err) {
			return fmt.Errorf("round %d: %w", n, err)
		}
		if ctx.Err() != nil {
			return nil // interrupted: half a round is not judged
		}
	}
	if err := errors.Join(c.failed...); err != nil {
		return fmt.Errorf("round %d: %w", n, err)
	}
	return c.judge(ctx)
}

// blame notes an error that the ring is to blame for.
func (c *current) blame(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ofTheRing(err) {
		return false
	}
	c.broken = append(c.broken, err)
	return true
}

// isBroken reports whether the ring has not done in time what it owes.
func (c *current) isBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.broken) > 0
}

// startPrograms starts the receivers, and the senders when all servers are in service.
func (c *current) startPrograms(ctx context.Context) error {
	for _, senders := range []bool{false, true} {
		for _, p := range c.rig.Programs {
			if p.Sender != senders {
				continue
			}
			if err := p.Start(""); err != nil {
				return err
			}
		}
		if err := c.whole(ctx); err != nil {
			return err
		}
	}
	return nil
}

// breakThings lets the faults of the schedule come and go, while operators give
// their commands. When it returns, no fault is left.
func (c *current) breakThings(ctx context.Context) error {
	breakCtx, cancel := context.WithTimeout(ctx, c.Options.Round)
	defer cancel()
	var wg sync.WaitGroup
	operators := newOperators(c)
	operators.start(breakCtx, &wg)
	start := time.Now()
	for _, e := range c.Schedule {
		wg.Go(func() {
			if pause(breakCtx, time.Until(start.Add(e.At))) {
				c.one(breakCtx, e)
			}
		})
	}
	<-breakCtx.Done()
	wg.Wait()
	return nil
}

// one lets one fault come and go.
func (c *current) one(ctx context.Context, e fault.Event) {
	entry := &check.Fault{AtNs: check.Now(), Kind: e.Fault, Target: e.Targets, Detail: e.Detail}
	begun, err := fault.Begin(ctx, c.rig, e)
	c.mu.Lock()
	switch {
	case errors.Is(err, fault.ErrSkipped):
		c.Skipped = append(c.Skipped, fmt.Sprintf("%v: %v", e, err))
	case err != nil:
		c.failed = append(c.failed, fmt.Errorf("%v: %w", e, err))
	default:
		entry.Target, entry.Detail = begun.Targets, begun.Detail
		c.faults = append(c.faults, entry)
	}
	c.mu.Unlock()
	if err != nil {
		return
	}
	timer := time.NewTimer(e.For)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-begun.Early:
	case <-ctx.Done():
	}
	err = begun.End(context.WithoutCancel(ctx))
	c.mu.Lock()
	entry.UntilNs = check.Now()
	c.mu.Unlock()
	if err != nil && !c.blame(fmt.Errorf("end of %v: %w", e, err)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed = append(c.failed, fmt.Errorf("end of %v: %w", e, err))
	}
}

// ongoing names the faults that are there now.
func (c *current) ongoing() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults {
		if f.UntilNs == 0 {
			names = append(names, f.Kind+" "+strings.Join(f.Target, " "))
		}
	}
	return names
}

// heal starts whatever has ended and waits until the ring is whole.
func (c *current) heal(ctx context.Context) error {
	for _, h := range c.rig.Hosts {
		if !h.Node.Running() { // by itself, as with a full disk: the judge says whether it may
			if err := h.Start(""); err != nil {
				return err
			}
		}
	}
	for _, p := range c.rig.Programs {
		if !p.Running() {
			if err := p.Start(""); err != nil {
				return err
			}
		}
	}
	return c.whole(ctx)
}

// stopPrograms ends the senders, which wait until all that they sent is settled,
// and then the receivers when nothing is on its way to them any more.
func (c *current) stopPrograms(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rig.Patience+healWait)
	defer cancel()
	var errs []error
	for _, senders := range []bool{true, false} {
		for _, p := range c.rig.Programs {
			if p.Sender == senders {
				errs = append(errs, p.Hup())
			}
		}
		receivers := 0
		for _, p := range c.rig.Programs {
			if p.Sender == senders {
				errs = append(errs, p.Await(ctx))
			} else if !p.Sender {
				receivers++
			}
		}
		if senders && errors.Join(errs...) == nil && !c.isBroken() {
			// Senders that were killed have left messages with their nodes.
			errs = append(errs, c.watch.detached(ctx, c.attachedTo))
		}
	}
	return errors.Join(errs...)
}

// attachedTo returns how many receivers run on a host.
func (c *current) attachedTo(h *rig.Host) (n int) {
	for _, p := range c.rig.Programs {
		if p.Host == h && !p.Sender {
			n++
		}
	}
	return n
}

// settle waits until the nodes hold nothing for programs any more.
func (c *current) settle(ctx context.Context) error {
	if c.isBroken() {
		return nil // what did not settle before will not now
	}
	if err := c.watch.settledStandIns(ctx); err != nil {
		return err
	}
	return c.watch.detached(ctx, func(*rig.Host) int { return 0 })
}

// collect gathers what the round has left.
func (c *current) collect() (check.Round, error) {
	in := check.Round{
		Name: fmt.Sprintf("round %d, seed %d", c.Number, c.Seed), StartNs: c.startNs, EndNs: check.Now(), StandIns: c.StandInAfter > 0,
		Processes: c.rig.Processes(c.startNs), Observations: c.watch.take(), Ops: c.ops, Earlier: c.past, Traces: map[string]string{},
	}
	for _, f := range c.faults {
		in.Faults = append(in.Faults, *f)
	}
	var err error
	if in.Histories, err = readHistories(c.rig.HistoryDir()); err != nil {
		return in, err
	}
	for _, h := range c.rig.Hosts {
		in.Traces[h.Name] = h.TraceFile()
	}
	return in, nil
}

// readHistories reads all histories of a directory.
func readHistories(dir string) (all []check.History, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+traffic.HistoryExt))
	if err != nil {
		return nil, fmt.Errorf("find histories: %w", err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Size() == 0 {
			continue // its program was killed before it wrote the first line
		}
		h, err := check.Read(f)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// judge judges the round and drops what it has left, or keeps it if there is
// something wrong.
func (c *current) judge(ctx context.Context) error {
	in, err := c.collect()
	if err != nil {
		return err
	}
	if !c.isBroken() {
		c.compareUsage(ctx, &in)
	}
	for _, h := range in.Histories {
		c.past = append(c.past, h.Session)
	}
	c.Length = time.Duration(in.EndNs - in.StartNs)
	c.Report = check.Judge(in)
	c.addBroken()
	if !c.Report.OK() {
		if err := c.keep(in); err != nil {
			return err
		}
	}
	c.runner.report.Add(c.Report)
	c.out.end(c)
	c.rounds = append(c.rounds, c.Round)
	return c.clean()
}

// compareUsage takes down what nodes use, and used in the beginning.
func (c *current) compareUsage(ctx context.Context, in *check.Round) {
	usage := c.watch.usages(ctx, c.before)
	if len(c.before) == 0 && hasLeader(usage) {
		c.before = c.mostOfRole(usage)
	}
	for name, u := range usage {
		if before, ok := c.before[name]; ok {
			in.Before, in.After = append(in.Before, before), append(in.After, u)
		}
	}
}

// hasLeader reports whether the leader is among those that said what they use:
// without it nobody knows how much a leader may.
func hasLeader(usage map[string]check.Usage) bool {
	for _, u := range usage {
		if u.Leads {
			return true
		}
	}
	return false
}

// perHost is how many connections from each other host may be open without
// anybody at their other end: that it vanished without a word is found out by
// keepalive, after minutes. What leaks grows beyond it.
const perHost = 2

// mostOfRole returns for each server the most that any server uses, for each
// slave the most that any slave uses: whoever leads needs more than the others,
// and any server may come to lead.
func (c *current) mostOfRole(usage map[string]check.Usage) map[string]check.Usage {
	all := map[string]check.Usage{}
	for _, h := range c.rig.Hosts {
		most := check.Usage{AtNs: check.Now(), Node: h.Name}
		for name, u := range usage {
			if c.rig.Host(name).Slave() != h.Slave() {
				continue
			}
			most.Goroutines, most.Descriptors = max(most.Goroutines, u.Goroutines), max(most.Descriptors, u.Descriptors)
			most.HeapBytes, most.ResidentBytes = max(most.HeapBytes, u.HeapBytes), max(most.ResidentBytes, u.ResidentBytes)
			most.SegmentBytes, most.Attached = max(most.SegmentBytes, u.SegmentBytes), max(most.Attached, u.Attached)
		}
		most.Goroutines += perHost * len(c.rig.Hosts)
		most.Descriptors += perHost * len(c.rig.Hosts)
		all[h.Name] = most
	}
	return all
}

// addBroken adds what the judge does not see: what the ring did not do in time.
func (c *current) addBroken() {
	if err := c.rig.Failures(); err != nil {
		c.broken = append(c.broken, err)
	}
	for _, err := range c.broken {
		c.stuck = c.stuck || errors.Is(err, testcluster.ErrTimeout)
		if c.Report.Count == nil {
			c.Report.Count = map[check.Clause]int{}
		}
		c.Report.Count[check.Alive]++
		c.Report.Violations = append(c.Report.Violations,
			check.Violation{Clause: check.Alive, Text: err.Error(), Round: c.Report.Name, AtNs: check.Now()})
	}
}

// clean removes the histories of the round.
func (c *current) clean() error {
	if c.Keep {
		dir := fmt.Sprintf("%s-%02d", c.rig.HistoryDir(), c.Number)
		if err := os.Rename(c.rig.HistoryDir(), dir); err != nil {
			return fmt.Errorf("keep histories: %w", err)
		}
	} else if err := os.RemoveAll(c.rig.HistoryDir()); err != nil {
		return fmt.Errorf("remove histories: %w", err)
	}
	if err := os.Mkdir(c.rig.HistoryDir(), 0o750); err != nil {
		return fmt.Errorf("make directory of histories: %w", err)
	}
	return nil
}

// pause waits; it returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
