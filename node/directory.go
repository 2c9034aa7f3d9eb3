package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/ring"
)

// lookupTimeout bounds looking up all names of one command together.
const lookupTimeout = time.Second

// directory finds servers by what operators call them: members of the ring and
// servers of the configuration. Its methods may be called from any goroutine.
type directory struct {
	group   string
	idType  ring.IDType
	self    ring.ID
	servers func() []config.Server // of the configuration
	table   func() *ring.Table
	lookup  func(ctx context.Context, host string) []netip.Addr // of a name or an address; nil: it has none
}

// find returns the server that is meant. Its NAME counts before any look-up.
func (d *directory) find(ctx context.Context, ref ctlport.ServerRef) (ring.ID, error) {
	all := d.known(ref)
	named := slices.Collect(func(yield func(candidate) bool) {
		for _, c := range all {
			if (ref.Host == "" || strings.EqualFold(c.name, ref.Host)) && !yield(c) {
				return
			}
		}
	})
	if len(named) == 0 && len(all) > 0 {
		named = d.resolve(ctx, ref.Host, all)
	}
	switch len(named) {
	case 0:
		return 0, fmt.Errorf("no server of the ring or the configuration is called %s", ref)
	case 1:
		return named[0].id, nil
	}
	how := "its third part"
	if ref.Host == "" || ref.CtlPort == 0 {
		how = "HOST:CTLPORT"
	}
	return 0, fmt.Errorf("%d servers are called %s: name one by %s", len(named), ref, how)
}

// candidate is a server that may be meant.
type candidate struct {
	id   ring.ID
	name string
}

// known returns the servers for which all is true that is said beside the host.
func (d *directory) known(ref ctlport.ServerRef) []candidate {
	var all []candidate
	t := d.table()
	if t != nil {
		for _, s := range t.Servers {
			if ref.Matches(d.idType, s.Identity) {
				all = append(all, candidate{s.ID, s.Name})
			}
		}
	}
	for _, s := range d.servers() {
		if m := member(d.group, d.idType, s); t.Index(m.ID) < 0 && ref.Matches(d.idType, m.Identity) {
			all = append(all, candidate{m.ID, m.Name})
		}
	}
	return all
}

// resolve returns the candidates that have an address of host; an address of
// this host, the loopback's for one, means this node.
func (d *directory) resolve(ctx context.Context, host string, all []candidate) []candidate {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var wg sync.WaitGroup
	found := make([][]netip.Addr, 1+len(all))
	wg.Go(func() { found[0] = d.lookup(ctx, host) }) // ended by ctx, as the others
	for i, c := range all {
		wg.Go(func() { found[1+i] = d.lookup(ctx, c.name) })
	}
	wg.Wait()
	here := slices.ContainsFunc(found[0], isHere)
	var out []candidate
	for i, c := range all {
		if here && c.id == d.self || slices.ContainsFunc(found[1+i], func(a netip.Addr) bool { return slices.Contains(found[0], a) }) {
			out = append(out, c)
		}
	}
	return out
}

// isHere reports whether an address is one of this host.
func isHere(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

// lookupHost asks the system's resolver.
func lookupHost(ctx context.Context, host string) []netip.Addr {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}
