package ctlport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Rights are what a host may do on the control port.
type Rights uint8

// The rights, in their order: each one includes those before it.
const (
	Denied   Rights = iota // it is closed without being read
	ReadOnly               // it may look
	Full
)

// Times and bounds of looking hosts up.
const (
	refreshEvery   = 15 * time.Second // from the end of one round through the names to the next one
	forwardTimeout = 5 * time.Second  // of one name
	forwardAtOnce  = 16
	forwardMax     = 10 * time.Minute // addresses of a name that cannot be asked for go on counting for so long
	addressesMax   = 64               // of one name
	slaveNamesMax  = 4096             // that are looked up

	decideTimeout  = 500 * time.Millisecond // what one connection waits for resolvers
	waitsMax       = 64                     // connections that do, all together
	waitsOfHostMax = 8                      // and of one address
	reverseMax     = 8                      // names of an address that are looked at
	verdictFor     = 30 * time.Second       // that an answer of the resolver is remembered
	verdictFailed  = 5 * time.Second        // that no answer is
	verdictsMax    = 1024
)

// Resolver asks for names and addresses. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) (names []string, err error)
}

// HostsConfig says which hosts may use the control port.
type HostsConfig struct {
	Servers  []string               // names and addresses of hosts with full rights
	Networks []netip.Prefix         // of hosts with full rights
	Slaves   []string               // names and addresses of hosts with SlaveRights; more than 4,096 names do not count
	Pattern  func(host string) bool // hosts with SlaveRights by their address or a name that resolves to it; nil: none

	SlaveRights Rights
	Local       Rights // of this host at least

	Resolver  Resolver                     // nil: the system's
	Addresses func() ([]netip.Addr, error) // of this host; nil: those of its interfaces
}

// Hosts decides what a host may do. Names are looked up by Run and stay known
// in between, so that no connection waits for them but in the first moments.
// All methods may be called from any goroutine.
type Hosts struct {
	cfg   HostsConfig
	fixed map[netip.Addr]Rights // hosts that were given as addresses
	first chan struct{}         // closed when every name has been asked for

	mu       sync.Mutex // guards what follows and the addresses of names; nothing blocks under it
	names    []*hostName
	waiting  map[netip.Addr]int // connections that wait for a resolver, by peer
	waits    int                // all of them
	verdicts map[netip.Addr]verdict
}

// hostName is a name that stands for addresses.
type hostName struct {
	host   string
	rights Rights
	addrs  []netip.Addr
	at     time.Time // of the last answer
}

// verdict says whether an address has a name that the pattern fits.
type verdict struct {
	fits  bool
	until time.Time
}

// NewHosts returns hosts of which only those that are given as addresses are
// known, until Run has looked up the others.
func NewHosts(cfg HostsConfig) *Hosts {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Addresses == nil {
		cfg.Addresses = interfaceAddresses
	}
	h := &Hosts{
		cfg: cfg, fixed: map[netip.Addr]Rights{}, first: make(chan struct{}),
		waiting: map[netip.Addr]int{}, verdicts: map[netip.Addr]verdict{},
	}
	h.add(cfg.Servers, Full, len(cfg.Servers))
	if cfg.SlaveRights > Denied {
		h.add(cfg.Slaves, cfg.SlaveRights, slaveNamesMax)
	}
	return h
}

// Inherit takes over the addresses that before has learnt of the names that both
// have, so that nobody whom both let in waits for a resolver. Call it before Run
// and Rights.
func (h *Hosts) Inherit(before *Hosts) {
	before.mu.Lock()
	defer before.mu.Unlock()
	known := make(map[string]*hostName, len(before.names))
	for _, n := range before.names {
		known[n.host] = n
	}
	for _, n := range h.names {
		if old := known[n.host]; old != nil {
			n.addrs, n.at = old.addrs, old.at
		}
	}
}

// add takes hosts in; of names that need a resolver at most limit.
func (h *Hosts) add(hosts []string, rights Rights, limit int) {
	known := make(map[string]bool, len(h.names)+len(hosts))
	for _, n := range h.names { // of more rights
		known[n.host] = true
	}
	for _, host := range hosts {
		a, err := netip.ParseAddr(host)
		switch {
		case strings.EqualFold(host, "localhost"):
			a = loopback
		case err != nil && (known[host] || limit == 0):
			continue
		case err != nil:
			known[host] = true
			limit--
			h.names = append(h.names, &hostName{host: host, rights: rights})
			continue
		}
		h.fixed[plain(a)] = max(h.fixed[plain(a)], rights)
	}
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// plain is the one form in which addresses are compared: all addresses of the
// loopback are the same.
func plain(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.IsLoopback() {
		return loopback
	}
	return a
}

// Run keeps the addresses of names fresh until ctx ends.
func (h *Hosts) Run(ctx context.Context) error {
	for first := true; ; first = false {
		h.refresh(ctx)
		if first {
			close(h.first)
		}
		again := time.NewTimer(refreshEvery)
		if len(h.names) == 0 {
			again.Stop()
		}
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
		}
	}
}

// refresh asks for every name once.
func (h *Hosts) refresh(ctx context.Context) {
	turns := make(chan struct{}, forwardAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, n := range h.names {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() { // ended by its timeout
			h.lookUp(ctx, n)
			<-turns
		})
	}
}

