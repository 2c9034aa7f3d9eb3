package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/mux"
)

// Timings of a slave.
const (
	sessionRetryMin = 100 * time.Millisecond
	sessionRetryMax = time.Second
	sessionTimeout  = 5 * time.Second
	slaveTick       = 500 * time.Millisecond
	outlivedAfter   = 3 * time.Second // a slave that has found only other rings of its group for so long joins one
)

// slaveLoop is a slave's life in one ring after the other: a ring may be wiped
// and started anew while the slave runs, whose programs must not notice.
func (p *Plane) slaveLoop(ctx context.Context) error {
	for {
		if err := p.startSlave(); err != nil {
			return err
		}
		lctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for _, loop := range []func(context.Context){p.viewLoop, p.leaderEvents, p.reachLoop, p.joinLoop, p.keepSessions} {
			wg.Go(func() { loop(lctx) })
		}
		again := p.outlived.wait(ctx)
		cancel()
		wg.Wait()
		if !again {
			return nil // Close stops raft
		}
		if err := p.forgetRing(); err != nil {
			return err
		}
	}
}

// forgetRing makes a slave as it was at its start. Its data plane keeps the
// table until the next ring has one. None of its loops may run.
func (p *Plane) forgetRing() error {
	p.log.Warn("the ring that this slave belonged to is no more, joining the one that the servers have now", "ring", p.realmName())
	n := p.node.Swap(nil)
	if err := n.Stop(); err != nil {
		return fmt.Errorf("leave the old ring: %w", err)
	}
	p.stores = raftnode.MemoryStores()
	p.fsm.Store(fsm.NewRaftFSMOf(p.cfg.Build, p.onApply, p.onFatal))
	p.realm.Store(0)
	p.setRefused("")
	return nil
}

// onlyOthers reports whether servers answer, and all of them from other rings
// of the group.
func onlyOthers(answers []answer) bool {
	others := false
	for _, a := range answers {
		if a.ok {
			return false
		}
		others = others || a.foreign
	}
	return others
}

// startSlave starts raft on a slave: without state and without configuration,
// it waits for a leader that was told to add it.
func (p *Plane) startSlave() error { return p.startRaft(slaveRaftID(p.cfg.Self.ID), nil) }

// sessionLoop keeps a session with one server and hands the streams that the
// server opens on it to raft.
func (p *Plane) sessionLoop(ctx context.Context, server Member) {
	hello := mux.SessionHello{
		Group: p.cfg.Group, ID: string(slaveRaftID(p.cfg.Self.ID)), Name: p.cfg.Self.label(), Level: p.cfg.Build.Speaks().Max,
	}
	wait := sessionRetryMin
	for ctx.Err() == nil {
		octx, cancel := context.WithTimeout(ctx, sessionTimeout)
		s, err := mux.OpenSession(octx, p.cfg.Dial, server.Addr, hello, p.log)
		cancel()
		if err != nil {
			p.log.Debug("no session with a server", "server", server.label(), "err", err)
			sleep(ctx, wait)
			wait = min(2*wait, sessionRetryMax)
			continue
		}
		began := time.Now()
		p.serveSession(ctx, s)
		if time.Since(began) >= sessionRetryMax {
			wait = sessionRetryMin
			continue
		}
		// Another process with our id may be pushing us out, as we do it.
		sleep(ctx, wait)
		wait = min(2*wait, sessionRetryMax)
	}
}

// serveSession hands the streams of one session to raft until it ends.
func (p *Plane) serveSession(ctx context.Context, s *mux.Session) {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	defer s.Close()
	p.reports.raise()
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		p.stream.Load().DeliverStream(conn)
	}
}

// joinLoop makes the ring list this slave as UP, and raft's leader talk to it.
func (p *Plane) joinLoop(ctx context.Context) {
	tick := time.NewTicker(slaveTick)
	defer tick.Stop()
	for {
		select {
		case <-p.reports:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		leaving := p.leaving
		p.mu.Unlock()
		_, leader := p.leader()
		if leaving || leader != "" && slaveIsUp(p.view(), p.cfg.Self.ID, p.boot) {
			continue
		}
		body := joinSlaveBody{RaftID: string(slaveRaftID(p.cfg.Self.ID)), Slave: p.cfg.Self.Identity, Boot: p.boot, Levels: p.cfg.Build.Speaks().Brief()}
		jctx, cancel := context.WithTimeout(ctx, proposeTimeout)
		_, err := p.toLeader(jctx, p.request(opJoinSlave, body))
		cancel()
		refused := ""
		switch {
		case err == nil:
			p.awaitListed(ctx)
			sleep(ctx, reportRetry) // if somebody else with our id is listed next: at this pace
		case errors.Is(err, ErrRefused), errors.Is(err, ErrOtherRing):
			refused = "the ring does not take this slave: " + err.Error()
		}
		p.setRefused(refused)
		if refused != "" {
			p.looking.raise()
			sleep(ctx, reportRetry)
		}
	}
}

// awaitListed waits a moment for the state in which the slave is listed: the
// leader has to reach it first.
func (p *Plane) awaitListed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	for !slaveIsUp(p.view(), p.cfg.Self.ID, p.boot) && p.reports.wait(ctx) {
	}
}
