package ctlport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// resolver answers from memory.
type resolver struct {
	mu      sync.Mutex
	forward map[string][]string
	reverse map[string][]string
	hangs   bool // until the context ends
	fails   bool
	asked   int // for names of addresses
}

func (r *resolver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *resolver) find(ctx context.Context, in func() []string) ([]string, error) {
	r.mu.Lock()
	found, hangs, fails := in(), r.hangs, r.fails
	r.mu.Unlock()
	switch {
	case hangs:
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), IsTimeout: true}
	case fails:
		return nil, errors.New("the server failed")
	case len(found) == 0:
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return found, nil
}

func (r *resolver) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	found, err := r.find(ctx, func() []string { return r.forward[host] })
	var addrs []netip.Addr
	for _, s := range found {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs, err
}

func (r *resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return r.find(ctx, func() []string { r.asked++; return r.reverse[addr] })
}

// remote is an address as connections have it.
func remote(host string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 40000))
}

// start runs hosts in a bubble until the test ends.
func start(t *testing.T, cfg HostsConfig) *Hosts {
	t.Helper()
	if cfg.Addresses == nil {
		cfg.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil }
	}
	h := NewHosts(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

// Each kind of host has the rights of the best of what names it: servers, this
// host, networks, slaves by list and by pattern.
func TestRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{
			forward: map[string][]string{
				"srv": {"10.0.0.1", "::ffff:10.0.0.2"}, "slave": {"10.0.0.3"}, "both": {"10.0.0.4"},
				"web1.example.com": {"10.0.1.1"}, "web2.example.com": {"10.0.9.9"},
			},
			reverse: map[string][]string{
				"10.0.1.1": {"other.", "web1.example.com."}, // confirmed
				"10.0.1.2": {"web2.example.com."},           // whose address is another one
				"10.0.1.3": {"web3.example.com."},           // which does not exist
				"10.0.1.4": {"db1.example.com."},            // not wanted
				"10.0.1.5": {"srv.", "slave."},              // lists are not asked in reverse
			},
		}
		h := start(t, HostsConfig{
			Servers: []string{"srv", "10.0.2.1", "both"}, Slaves: []string{"slave", "10.0.2.2", "both"},
			Networks: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("2001:db8::7/128")},
			Pattern:  regexp.MustCompilePOSIX(`^web[0-9]\.example\.com$|^10\.7\.`).MatchString, SlaveRights: ReadOnly, Local: Full, Resolver: r,
		})
		for host, want := range map[string]Rights{
			"10.0.0.1": Full, "::ffff:10.0.0.1": Full, "10.0.0.2": Full, "10.0.2.1": Full, "10.0.0.4": Full,
			"10.0.0.3": ReadOnly, "10.0.2.2": ReadOnly, "10.7.1.1": ReadOnly, "10.0.1.1": ReadOnly,
			"172.16.3.4": Full, "2001:db8::7": Full, "2001:db8::8": Denied, "172.32.0.1": Denied,
			"127.0.0.1": Full, "127.8.0.1": Full, "::1": Full, "192.0.2.1": Full, "192.0.2.2": Denied,
			"10.0.1.2": Denied, "10.0.1.3": Denied, "10.0.1.4": Denied, "10.0.1.5": Denied, "10.0.9.9": Denied,
		} {
			if got := h.Rights(t.Context(), remote(host)); got != want {
				t.Errorf("%s: got %d, want %d", host, got, want)
			}
		}
	})
}

// The rights of slaves take nothing from servers and this host, and without
// any their names are not even asked for.
func TestSlaveRights(t *testing.T) {
	for _, tc := range []struct {
		slaves, local                 Rights
		wantSlave, wantWeb, wantLocal Rights
	}{
		{Full, Full, Full, Full, Full},
		{ReadOnly, ReadOnly, ReadOnly, ReadOnly, ReadOnly},
		{Denied, ReadOnly, Denied, Denied, ReadOnly},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &resolver{
				forward: map[string][]string{"srv": {"10.0.0.1"}, "slave": {"10.0.0.3"}, "web": {"10.0.1.1"}},
				reverse: map[string][]string{"10.0.1.1": {"web."}},
			}
			h := start(t, HostsConfig{
				Servers: []string{"srv"}, Slaves: []string{"slave"}, Pattern: regexp.MustCompilePOSIX("web").MatchString,
				SlaveRights: tc.slaves, Local: tc.local, Resolver: r,
			})
			for host, want := range map[string]Rights{"10.0.0.1": Full, "10.0.0.3": tc.wantSlave, "10.0.1.1": tc.wantWeb, "127.0.0.1": tc.wantLocal} {
				if got := h.Rights(t.Context(), remote(host)); got != want {
					t.Errorf("slaves %d: %s: got %d, want %d", tc.slaves, host, got, want)
				}
			}
			if r.set(func() {}); tc.slaves == Denied && r.asked > 0 {
				t.Errorf("asked for %d names of addresses", r.asked)
			}
		})
	}
}

