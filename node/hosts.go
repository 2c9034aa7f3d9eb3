package node

import (
	"context"
	"net"
	"regexp"
	"slices"

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
	c := ctlport.HostsConfig{
		Networks: n.cfg.CtlAllow, SlaveRights: rightsOfSlaves[n.cfg.CtlSlaves], Local: ctlport.Full,
		Resolver: n.opts.Resolver, Addresses: n.opts.Addresses,
	}
	if !n.self.Server {
		// A slave hands SERVICEOUT on: who runs on its host must not get more by
		// asking it. Looking is never taken away from a node's own host.
		c.Local = max(c.SlaveRights, ctlport.ReadOnly)
	}
	for _, s := range n.cfg.Servers {
		c.Servers = append(c.Servers, s.Name)
	}
	var patterns []*regexp.Regexp
	for _, s := range n.cfg.Slaves {
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
