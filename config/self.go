package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// resolveTimeout bounds what SelfNode waits for resolvers, all names together.
const resolveTimeout = 2 * time.Second

// Self is the local node as the file has it.
type Self struct {
	Server        bool
	Name          string // of a slave: the local name that its NAME matched
	Port, CtlPort int    // Port is 0 for a slave
	CUK           string
	CtlEndpoints  string // as in Server
	CustomSeed    string
}

// SelfNode finds the local node: the [SVRNODE] with this control port (and
// this CUK, unless it is "") whose host is the local one, else the [SLVNODE]
// with this control port whose NAME matches a local name. More than one of
// them is an error, unless slave entries have the same id. ctlPort 0 and cuk ""
// stand for SELFCTLPORT and SELFCUK. It asks the resolver only for names that
// it does not know to be local or foreign, for 2 s at most. Errors wrap
// ErrConfig and say what was looked for and what the file has.
func (c *Config) SelfNode(ctlPort int, cuk string) (Self, error) {
	l, err := thisHost()
	if err != nil {
		return Self{}, refusef("find out the names of this host: %w", err)
	}
	return c.selfNode(l, ctlPort, cuk)
}

// locality is what a host knows about itself.
type locality struct {
	hostname  string
	addresses []netip.Addr
	lookup    func(ctx context.Context, host string) ([]netip.Addr, error)
}

func thisHost() (locality, error) {
	l := locality{lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
	var err error
	if l.hostname, err = os.Hostname(); err != nil {
		return l, err
	}
	addresses, err := net.InterfaceAddrs()
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			l.addresses = append(l.addresses, prefix.Addr().Unmap())
		}
	}
	return l, err
}

// names returns the local names in the order in which a slave takes one.
func (l locality) names() []string {
	all := []string{l.hostname, "localhost"}
	for _, a := range l.addresses {
		all = append(all, a.String())
	}
	return append(all, "127.0.0.1", "::1")
}

func (l locality) hasAddress(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsLoopback() || slices.ContainsFunc(l.addresses, func(b netip.Addr) bool { return a == b.WithZone("") })
}

// knows reports whether a name is local, as far as that is clear without a
// resolver; sure is false for a name that only a resolver can decide.
func (l locality) knows(name string) (local, sure bool) {
	if a, err := netip.ParseAddr(name); err == nil {
		return l.hasAddress(a), true
	}
	local = name == "localhost" || name == l.hostname
	return local, local
}

// resolve returns those of the servers whose names resolve to this host. The
// error is about names that could not be asked for; unknown ones are foreign.
func (l locality) resolve(servers []Server) ([]Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	const atOnce = 16
	local := make([]bool, len(servers))
	failed := make([]error, len(servers))
	tickets := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, s := range servers {
		tickets <- struct{}{}
		if err := ctx.Err(); err != nil {
			failed[i] = fmt.Errorf("resolve %s: %w", s.Name, err)
			break // and nobody behind it is asked for
		}
		wg.Go(func() {
			defer func() { <-tickets }()
			addresses, err := l.lookup(ctx, s.Name)
			var dns *net.DNSError
			if err != nil && !(errors.As(err, &dns) && dns.IsNotFound) {
				failed[i] = fmt.Errorf("resolve %s: %w", s.Name, err)
			}
			local[i] = slices.ContainsFunc(addresses, l.hasAddress)
		})
	}
	wg.Wait()
	var found []Server
	for i, s := range servers {
		if local[i] {
			found = append(found, s)
		}
	}
	return found, cmp.Or(failed...)
}