// A host of a slave that is also a server's has the rights of the server: all
// addresses of this host count as one.
func TestLocalServer(t *testing.T) {
	for _, server := range []string{"localhost", "127.0.1.1", "192.0.2.1", "here"} {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, HostsConfig{
				Servers: []string{server}, SlaveRights: ReadOnly, Local: ReadOnly,
				Resolver: &resolver{forward: map[string][]string{"here": {"127.0.1.1"}}},
			})
			synctest.Wait() // names are known
			for _, host := range []string{"127.0.0.1", "::1", "192.0.2.1"} {
				if got := h.Rights(t.Context(), remote(host)); got != Full {
					t.Errorf("server %s: %s: got %d", server, host, got)
				}
			}
		})
	}
}

// Names are asked for again: a new address counts, one that is gone does not,
// and a resolver that fails takes nothing away for 10 minutes.
func TestNamesStayFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{forward: map[string][]string{"srv": {"10.0.0.1"}}}
		h := start(t, HostsConfig{Servers: []string{"srv"}, Resolver: r})
		check := func(when, host string, want Rights) {
			t.Helper()
			if got := h.Rights(t.Context(), remote(host)); got != want {
				t.Errorf("%s: %s: got %d, want %d", when, host, got, want)
			}
		}
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		check("at first", "10.0.0.1", Full)
		r.set(func() { r.forward["srv"] = []string{"10.0.0.2"} })
		pass(refreshEvery)
		check("moved", "10.0.0.1", Denied)
		check("moved", "10.0.0.2", Full)
		r.set(func() { r.fails = true })
		pass(forwardMax - refreshEvery)
		check("resolver failed", "10.0.0.2", Full)
		pass(2 * refreshEvery)
		check("resolver failed for long", "10.0.0.2", Denied)
		r.set(func() { r.fails = false })
		pass(refreshEvery)
		check("resolver is back", "10.0.0.2", Full)
		r.set(func() { delete(r.forward, "srv") })
		pass(refreshEvery)
		check("no such name", "10.0.0.2", Denied)
	})
}

// Who is known waits for no resolver, who is not waits 500 ms at most, and not
// again when the resolver has just said nothing.
func TestResolverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{hangs: true}
		h := start(t, HostsConfig{
			Servers: []string{"srv", "10.0.2.1"}, Pattern: regexp.MustCompilePOSIX("^web").MatchString, SlaveRights: Full, Local: Full, Resolver: r,
		})
		took := func(host string, want Rights) time.Duration {
			t.Helper()
			began := time.Now()
			if got := h.Rights(t.Context(), remote(host)); got != want {
				t.Errorf("%s: got %d, want %d", host, got, want)
			}
			return time.Since(began)
		}
		if d := took("10.0.2.1", Full) + took("127.0.0.1", Full); d != 0 {
			t.Errorf("known hosts waited for %v", d)
		}
		if d := took("10.0.9.1", Denied); d != decideTimeout {
			t.Errorf("a stranger waited for %v", d)
		}
		<-time.After(forwardTimeout) // the first round is over; the verdict about the stranger, too
		if d := took("10.0.9.1", Denied); d != decideTimeout {
			t.Errorf("a stranger waited for %v", d)
		}
		if d := took("10.0.9.1", Denied); d != 0 {
			t.Errorf("the stranger waited again, for %v", d)
		}
	})
}

