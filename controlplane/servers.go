package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// ErrNoRingYet says that a server cannot take another list of servers before it
// belongs to a ring: with whom it starts one was settled at its start.
var ErrNoRingYet = errors.New("controlplane: this server has no ring yet")

// configured returns the servers of the configuration, sorted by id. The result
// is shared: do not change it.
func (p *Plane) configured() []Member { return *p.servers.Load() }

// configuredServer returns the configured server with this id, nil if there is none.
func (p *Plane) configuredServer(id ring.ID) *Member {
	all := p.configured()
	if i := slices.IndexFunc(all, func(m Member) bool { return m.ID == id }); i >= 0 {
		return &all[i]
	}
	return nil
}

// known returns the servers of the configuration, and behind them the members of
// the ring that it lacks.
func (p *Plane) known() []Member {
	all := p.configured()
	t := p.view().Table
	if t == nil {
		return all
	}
	for _, s := range t.Servers {
		if p.configuredServer(s.ID) == nil {
			all = append(all[:len(all):len(all)], Member{ID: s.ID, Identity: s.Identity, Addr: s.Addr})
		}
	}
	return all
}

// knows reports whether a server is configured here or a member of the ring,
// which nobody ceases to be for not being in a file.
func (p *Plane) knows(id ring.ID) bool {
	return p.configuredServer(id) != nil || p.view().Server(id) != nil
}

// SetServers replaces Config.Servers by a list with the same rules (ErrConfig).
// New servers may join from then on; members of the ring that are missing stay
// members. Any goroutine, between New and the end of Run.
func (p *Plane) SetServers(servers []Member) error {
	c := p.cfg
	c.Servers = servers
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	before := p.configured()
	if slices.Equal(before, c.Servers) {
		return nil
	}
	if !p.cfg.Slave && !p.hadState && p.node.Load() == nil {
		return fmt.Errorf("%w: it starts one with the servers of its first configuration", ErrNoRingYet)
	}
	p.servers.Store(&c.Servers)
	p.relisted.raise()
	return nil
}

// sessionsTick is how often a slave looks for members of the ring that are new.
const sessionsTick = time.Second

// keepSessions keeps a slave's sessions: one with each server that it knows, any
// of which may lead, and with the leader that has answered last, which may be
// none of them: a slave that joins knows its configuration alone. It ends with ctx, and its sessions have then ended.
func (p *Plane) keepSessions(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[Member]context.CancelFunc{}
	defer func() {
		for _, end := range running {
			end()
		}
	}()
	tick := time.NewTicker(sessionsTick)
	defer tick.Stop()
	for {
		wanted := p.known()
		if addr := p.answeredBy.Load(); addr != nil && !slices.ContainsFunc(wanted, func(m Member) bool { return m.Addr == *addr }) {
			wanted = append(wanted[:len(wanted):len(wanted)], Member{Identity: ring.Identity{Name: *addr}, Addr: *addr})
		}
		for m, end := range running {
			if !slices.Contains(wanted, m) {
				end()
				delete(running, m)
			}
		}
		for _, m := range wanted {
			if running[m] == nil {
				sctx, end := context.WithCancel(ctx)
				running[m] = end
				wg.Go(func() { p.sessionLoop(sctx, m) })
			}
		}
		select {
		case <-p.relisted:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
