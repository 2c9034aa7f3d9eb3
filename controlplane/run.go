package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
)

// Timings of a node.
const (
	leaderEventsMax = 8
	reachTick       = 500 * time.Millisecond
	leaveTimeout    = 2 * time.Second
	answersTimeout  = time.Second // at a stop, for raft to answer what it was asked
	answersLook     = 10 * time.Millisecond
)

// Run takes part in the ring until ctx ends (nil) or the node must stop
// because it can no longer follow the log (ErrStateMachine) or write it
// (raftnode.ErrDisk). It returns when
// everything it started has ended and the data directory is closed, unless the
// disk hangs: then the process should end. Call it once.
func (p *Plane) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(loop func(context.Context)) { wg.Go(func() { loop(ctx) }) }
	start(p.watchLoop)
	start(func(ctx context.Context) {
		select {
		case err := <-p.fatal:
			if !errors.Is(err, raftnode.ErrDisk) {
				err = fmt.Errorf("%w: %w", ErrStateMachine, err)
			}
			cancel(p.inDataDir(err))
		case <-ctx.Done():
		}
	})
	if p.cfg.Slave {
		start(func(ctx context.Context) {
			if err := p.slaveLoop(ctx); err != nil {
				cancel(err)
			}
		})
	} else {
		start(p.viewLoop)
		if err := p.startServer(ctx); err != nil {
			cancel(err)
		}
		if ctx.Err() == nil {
			start(p.leaderEvents)
			start(p.reachLoop)
			start(p.reportLoop)
			start(p.evidenceLoop)
			start(p.leadershipLoop)
			start(p.identityLoop)
		}
	}
	<-ctx.Done()
	ended := make(chan struct{})
	go func() { // ends with the loops; see settled
		defer close(ended)
		wg.Wait()
	}()
	// Loops end when raft has answered what they asked. A raft that stops leaves
	// entries that are committed and not applied yet without any answer, so it
	// gets a moment before; what has no quorum is answered by the stop.
	settled(ended)
	p.answered()
	err := p.Close()
	if !settled(ended) {
		p.log.Error("loops that wait for raft are left behind", "err", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	return err
}

// answered waits a moment for raft to answer what loops that have ended had
// asked: whoever asked and was not answered before the stop may wait for ever.
func (p *Plane) answered() {
	tick := time.NewTicker(answersLook)
	defer tick.Stop()
	limit := time.NewTimer(answersTimeout)
	defer limit.Stop()
	for p.asked.Load() > 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			return
		}
	}
}