// selfNode is SelfNode on any host.
func (c *Config) selfNode(l locality, ctlPort int, cuk string) (Self, error) {
	ctlPort, cuk = cmp.Or(ctlPort, c.SelfCtlPort), cmp.Or(cuk, c.SelfCUK)
	switch {
	case ctlPort == 0:
		return Self{}, refusef("%s: which node is this one? Set SELFCTLPORT in [GLOBAL] or use -ctlport", c.Source)
	case ctlPort < 1 || ctlPort > 65535:
		return Self{}, refusef("control port %d: use 1 to 65535", ctlPort)
	}
	servers, doubt := c.localServers(l, ctlPort, cuk)
	slaves := c.localSlaves(l, ctlPort, cuk)
	var self Self
	switch {
	case len(servers) > 1:
		return Self{}, c.notSelf(l, ctlPort, cuk, fmt.Errorf("%d servers are this host: %s; name it once, or tell them apart with -cuk",
			len(servers), listed(servers, func(s Server) string { return s.Name + cukOf(s.CUK) })))
	case len(servers) == 1 && c.Mode == "SLAVE":
		return Self{}, c.notSelf(l, ctlPort, cuk, fmt.Errorf("MODE = SLAVE, but [SVRNODE] %s:%d is this node", servers[0].Name, ctlPort))
	case len(servers) == 1:
		s := servers[0]
		self = Self{true, s.Name, s.Port, s.CtlPort, s.CUK, s.CtlEndpoints, s.CustomSeed}
	case c.Mode == "SERVER":
		return Self{}, c.notSelf(l, ctlPort, cuk, because("MODE = SERVER, but no [SVRNODE] is this node", doubt))
	case c.Mode == "SLAVE" && len(slaves) == 0:
		return Self{}, c.notSelf(l, ctlPort, cuk, errors.New("MODE = SLAVE, but no [SLVNODE] is this node"))
	case len(slaves) == 0:
		return Self{}, c.notSelf(l, ctlPort, cuk, because("no [SVRNODE] and no [SLVNODE] is this node", doubt))
	case doubt != nil && c.Mode == "":
		// A server that takes itself for a slave would split its ring.
		return Self{}, c.notSelf(l, ctlPort, cuk, fmt.Errorf("this may be a slave or a server: %w; set MODE", doubt))
	case len(slaves) > 1:
		return Self{}, c.notSelf(l, ctlPort, cuk, fmt.Errorf("%d [SLVNODE] are this host and differ: %s; tell them apart with -cuk",
			len(slaves), listed(slaves, func(s Self) string { return s.Name + cukOf(s.CUK) })))
	default:
		self = slaves[0]
	}
	if key := missingID(c.IDType, self); key != "" {
		return Self{}, c.notSelf(l, ctlPort, cuk, fmt.Errorf("CHMPXIDTYPE = %s, but this node has no %s", c.IDType, key))
	}
	return self, nil
}

// because puts the failure of a resolver, if there was one, behind what follows from it.
func because(what string, doubt error) error {
	if doubt == nil {
		return errors.New(what)
	}
	return fmt.Errorf("%s: %w", what, doubt)
}

// localServers returns the entries that are this node: those that are sure
// without a resolver, or else those that it confirms.
func (c *Config) localServers(l locality, ctlPort int, cuk string) ([]Server, error) {
	var found, open []Server
	for _, s := range c.Servers {
		if s.CtlPort != ctlPort || cuk != "" && s.CUK != cuk {
			continue
		}
		if local, sure := l.knows(s.Name); local {
			found = append(found, s)
		} else if !sure {
			open = append(open, s)
		}
	}
	// A node that must be a slave is not made to wait for a resolver.
	if len(found) > 0 || len(open) == 0 || c.Mode == "SLAVE" {
		return found, nil
	}
	return l.resolve(open)
}

// localSlaves returns what the [SLVNODE]s that this host matches make of it,
// without repeats, all by the first of its names that any of them matches.
func (c *Config) localSlaves(l locality, ctlPort int, cuk string) []Self {
	var found []Self
	first := ""
	for _, name := range l.names() {
		for _, s := range c.Slaves {
			if s.CtlPort != ctlPort || cuk != "" && s.CUK != "" && s.CUK != cuk || !s.Matches(name) {
				continue
			}
			first = cmp.Or(first, name)
			self := Self{false, first, 0, ctlPort, cmp.Or(s.CUK, cuk), s.CtlEndpoints, s.CustomSeed}
			if !slices.Contains(found, self) {
				found = append(found, self)
			}
		}
	}
	return found
}

// missingID names the key without which the node would have no id.
func missingID(idType string, s Self) string {
	switch {
	case idType == "CUK" && s.CUK == "":
		return "CUK; set it there, or SELFCUK, or use -cuk"
	case idType == "CUSTOM" && s.CustomSeed == "":
		return "CUSTOM_ID_SEED"
	}
	return ""
}

// notSelf adds to an error what was looked for and what there is.
func (c *Config) notSelf(l locality, ctlPort int, cuk string, why error) error {
	wanted := fmt.Sprintf("CTLPORT %d", ctlPort)
	if cuk != "" {
		wanted += " and CUK " + clip(cuk)
	}
	var have []string
	for _, s := range c.Servers {
		have = append(have, fmt.Sprintf("server %s:%d%s", s.Name, s.CtlPort, cukOf(s.CUK)))
	}
	for _, s := range c.Slaves {
		have = append(have, fmt.Sprintf("slave %s:%d%s", s.NamePattern, s.CtlPort, cukOf(s.CUK)))
	}
	return refusef("%s: %w (looked for %s on this host, %s; the file has %s)",
		c.Source, why, wanted, l.hostname, listed(have, func(s string) string { return s }))
}

// listed joins the first of all for a message.
func listed[T any](all []T, say func(T) string) string {
	const shown = 8
	var words []string
	for _, one := range all[:min(shown, len(all))] {
		words = append(words, say(one))
	}
	if more := len(all) - shown; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

func cukOf(cuk string) string {
	if cuk == "" {
		return ""
	}
	return " (CUK " + clip(cuk) + ")"
}
