package node

import (
	"context"
	"net"
	"regexp"
	"slices"
	"sync/atomic"

	"github.com/chmpx/chmpx/controlplane/ctlport"
)

// rightsOfSlaves are the words of CTLSLAVES.
var rightsOfSlaves = map[string]ctlport.Rights{"FULL": ctlport.Full, "READONLY": ctlport.ReadOnly, "NONE": ctlport.Denied}

// slaveMay reports whether what the operators of a slave ask for may change the
// ring: only if the slave's host might do so at this node's control port.
func (n *Node) slaveMay(ctx context.Context, remote net.Addr) bool {
	return n.hosts.Rights(ctx, remote) == ctlport.Full
}

// newHosts returns which hosts the configuration lets use the control port.
func (n *Node) newHosts() *ctlport.Hosts {
	cfg := n.conf()
	c := ctlport.HostsConfig{
		Networks: cfg.CtlAllow, SlaveRights: rightsOfSlaves[cfg.CtlSlaves], Local: ctlport.Full,
		Resolver: n.opts.Resolver, Addresses: n.opts.Addresses,
	}
	if !n.self.Server {
		// A slave hands SERVICEOUT on: who runs on its host must not get more by
		// asking it. Looking is never taken away from a node's own host.
		c.Local = max(c.SlaveRights, ctlport.ReadOnly)
	}
	for _, s := range cfg.Servers {
		c.Servers = append(c.Servers, s.Name)
	}
	var patterns []*regexp.Regexp
	for _, s := range cfg.Slaves {
		names, pattern := s.Hosts()
		c.Slaves = append(c.Slaves, names...)
		if pattern != nil {
			patterns = append(patterns, pattern)
		}
	}
	if len(patterns) > 0 {
		c.Pattern = func(host string) bool {
			return slices.ContainsFunc(patterns, func(re *regexp.Regexp) bool { return re.MatchString(host) })
		}
	}
	return ctlport.NewHosts(c)
}

// gate is who may use the control port, by the configuration that counts. Its
// methods may be called from any goroutine.
type gate struct {
	now     atomic.Pointer[ctlport.Hosts]
	changed chan struct{} // there are others than those that run, capacity 1
}

func newGate(h *ctlport.Hosts) *gate {
	g := &gate{changed: make(chan struct{}, 1)}
	g.now.Store(h)
	return g
}

// Rights returns what the host at an address may do; see ctlport.Hosts.
func (g *gate) Rights(ctx context.Context, remote net.Addr) ctlport.Rights {
	return g.now.Load().Rights(ctx, remote)
}

// set makes others count. One call at a time.
func (g *gate) set(h *ctlport.Hosts) {
	h.Inherit(g.now.Load())
	g.now.Store(h)
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// run keeps those that count up to date until ctx ends. It runs each once, however
// often and early they change.
func (g *gate) run(ctx context.Context) error {
	for ctx.Err() == nil {
		h := g.now.Load()
		hctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- h.Run(hctx) }()        // ended by cancel, awaited here
		for ctx.Err() == nil && h == g.now.Load() { // what was signalled may be what runs already
			select {
			case <-g.changed:
			case <-ctx.Done():
			}
		}
		cancel()
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}
