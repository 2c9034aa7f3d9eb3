package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Timings of the leader.
const (
	barrierTimeout = 5 * time.Second
	leaderRetry    = 100 * time.Millisecond
	judgeTick      = 100 * time.Millisecond
	mergeTick      = 500 * time.Millisecond
	mergeCoalesce  = 150 * time.Millisecond // several changes of membership make one plan
	mergeRefused   = 100 * time.Millisecond
)

// leadershipLoop runs the leader's duties while this node leads.
func (p *Plane) leadershipLoop(ctx context.Context) {
	n := p.node.Load()
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return
		case lead := <-n.LeaderCh():
			stop()
			stop = func() {}
			if !lead {
				p.log.Info("this node no longer leads the ring")
				continue
			}
			lctx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() { // awaited by stop
				defer close(done)
				p.lead(lctx)
			}()
			stop = func() { cancel(); <-done }
		}
	}
}

// lead does the leader's duties until ctx ends.
func (p *Plane) lead(ctx context.Context) {
	defer p.leading.Store(false)
	if !p.takeOver(ctx) {
		return
	}
	p.log.Info("this node leads the ring", "group", p.cfg.Group)
	p.leading.Store(true)
	since := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { p.commitLoop(ctx) })
	wg.Go(func() { p.verdictLoop(ctx) })
	wg.Go(func() { p.mergeLoop(ctx) })
	wg.Go(func() { p.memberLoop(ctx, since) })
	wg.Go(func() { p.standInLoop(ctx) })
	p.applied.raise()
	p.reports.raise()
	wg.Wait()
}

// takeOver waits until everything committed by earlier leaders is applied here,
// forgets what was reported to this node when it led before, and starts the
// ring if there is none.
func (p *Plane) takeOver(ctx context.Context) bool {
	p.mu.Lock()
	clear(p.observed)
	clear(p.outdated)
	for id := range p.links {
		p.outdated[id] = true
	}
	clear(p.collecting)
	p.alarm = ""
	p.mu.Unlock()
	for ctx.Err() == nil {
		term := p.node.Load().CurrentTerm()
		err := p.node.Load().Barrier(barrierTimeout).Error()
		if err == nil {
			p.ledTerm.Store(term)
		}
		if err == nil && p.view().RingID == 0 {
			init := fsm.RingInit{RingID: randomUint64(), Era: 1, Group: p.cfg.Group, Params: p.cfg.Params}
			_, err = p.proposeHere(ctx, init)
			if err == nil {
				p.log.Info("ring started", "group", p.cfg.Group, "ring", fmt.Sprintf("%016x", init.RingID))
			}
		}
		if err == nil || errors.Is(err, fsm.ErrRingExists) {
			return true
		}
		p.log.Debug("cannot take the lead yet", "err", err)
		sleep(ctx, leaderRetry)
	}
	return false
}

// errJustElected says that a leader may not have applied yet what others committed.
var errJustElected = errors.New("the leader has only just been elected")

// upToDate reports whether this node has applied, if it leads, all that earlier
// leaders committed. It may have lost the lead and got it back while its loops still
// end for the first loss.
func (p *Plane) upToDate() bool {
	n := p.node.Load()
	return n != nil && n.CurrentTerm() == p.ledTerm.Load()
}

// commitLoop makes followers hear of commits at once: they learn the commit
// index with the next entry, which would otherwise be up to CommitTimeout away.
func (p *Plane) commitLoop(ctx context.Context) {
	for p.commits.wait(ctx) {
		if err := p.node.Load().Barrier(barrierTimeout).Error(); err != nil {
			p.log.Debug("barrier failed", "err", err)
		}
	}
}

// watchLoop notices when this process did not run for a while (what it and its
// links believe about others then is worth nothing), and looks after the disk
// and OWNERLEASE.
func (p *Plane) watchLoop(ctx context.Context) {
	tick := time.NewTicker(judgeTick)
	defer tick.Stop()
	last := time.Now()
	var disk diskWatch
	var owner lease
	defer owner.wait()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		gap := now.Sub(last)
		p.mu.Lock()
		p.ranAt = now
		if gap > pauseLimit {
			p.pausedAt = now
			clear(p.observed)
		}
		p.mu.Unlock()
		if gap > pauseLimit {
			p.log.Warn("this process did not run for a while", "ms", gap.Milliseconds())
			p.doubts.raise()
		}
		last = now
		if !p.cfg.Slave { // which has no disk, and never leads
			disk.look(p)
			owner.look(ctx, p, now)
		}
	}
}