// settled waits a moment for all loops to end and reports whether they did.
func settled(ended <-chan struct{}) bool {
	t := time.NewTimer(answersTimeout)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

// leaderEvents wakes those who talk to the leader when it is another one.
func (p *Plane) leaderEvents(ctx context.Context) {
	events := make(chan raft.Observation, leaderEventsMax)
	o := raft.NewObserver(events, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n := p.node.Load()
	n.RegisterObserver(o)
	defer n.DeregisterObserver(o)
	for {
		p.evidence.raise()
		p.reports.raise()
		p.looking.raise()
		select {
		case <-events:
		case <-ctx.Done():
			return
		}
	}
}

// reachLoop looks around while there is no leader, and keeps what the node
// waits for up to date.
func (p *Plane) reachLoop(ctx context.Context) {
	tick := time.NewTicker(reachTick)
	defer tick.Stop()
	var since time.Time // since when a slave has found nothing but other rings
	for {
		select {
		case <-p.looking:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_, addr := p.leader()
		var answers []answer
		var again string
		if addr == "" {
			answers = p.lookAround(ctx)
			again = p.joinAgain(ctx, answers)
		}
		switch now := time.Now(); {
		case !p.cfg.Slave || !onlyOthers(answers):
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= outlivedAfter:
			p.outlived.raise()
		}
		v := p.view()
		why, level := p.waitsFor(v, addr != "", answers)
		if again != "" {
			why, level = again, slog.LevelWarn
		}
		p.mu.Lock()
		p.foreign = slices.ContainsFunc(answers, func(a answer) bool { return a.refused })
		if (p.cfg.Slave && why != "" || why == waitsAdmission) && p.refused != "" {
			why = p.refused
		}
		if p.twin != "" {
			why = p.twin
		}
		p.mu.Unlock()
		p.setWaiting(why, level)
	}
}

// waitsAdmission is what a node waits for whose ring has a leader.
const waitsAdmission = "waiting for the ring to admit this start"

// setRefused notes why the ring does not admit this node, "" for no reason.
func (p *Plane) setRefused(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = why
}

// lookAround probes all servers and notes who answers.
func (p *Plane) lookAround(ctx context.Context) []answer {
	answers := p.probeAll(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range answers {
		p.reach[a.member.ID] = a.ok && !a.Empty
	}
	return answers
}

// waitsFor says what keeps this node from taking part, "" for nothing, and how
// loud to say it. answers are those of the other servers when there is no leader.
func (p *Plane) waitsFor(v fsm.View, led bool, answers []answer) (string, slog.Level) {
	switch {
	case !led:
		return p.waitsForLeader(v, answers)
	case p.cfg.Slave && !slaveIsUp(v, p.cfg.Self.ID, p.boot), !p.cfg.Slave && p.incarnation(v) == 0:
		return waitsAdmission, slog.LevelInfo
	}
	return "", slog.LevelInfo
}

// waitsForLeader says why there is no leader.
func (p *Plane) waitsForLeader(v fsm.View, answers []answer) (string, slog.Level) {
	var foreign []string
	for _, a := range answers {
		if a.refused {
			foreign = append(foreign, a.member.Addr)
		}
	}
	if len(foreign) > 0 {
		text := "no leader, and of another ring: " + strings.Join(foreign, ", ")
		if p.cfg.Slave {
			return text, slog.LevelWarn
		}
		return text + "; to join that ring move the data directory of this server away and start it again", slog.LevelWarn
	}
	cluster := p.clusterOf()
	for _, a := range answers {
		// A server that was there to see it lists itself no more; one that is about to join has no cluster.
		if id := p.raftID.Load(); a.Removed && p.wasListed() && id != nil && (!p.cfg.Slave && len(cluster) > 0 || memberIndex(cluster, *id) >= 0) {
			return fmt.Sprintf("%s says that %s is no member of the ring any more: this data directory was replaced by a newer start of this server, or the server was removed; move the directory away and start it again to join anew", a.member.Addr, *id), slog.LevelError
		}
	}
	q := p.quorum(v, cluster, false)
	if q.Voters == 0 {
		return "waiting for a leader of the ring to admit this node", slog.LevelInfo
	}
	last := p.node.Load().LastIndex()
	begun := p.cfg.Slave || last > bootstrapEntry
	if id := p.raftID.Load(); id != nil && !p.cfg.Slave && begun {
		k := kept{id: *id, cluster: cluster, last: last}
		switch d := decideRecover(p.cfg.Self.ID, k, true, answers); d.kind {
		case recoverNow:
			// the servers with empty disks repeat it, so it names this one
			return fmt.Sprintf("%s; start %s again with --bootstrap to go on with what it knows of the ring", d.why, p.cfg.Self.Addr), slog.LevelError
		case recoverRefuse:
			return d.why, slog.LevelError
		}
	}
	if q.Have >= q.Need {
		return "waiting for the election of a leader", slog.LevelInfo
	}
	text := fmt.Sprintf("no quorum: %d of %d voters reachable, %d needed, missing %s",
		q.Have, q.Voters, q.Need, strings.Join(q.Missing, ", "))
	if q.Voters == 1 && !p.cfg.Slave {
		text += onlyVoterAway
		if p.timesNow().AwaitStandIns {
			text += "; where REPLICA allows, STANDINAFTER ends that wait of its keys"
		}
	}
	if !begun {
		return text, slog.LevelInfo // there was never a quorum to be lost
	}
	return text, slog.LevelError
}

// bootstrapEntry is the index of the configuration that a first voter begins its
// log with. While there is nothing behind it no server has led, so the others
// have not lost their disks: they have not begun yet.
const bootstrapEntry = 1

// onlyVoterAway says what a server of a ring with one voter cannot decide alone.
const onlyVoterAway = ". It is the only voter, so until it is back nobody is declared DOWN or UP here, its keys wait for it, " +
	"and no server comes or goes; all other keys are served"

// Leave takes the node out of the ring in order: it reports itself down
// (clean) and, if it leads, hands the lead over within 2 s. Bounded by ctx; an
// error says what did not work, the node may end all the same. Run goes on.
func (p *Plane) Leave(ctx context.Context) error {
	p.mu.Lock()
	p.leaving = true
	p.mu.Unlock()
	if p.node.Load() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*leaveTimeout)
	defer cancel()
	err := p.reportLeave(ctx)
	if p.leads() && p.quorum(p.view(), p.clusterOf(), true).Voters > 1 {
		tctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		if terr := p.handOver(tctx); terr != nil {
			err = errors.Join(err, fmt.Errorf("hand the lead over: %w", terr))
		}
	}
	return err
}

// reportLeave proposes that this node is DOWN, if the ring thinks it is UP.
func (p *Plane) reportLeave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	v := p.view()
	inc := p.incarnation(v)
	switch {
	case p.cfg.Slave && slaveIsUp(v, p.cfg.Self.ID, p.boot):
		return p.propose(ctx, fsm.SlaveDown{ID: p.cfg.Self.ID, Boot: p.boot})
	case inc != 0:
		return p.propose(ctx, fsm.NodeDown{ID: p.cfg.Self.ID, Incarnation: inc})
	}
	return nil
}