// lookUp asks for one name. One that is not there any more loses its
// addresses; while the resolver fails they stay, for a time.
func (h *Hosts) lookUp(ctx context.Context, n *hostName) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	addrs, err := h.cfg.Resolver.LookupNetIP(ctx, "ip", n.host)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch now := time.Now(); {
	case err == nil:
		addrs = slices.Clone(addrs[:min(len(addrs), addressesMax)])
		for i, a := range addrs {
			addrs[i] = plain(a)
		}
		n.addrs, n.at = addrs, now
	case notFound(err) || now.Sub(n.at) > forwardMax:
		n.addrs = nil
	}
}

func notFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// Rights returns what the host at an address may do. It waits for resolvers
// only where the address is not known, 500 ms at most.
func (h *Hosts) Rights(ctx context.Context, remote net.Addr) Rights {
	peer, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return Denied
	}
	a := plain(peer.Addr())
	if own := h.own(); slices.Contains(own, a.WithZone("")) {
		return h.local(own)
	}
	if slices.ContainsFunc(h.cfg.Networks, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) }) {
		return Full
	}
	fits, sure := h.fits(a)
	rights := h.rights(a, fits)
	if rights == Full || h.settled() && (sure || rights >= h.cfg.SlaveRights) || !h.enter(a) {
		return rights
	}
	defer h.leave(a)
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	if !sure && rights < h.cfg.SlaveRights {
		fits = h.ask(ctx, a)
	}
	if h.rights(a, fits) < Full {
		select {
		case <-h.first:
		case <-ctx.Done():
		}
	}
	return h.rights(a, fits)
}

// rights returns what an address may do that the pattern fits, or not.
func (h *Hosts) rights(a netip.Addr, fits bool) Rights {
	if fits {
		return max(h.configured(a), h.cfg.SlaveRights)
	}
	return h.configured(a)
}

// settled reports whether every name has been asked for.
func (h *Hosts) settled() bool {
	select {
	case <-h.first:
		return true
	default:
		return false
	}
}

// own returns the addresses of this host.
func (h *Hosts) own() []netip.Addr {
	own := []netip.Addr{loopback}
	addrs, err := h.cfg.Addresses()
	if err != nil {
		return own // those of interfaces do not count for once
	}
	for _, a := range addrs {
		own = append(own, plain(a).WithZone(""))
	}
	return own
}

// local returns what this host may do: it has all its addresses at once.
func (h *Hosts) local(own []netip.Addr) Rights {
	rights := h.cfg.Local
	for _, a := range own {
		if rights < Full {
			rights = max(rights, h.configured(a))
		}
	}
	return rights
}

// configured returns what hosts with this address may do, as far as names have
// been looked up.
func (h *Hosts) configured(a netip.Addr) Rights {
	rights := h.fixed[a]
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.names {
		if n.rights > rights && slices.Contains(n.addrs, a) {
			rights = n.rights
		}
	}
	return rights
}

// enter counts a connection that is about to wait; false: too many do.
func (h *Hosts) enter(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits >= waitsMax || h.waiting[a] >= waitsOfHostMax {
		return false
	}
	h.waits++
	h.waiting[a]++
	return true
}

func (h *Hosts) leave(a netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits--
	if h.waiting[a]--; h.waiting[a] == 0 {
		delete(h.waiting, a)
	}
}

// fits reports whether the pattern fits an address or one of its names, and
// whether that is known without asking.
func (h *Hosts) fits(a netip.Addr) (fits, sure bool) {
	switch {
	case h.cfg.Pattern == nil:
		return false, true
	case h.cfg.Pattern(a.String()):
		return true, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.verdicts[a]
	return v.fits && time.Now().Before(v.until), ok && time.Now().Before(v.until)
}

// ask reports whether the pattern fits one of the names of an address, and
// remembers it.
func (h *Hosts) ask(ctx context.Context, a netip.Addr) bool {
	fits, sure := h.reverse(ctx, a)
	v := verdict{fits, time.Now().Add(verdictFor)}
	if !sure {
		v.until = time.Now().Add(verdictFailed)
	}
	h.remember(a, v)
	return fits
}

// remember keeps a verdict, if there is room.
func (h *Hosts) remember(a netip.Addr, v verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.verdicts) >= verdictsMax {
		now := time.Now()
		for a, v := range h.verdicts {
			if now.After(v.until) {
				delete(h.verdicts, a)
			}
		}
	}
	if len(h.verdicts) < verdictsMax {
		h.verdicts[a] = v
	}
}

// reverse asks for the names of an address. Whoever owns the address says what
// they are, so a name counts only if it resolves to the address. sure is false
// when a resolver did not answer.
func (h *Hosts) reverse(ctx context.Context, a netip.Addr) (fits, sure bool) {
	names, err := h.cfg.Resolver.LookupAddr(ctx, a.WithZone("").String())
	sure = err == nil || notFound(err)
	for _, name := range names[:min(len(names), reverseMax)] {
		name = strings.TrimSuffix(name, ".")
		if !h.cfg.Pattern(name) && !h.cfg.Pattern(strings.ToLower(name)) {
			continue
		}
		addrs, err := h.cfg.Resolver.LookupNetIP(ctx, "ip", name)
		if slices.ContainsFunc(addrs, func(b netip.Addr) bool { return plain(b) == a }) {
			return true, true
		}
		sure = sure && (err == nil || notFound(err))
	}
	return false, sure
}

// interfaceAddresses returns the addresses of this host's interfaces.
func interfaceAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs, nil
}
