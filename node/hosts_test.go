package node

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane/ctlport"
)

// elsewhere is a listener whose connections seem to come from another host.
type elsewhere struct {
	net.Listener
	from net.Addr
}

func (l elsewhere) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fromElsewhere{conn, l.from}, nil
}

type fromElsewhere struct {
	net.Conn
	from net.Addr
}

func (c fromElsewhere) RemoteAddr() net.Addr { return c.from }

// from returns the address of a connection.
func from(host string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 40000))
}

// noNames is a resolver that knows no name.
type noNames struct{}

func (noNames) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (noNames) LookupAddr(context.Context, string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

// A node that runs asks who connects: a command of a host that is in no entry
// changes nothing and gets no answer, one that CTLALLOW names is served.
func TestControlPortHosts(t *testing.T) {
	for host, want := range map[string]string{"192.0.2.7": "", "198.51.100.7": "Version 1 (commit: unknown) with crypto/tls\n"} {
		s := newSite(t)
		text, err := os.ReadFile(s.conf)
		if err != nil {
			t.Fatal(err)
		}
		allowed := strings.Replace(string(text), "[SVRNODE]", "CTLALLOW = 198.51.100.0/24\n[SVRNODE]", 1)
		if err := os.WriteFile(s.conf, []byte(allowed), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := New(Options{
			Config: config.Source{Path: s.conf}, Version: "1", Resolver: noNames{},
			Listen: func(port int) (net.Listener, error) {
				ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
				return elsewhere{ln, from(host)}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		if got := sendFrom(t, s.ctlPort, "VERSION\n"); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// sendFrom sends one command and returns what comes before the connection ends.
func sendFrom(t *testing.T, port int, command string) string {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // a closed connection fails at the read
	_, _ = io.WriteString(c, command)           // may fail: the other side may be closed by now
	b, _ := io.ReadAll(c)                       // so may this
	return string(b)
}

// The entries of a configuration say what hosts may do: servers all, slaves
// what CTLSLAVES says, a node's own host at least look.
func TestHostsOfConfiguration(t *testing.T) { synctest.Test(t, hostsOfConfiguration) }

func hostsOfConfiguration(t *testing.T) {
	const none, look, full = ctlport.Denied, ctlport.ReadOnly, ctlport.Full
	for _, tc := range []struct {
		slaves               string
		server               bool // this node
		slave, pattern, here ctlport.Rights
	}{
		{"", true, full, full, full},
		{"readonly", true, look, look, full},
		{"none", true, none, none, full},
		{"full", false, full, full, full},
		{"readonly", false, look, look, look},
		{"none", false, none, none, look},
	} {
		text := "GLOBAL: {FILEVERSION: 1, GROUP: G, PORT: 1, CTLPORT: 2"
		if tc.slaves != "" {
			text += ", CTLSLAVES: " + tc.slaves
		}
		text += "}\nSVRNODE: [{NAME: '10.0.0.[1-2]'}]\nSLVNODE: [{NAME: '10.0.1.1,10.0.1.2'}, {NAME: '^10\\.0\\.2\\.'}]\n"
		cfg, _, err := config.Load(config.Source{Text: text})
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{self: config.Self{Server: tc.server}}
		n.cfg.Store(cfg)
		n.opts.Resolver = noNames{}
		n.opts.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.3.1")}, nil }
		h := n.newHosts()
		got := []ctlport.Rights{}
		for _, host := range []string{"10.0.0.2", "10.0.1.2", "10.0.2.9", "10.0.3.1", "127.0.0.1", "10.0.9.9"} {
			got = append(got, h.Rights(t.Context(), from(host)))
			if n.hosts = newGate(h); n.slaveMay(t.Context(), from(host)) != (got[len(got)-1] == full) {
				t.Errorf("CTLSLAVES %q, server %t: what a slave at %s may have done differs", tc.slaves, tc.server, host)
			}
		}
		if want := []ctlport.Rights{full, tc.slave, tc.pattern, tc.here, tc.here, none}; !slices.Equal(got, want) {
			t.Errorf("CTLSLAVES %q, server %t: got %v, want %v", tc.slaves, tc.server, got, want)
		}
	}
}

// Proves that hosts that came to count just before their turn to run are run once:
// a second run of the same hosts panics.
func TestGateChangesBeforeItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := func() *ctlport.Hosts { return ctlport.NewHosts(ctlport.HostsConfig{Resolver: noNames{}}) }
		g := newGate(hosts())
		g.set(hosts())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.run(ctx) }()
		synctest.Wait()
		g.set(hosts())
		synctest.Wait()
		if len(g.changed) != 0 {
			t.Error("a change was not noticed")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