// However many strangers come, a bounded number waits for resolvers, the others
// are denied at once, and a host that is remembered is not among those.
func TestManyStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{forward: map[string][]string{"web1": {"10.1.0.1"}}, reverse: map[string][]string{"10.1.0.1": {"web1."}}}
		h := start(t, HostsConfig{Pattern: regexp.MustCompilePOSIX("^web").MatchString, SlaveRights: Full, Resolver: r})
		if got := h.Rights(t.Context(), remote("10.1.0.1")); got != Full {
			t.Fatalf("web1: got %d", got)
		}
		r.set(func() { r.hangs = true })
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { h.Rights(t.Context(), remote("10.9.0.1")) })
		}
		synctest.Wait()
		if h.waits != waitsOfHostMax {
			t.Errorf("%d connections of one stranger wait", h.waits)
		}
		for i := range 200 {
			wg.Go(func() { h.Rights(t.Context(), remote(netip.AddrFrom4([4]byte{10, 9, 1, byte(i)}).String())) })
		}
		synctest.Wait()
		if h.waits != waitsMax {
			t.Errorf("%d connections wait", h.waits)
		}
		began := time.Now()
		if got := h.Rights(t.Context(), remote("10.1.0.1")); got != Full || time.Since(began) > 0 {
			t.Errorf("web1: got %d after %v", got, time.Since(began))
		}
		wg.Wait()
		if h.waits != 0 || len(h.waiting) != 0 {
			t.Errorf("%d connections are still counted, of %d hosts", h.waits, len(h.waiting))
		}
		for i := range 2 * verdictsMax {
			h.remember(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), verdict{until: time.Now().Add(time.Second)})
		}
		if len(h.verdicts) > verdictsMax {
			t.Errorf("%d verdicts are remembered", len(h.verdicts))
		}
	})
}

// deaf is a connection of a stranger that must not be read.
type deaf struct {
	net.Conn
	t    *testing.T
	from string
}

func (d deaf) RemoteAddr() net.Addr { return remote(d.from) }
func (d deaf) Read([]byte) (int, error) {
	d.t.Error("a denied host was read")
	return 0, io.EOF
}

// A denied host is closed without being read and logged once a minute, each
// address for itself.
func TestDeniedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := start(t, HostsConfig{Local: Full, Resolver: &resolver{}})
		s := New(nil, Config{Rights: h.Rights, Command: answers(false), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		come := func(from string) {
			near, far := net.Pipe()
			s.serve(t.Context(), deaf{far, t, from})
			if _, err := near.Write([]byte("SUSPENDMERGE\n")); err == nil {
				t.Error("a denied host could write")
			}
		}
		lines := func(want int) {
			t.Helper()
			if got := strings.Count(log.String(), "control connection denied"); got != want {
				t.Errorf("%d lines, want %d:\n%s", got, want, &log)
			}
		}
		come("10.0.0.1")
		come("10.0.0.1")
		lines(1)
		come("10.0.0.2")
		lines(2)
		<-time.After(deniedEvery)
		come("10.0.0.1")
		lines(3)
		for i := range 2 * deniedMax {
			come(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}).String())
		}
		if got := len(s.denied.logged); got > deniedMax+1 {
			t.Errorf("%d addresses are remembered", got)
		}
		lines(3 + deniedMax) // 1,023 and one for all others: 10.0.0.1 is remembered, too
	})
}

// A host that may only look gets what shows something, by text and HTTP, and
// changes nothing; what does not exist does not exist for it, either.
func TestReadOnly(t *testing.T) {
	addr := serve(t, Config{
		Rights:  func(context.Context, net.Addr) Rights { return ReadOnly },
		Command: answers(false), Status: func() any { return 1 },
	})
	refused := replyReadOnly + "REASON: " + reasonReadOnly + ".\n"
	for send, want := range map[string]string{"VERSION\n": "Version 1\n", "Foo\n": "Unknown command(Foo)\n", "DUMP\n": Dump{}.String(), "TRACE on\n": refused, "TRACEVIEW\n": replyViewNothing} {
		if got := talk(t, addr, send, false); got != want {
			t.Errorf("%q: got %q, want %q", send, got, want)
		}
	}
	for name := range changes {
		if got := talk(t, addr, name+" a:1\n", false); got != refused {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if got := talk(t, addr, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", false); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("GET: got %q", got)
	}
	if got := talk(t, addr, "POST /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", false); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Errorf("POST: got %q", got)
	}
}

// Hosts of a changed configuration know at once whom the ones before knew, and
// nobody else: a resolver that does not answer keeps out none of them.
func TestInherit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{forward: map[string][]string{"a.example.com": {"10.0.0.1"}, "b.example.com": {"10.0.0.2"}}}
		none := func() ([]netip.Addr, error) { return nil, nil }
		before := NewHosts(HostsConfig{Servers: []string{"a.example.com", "b.example.com"}, Resolver: r, Addresses: none})
		before.refresh(t.Context())
		after := NewHosts(HostsConfig{Servers: []string{"a.example.com", "c.example.com"}, Resolver: &resolver{hangs: true}, Addresses: none})
		after.Inherit(before)
		for host, want := range map[string]Rights{"10.0.0.1": Full, "10.0.0.2": Denied} {
			if got := after.Rights(t.Context(), net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 1))); got != want {
				t.Errorf("%s: %v, want %v", host, got, want)
			}
		}
	})
}