// verdictLoop declares servers DOWN.
func (p *Plane) verdictLoop(ctx context.Context) {
	tick := time.NewTicker(judgeTick)
	defer tick.Stop()
	known := make(map[ring.ID]knownServer)
	var silent []time.Time // when servers were declared DOWN for silence
	for {
		select {
		case <-p.judging:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		v := p.view()
		c, ok := p.gather(v, known, now)
		if !ok {
			continue
		}
		c.silentBudget, silent = silentBudgetOf(len(c.servers), silent, now)
		down, held := judge(c)
		if p.askOutdated(ctx, &c, slices.Concat(down, held)) {
			down, held = judge(c)
		}
		p.setAlarm(v, held)
		for _, d := range down {
			if err := p.execute(ctx, v, d); err != nil {
				p.log.Debug("verdict not committed", "server", serverName(v, d.id), "err", err)
				break
			}
			if d.state == ring.LinkSilent {
				silent = append(silent, now)
			}
		}
	}
}

// knownServer is since when the leader knows an incarnation, and since when
// its link has led to a process that does not know it (zero: it does not).
type knownServer struct {
	incarnation ring.Incarnation
	since       time.Time
	replaced    time.Time
}

// gather puts together what a verdict rests on; false while there is nothing
// to rest it on, after a pause.
func (p *Plane) gather(v fsm.View, known map[ring.ID]knownServer, now time.Time) (court, bool) {
	c := court{self: p.cfg.Self.ID, own: make(map[ring.ID]ring.Evidence), others: make(map[ring.ID]observer)}
	if v.Table == nil {
		return c, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range v.Table.Servers {
		k := known[s.ID]
		if k.incarnation != s.Incarnation || k.since.IsZero() {
			k = knownServer{incarnation: s.Incarnation, since: now}
		}
		switch e := p.links[s.ID]; {
		case e.State != ring.LinkAlive || e.Incarnation >= s.Incarnation || p.collects(s.ID, now):
			k.replaced = time.Time{}
		case k.replaced.IsZero():
			k.replaced = now
		}
		known[s.ID] = k
		c.servers = append(c.servers, subject{
			id: s.ID, incarnation: s.Incarnation, up: s.Status.Live() == ring.Up,
			settled:  now.Sub(k.since) >= settleTime,
			replaced: !k.replaced.IsZero() && now.Sub(k.replaced) >= settleTime,
		})
	}
	// After a pause the verdict may come to run before the watch does.
	if now.Sub(p.pausedAt) < pauseLimit || now.Sub(p.ranAt) > pauseLimit {
		return c, false
	}
	for id, e := range p.links {
		c.own[id] = e
	}
	for id, o := range p.observed {
		if now.Sub(o.at) < evidenceAge {
			c.others[id] = o
		}
	}
	return c, true
}

// askOutdated asks those whom it would be decided about by what links showed before
// this node led, whether they are there: who comes back together with the majority has
// often no link yet. It notes who answers, and that evidence against the others is
// as good as new; false: there was nobody to ask.
func (p *Plane) askOutdated(ctx context.Context, c *court, verdicts []verdict) bool {
	actx, cancel := context.WithTimeout(ctx, outdatedTimeout)
	defer cancel()
	var wg sync.WaitGroup
	asked := false
	for i := range c.servers {
		s := &c.servers[i]
		judged := slices.ContainsFunc(verdicts, func(d verdict) bool { return d.id == s.id && d.state != ring.LinkAlive })
		if !judged || s.settled || !p.isOutdated(s.id) { // settled: it has had the time for a link, and to be admitted
			continue
		}
		asked = true
		wg.Go(func() { // ended by actx, awaited below
			s.answers = p.bootAtAddr(actx, s.id, p.addressOf(s.id)) != 0
			if !s.answers && ctx.Err() == nil {
				p.mu.Lock()
				delete(p.outdated, s.id)
				p.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return asked
}

func (p *Plane) isOutdated(id ring.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outdated[id]
}

// execute proposes one verdict.
func (p *Plane) execute(ctx context.Context, v fsm.View, d verdict) error {
	if err := p.node.Load().VerifyLeader().Error(); err != nil {
		return fmt.Errorf("verify the lead: %w", err)
	}
	if _, err := p.proposeHere(ctx, fsm.NodeDown{ID: d.id, Incarnation: d.incarnation}); err != nil {
		return err
	}
	evidence := d.state.String()
	if d.state == ring.LinkAlive {
		evidence = "restarted and not admitted"
	}
	p.log.Warn("server is down", "server", serverName(v, d.id), "incarnation", uint64(d.incarnation), "evidence", evidence)
	return nil
}

// setAlarm tells the operator when servers stay UP only because too many fell
// silent at once.
func (p *Plane) setAlarm(v fsm.View, held []verdict) {
	text := ""
	for _, h := range held {
		text += " " + serverName(v, h.id)
	}
	if text != "" {
		text = "too many servers fell silent at once, not declared DOWN yet:" + text
	}
	p.mu.Lock()
	changed := p.alarm != text
	p.alarm = text
	p.mu.Unlock()
	if changed && text != "" {
		p.log.Error(text)
	}
}

// mergeLoop drives services and merges: it asks fsm what comes next, and
// proposes that.
func (p *Plane) mergeLoop(ctx context.Context) {
	tick := time.NewTicker(mergeTick)
	defer tick.Stop()
	waits := new(leaderWaits)
	for {
		select {
		case <-p.merging:
			// Changes of membership come in bursts: wait for them to end, unless a
			// merge runs, whose steps follow each other.
			if !p.view().Operating() {
				sleep(ctx, mergeCoalesce)
			}
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil && p.mergeStep(ctx, waits) {
		}
	}
}

// mergeStep proposes at most one command and reports whether there may be more.
func (p *Plane) mergeStep(ctx context.Context, waits *leaderWaits) bool {
	v := p.view()
	now := time.Now()
	waits.look(v, now)
	c, ok := waits.overdue(v, now)
	if ok {
		p.log.Warn("a merge has run for longer than MERGETIMEOUT and is ended without result; nothing starts before the next command or change of membership", "merge", v.Merge.ID)
	} else if c, ok = waits.holdOver(v, now); !ok {
		c, ok = fsm.NextMergeStep(v, waits.nowUs(now))
	}
	if !ok {
		c, ok = outOfService(v, p.timesNow().DownOut, func(id ring.ID) time.Duration { return waits.downFor(id, now) })
	}
	if !ok {
		return false
	}
	res, err := p.proposeHere(ctx, c.Body)
	if err != nil {
		if ctx.Err() == nil {
			p.log.Debug("merge step refused", "type", c.Type().String(), "err", err)
			sleep(ctx, mergeRefused)
		}
		return false
	}
	p.log.Debug("merge step", "type", c.Type().String(), "index", res.Index)
	return true
}

// outOfService returns the SERVICEOUT that AUTOMERGE owes a server that has
// been DOWN for downOut, if all its data is served by others. Who restarts, or is
// to be replaced, stays. It is pure.
func outOfService(v fsm.View, downOut time.Duration, downFor func(ring.ID) time.Duration) (fsm.Command, bool) {
	if v.Table == nil || !v.Params.AutoMerge || v.SuspendMerge || v.MergeHeld || v.Operating() || downOut < 0 {
		return fsm.Command{}, false
	}
	staying := 0
	for _, s := range v.Table.Servers {
		if s.Status.Ring() == ring.ServiceIn && s.Status.Action() != ring.Delete && s.Status.Live() == ring.Up {
			staying++
		}
	}
	for i, s := range v.Table.Servers {
		st := s.Status
		if v.Members[i].HoldUs > 0 || v.Members[i].ReplacedBy != 0 {
			continue
		}
		if st.Ring() == ring.ServiceIn && st.Live() == ring.Down && st.Action() == ring.NoAct && staying > 0 &&
			downFor(s.ID) >= downOut && v.Covered(s.ID) {
			return fsm.Command{Body: fsm.ServiceOut{ID: s.ID, Auto: true}}, true
		}
	}
	return fsm.Command{}, false
}

// serverName returns how to call a member in logs.
func serverName(v fsm.View, id ring.ID) string {
	if s := v.Server(id); s != nil {
		return fmt.Sprintf("%s:%d", s.Name, s.CtlPort)
	}
	return id.String()
}
