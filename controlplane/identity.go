package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Two processes may run as one server: the same configuration on two hosts, a
// copied data directory, one that hung and was started again elsewhere. The one
// that answers at the server's address, as the ring resolves it, is the server.
// The other one is not admitted, and keeps its raft quiet.

// Timings of the question who is who.
const (
	whoTimeout      = 1500 * time.Millisecond // for one address, by whoever is asked
	identityTimeout = 2 * time.Second         // for all answers
	whoLinger       = 100 * time.Millisecond  // for further ones after the first good one
	identityTick    = time.Second

	identityEvery  = 5 * time.Second // without doubt
	identityAskMax = 5               // of how many others then
)

// whoAnswer says which process start answers at the asking server's address, as
// seen from the server that was asked. Zero: none.
type whoAnswer struct {
	Boot  uint64 `json:"boot"`
	Level int    `json:"level,omitempty"` // that its ring needs, as far as who was asked knows
}

// bootAt returns which process start answers at the address of a server, 0 for
// none.
func (p *Plane) bootAt(ctx context.Context, id ring.ID) uint64 {
	if id == p.cfg.Self.ID && !p.cfg.Slave {
		return p.boot
	}
	return p.bootAtAddr(ctx, id, p.addressOf(id))
}

func (p *Plane) bootAtAddr(ctx context.Context, id ring.ID, addr string) uint64 {
	ctx, cancel := context.WithTimeout(ctx, whoTimeout)
	defer cancel()
	resp, err := p.client.callAnew(ctx, addr, p.request(opProbe, nil))
	var a probeAnswer
	if err != nil || resp.err() != nil || json.Unmarshal(resp.Body, &a) != nil || a.ID != id {
		return 0
	}
	return a.Boot
}

// isServer returns an error (ErrRefused) unless the process start that asks is
// the one that the ring reaches at the server's address.
func (p *Plane) isServer(ctx context.Context, req *request) error {
	switch at := p.bootAt(ctx, req.From); at {
	case req.Boot:
		return nil
	case 0:
		return fmt.Errorf("%w: its address %s does not lead to it, nobody answers there", ErrRefused, p.addressOf(req.From))
	default:
		return fmt.Errorf("%w: another process runs as this server, and is the one that answers at %s", ErrRefused, p.addressOf(req.From))
	}
}

// mayComeUp returns an error (ErrRefused) unless a server that wants to be UP is
// the one that the ring reaches, and can follow the log.
func (p *Plane) mayComeUp(ctx context.Context, req *request, up fsm.ServerUp) error {
	if req.From == p.cfg.Self.ID && req.Boot == p.boot {
		return nil
	}
	if up.Boot != req.Boot {
		return fmt.Errorf("%w: boot %x reports for boot %x", ErrRefused, req.Boot, up.Boot)
	}
	if err := p.isServer(ctx, req); err != nil {
		return err
	}
	if memberIndex(p.clusterOf(), raft.ServerID(req.RaftID)) < 0 { // also if it was forgotten meanwhile
		return fmt.Errorf("%w: raft id %q is no member, or no longer", ErrRefused, req.RaftID)
	}
	return nil
}

// decideIdentity returns why a process may not act as its server, "" if it may:
// answers are the boots that others find at the server's address, own is what
// the process finds there itself. Without any answer it may. It is pure.
func decideIdentity(boot uint64, answers []uint64, own uint64, addr string) (why string, other bool) {
	good := len(answers) == 0
	for _, at := range append(answers[:len(answers):len(answers)], own) {
		if at != 0 && at != boot {
			return fmt.Sprintf("another process runs as this server, and is the one that answers at %s: stop one of them", addr), true
		}
	}
	for _, at := range answers {
		good = good || at == boot
	}
	if !good {
		return fmt.Sprintf("this server's address %s does not lead here: the others get no answer there", addr), false
	}
	return "", false
}

// identity asks other servers, at most so many, and the network, who answers at
// this server's address; "" means this process.
func (p *Plane) identity(ctx context.Context, askMax int) (why string, other bool) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	var mu sync.Mutex // guards what follows
	var answers []uint64
	var own uint64
	needed := 0 // feature level
	var wg sync.WaitGroup
	for _, m := range p.someServers(askMax) {
		wg.Go(func() { // ended by ctx, awaited below
			if m.ID == p.cfg.Self.ID {
				at := p.bootAtAddr(ctx, m.ID, m.Addr)
				mu.Lock()
				defer mu.Unlock()
				own = at
				return
			}
			resp, err := p.client.call(ctx, m.Addr, p.request(opWho, nil))
			var a whoAnswer
			if err != nil || resp.err() != nil || json.Unmarshal(resp.Body, &a) != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, a.Boot)
			needed = max(needed, a.Level)
			if a.Boot == p.boot {
				time.AfterFunc(whoLinger, cancel)
			}
		})
	}
	wg.Wait()
	if why, other = decideIdentity(p.boot, answers, own, p.cfg.Self.Addr); why == "" {
		why = p.levelTooLow(needed) // before raft runs: it could not follow the log
	}
	return why, other
}

// someServers returns this server and at most n others, beginning with the one
// that is listed behind it.
func (p *Plane) someServers(n int) []Member {
	all := p.configured()
	i := slices.IndexFunc(all, func(m Member) bool { return m.ID == p.cfg.Self.ID })
	return append(slices.Clone(all[i:]), all[:i]...)[:min(n+1, len(all))]
}

// awaitIdentity waits until this process is the one that the ring reaches as
// this server, or ctx ends.
func (p *Plane) awaitIdentity(ctx context.Context) {
	for ctx.Err() == nil {
		why, _ := p.identity(ctx, len(p.configured()))
		if ctx.Err() != nil {
			return
		}
		p.setTwin(why)
		if why == "" {
			return
		}
		p.setWaiting(why, slog.LevelError)
		sleep(ctx, identityTick)
	}
}

// identityLoop looks who answers at this server's address: now and then, for
// connections that stand do not tell, and at once when there is doubt, after
// this process did not run for a while, or when the ring admitted another one
// after it. While it is somebody else, raft here plays dead.
func (p *Plane) identityLoop(ctx context.Context) {
	tick := time.NewTicker(identityTick)
	defer tick.Stop()
	was := false         // this start has been admitted
	looked := time.Now() // without doubt
	for {
		ask := len(p.configured())
		select {
		case <-p.doubts:
		case <-tick.C:
			v := p.view()
			s := v.Server(p.cfg.Self.ID)
			is := p.incarnation(v) != 0
			was = was || is
			if now := time.Now(); !was || is || s == nil || s.Status.Live() != ring.Up {
				if now.Sub(looked) < identityEvery {
					continue
				}
				looked, ask = now, identityAskMax
			}
		case <-ctx.Done():
			return
		}
		if _, other := p.identity(ctx, ask); !other || ctx.Err() != nil {
			continue // also without any answer: that is for the links to judge
		}
		p.stream.Load().Hold(true)
		p.awaitIdentity(ctx)
		p.stream.Load().Hold(false)
	}
}

// setTwin notes why this process may not act as its server, "" if it may.
func (p *Plane) setTwin(why string) {
	p.mu.Lock()
	changed := p.twin != why
	p.twin = why
	p.mu.Unlock()
	switch {
	case changed && why != "":
		p.log.Error(why)
	case changed:
		p.log.Warn("this process is the one that answers at the server's address again")
	}
}
