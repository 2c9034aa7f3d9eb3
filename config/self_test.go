package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// host is a locality whose resolver knows the given names; "slow" never
// answers, everything else is not found.
func host(name string, addresses []string, names map[string]string) locality {
	l := locality{hostname: name}
	for _, a := range addresses {
		l.addresses = append(l.addresses, netip.MustParseAddr(a))
	}
	l.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		if host == "slow" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if a, ok := names[host]; ok {
			return []netip.Addr{netip.MustParseAddr(a)}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return l
}

// ring is a configuration with the given [GLOBAL] lines and nodes; a node is
// "name:ctlport" or "name:ctlport:cuk".
func ring(t *testing.T, global, servers, slaves string) *Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=HASH\n%s\n", global)
	for i, nodes := range []string{servers, slaves} {
		for n, node := range strings.Fields(nodes) {
			parts := append(strings.Split(node, ":"), "")
			fmt.Fprintf(&b, "[%s]\nNAME=%s\nCTLPORT=%s\nCUK=%s\n", sectionNames[i+1], strings.ReplaceAll(parts[0], ";", ":"), parts[1], parts[2])
			if i == 0 {
				fmt.Fprintf(&b, "PORT=%d\n", 1000+n)
			}
		}
	}
	return mustLoad(t, b.String())
}

// The local node is found by control port, CUK and everything that may name
// the local host; the answer for every host is one node or an error with the
// reason.
func TestSelfNode(t *testing.T) {
	web1 := host("web1", []string{"127.0.0.1", "192.0.2.1", "2001:db8::1"},
		map[string]string{"web1.example.com": "192.0.2.1", "alias": "127.0.1.1", "web2": "192.0.2.2"})
	const any = "[.]*:8022"
	for _, c := range []struct {
		name, global, servers, slaves string
		ctlPort                       int
		cuk                           string
		want                          string // "server name:port", "slave name:port", or a part of the error
	}{
		{"localhost", "", "localhost:8021", any, 8021, "", "server localhost:8021"},
		{"SELFCTLPORT", "SELFCTLPORT=8021", "localhost:8021", any, 0, "", "server localhost:8021"},
		{"-ctlport comes first", "SELFCTLPORT=8021", "localhost:8021", any, 8022, "", "slave web1:8022"},
		{"own name", "", "web1:8021 web2:8021", any, 8021, "", "server web1:8021"},
		{"address", "", "192.0.2.1:8021 192.0.2.2:8021", any, 8021, "", "server 192.0.2.1:8021"},
		{"IPv6 address", "", "2001;db8;;1:8021", any, 8021, "", "server 2001:db8::1:8021"},
		{"loopback address", "", "127.0.0.9:8021", any, 8021, "", "server 127.0.0.9:8021"},
		{"resolved", "", "web1.example.com:8021 web2:8021", any, 8021, "", "server web1.example.com:8021"},
		{"resolved to loopback", "", "alias:8021 unknown:8021", any, 8021, "", "server alias:8021"},
		{"sure names come first", "", "web1:8021 alias:8021", any, 8021, "", "server web1:8021"},
		{"not asked when sure", "", "web1:8021 slow:8021", any, 8021, "", "server web1:8021"},
		{"two entries", "", "web1:8021 localhost:8021", any, 8021, "", "2 servers are this host: localhost, web1;"},
		{"many entries", "", "web1:8021:a localhost:8021 127.0.0.1:8021 127.0.0.2:8021", any, 8021, "", `4 servers are this host: 127.0.0.1, 127.0.0.2, localhost, web1 (CUK "a");`},
		{"two entries and a CUK", "", "web1:8021:x localhost:8021:y", any, 8021, "x", "server web1:8021"},
		{"SELFCUK", "SELFCUK=y", "web1:8021:x localhost:8021:y", any, 8021, "", "server localhost:8021"},
		{"no such CUK", "MODE=SERVER", "web1:8021:x", any, 8021, "z", `looked for CTLPORT 8021 and CUK "z" on this host, web1`},
		{"the CUKs that there are", "", "web1:8021:x", "web1:8022:y", 8021, "z", `the file has server web1:8021 (CUK "x"), slave web1:8022 (CUK "y")`},
		{"slave by name", "", "web2:8021", "web[1-3]:8022", 8022, "", "slave web1:8022"},
		{"slave by localhost", "", "web2:8021", "localhost:8022", 8022, "", "slave localhost:8022"},
		{"slave by address", "", "web2:8021", `^192\.0:8022`, 8022, "", "slave 192.0.2.1:8022"},
		{"slave of several", "", "web2:8021", "x:8022 web1:8023 web1:8022", 8022, "", "slave web1:8022"},
		{"slave twice", "", "web2:8021", "[.]*:8022 web1:8022", 8022, "", "slave web1:8022"},
		{"slaves that differ", "", "web2:8021", "[.]*:8022:x web1:8022:y", 8022, "", `2 [SLVNODE] are this host and differ: web1 (CUK "x"), web1 (CUK "y")`},
		{"slaves and a CUK", "", "web2:8021", "[.]*:8022:x web1:8022:y", 8022, "y", "slave web1:8022"},
		{"slave with the servers' port", "", "web2:8021", "[.]*:8021", 8021, "", "slave web1:8021"},
		{"server before slave", "", "web1:8021", "[.]*:8021", 8021, "", "server web1:8021"},
		{"doubt", "", "slow:8021", "[.]*:8021", 8021, "", "this may be a slave or a server: resolve slow"},
		{"no doubt with MODE", "MODE=SLAVE", "slow:8021", "[.]*:8021", 8021, "", "slave web1:8021"},
		{"doubt of a server", "MODE=SERVER", "slow:8021", any, 8021, "", "no [SVRNODE] is this node: resolve slow"},
		{"MODE=SLAVE but server", "MODE=SLAVE", "web1:8021", "[.]*:8021", 8021, "", "MODE = SLAVE, but [SVRNODE] web1:8021 is this node"},
		{"MODE=SERVER but slave", "MODE=SERVER", "web1:8021", any, 8022, "", "MODE = SERVER, but no [SVRNODE] is this node"},
		{"MODE=SLAVE but nothing", "MODE=SLAVE", "web1:8021", any, 1, "", "MODE = SLAVE, but no [SLVNODE] is this node"},
		{"nothing", "", "web2:8021", "web3:8022", 8021, "", "the file has server web2:8021, slave web3:8022"},
		{"which", "", "web1:8021", any, 0, "", "Set SELFCTLPORT in [GLOBAL] or use -ctlport"},
		{"no port", "", "web1:8021", any, 65536, "", "use 1 to 65535"},
		{"slave without CUK", "CHMPXIDTYPE=CUK", "web2:8021:x", any, 8022, "", "this node has no CUK"},
		{"slave with -cuk", "CHMPXIDTYPE=CUK", "web2:8021:x", any, 8022, "me", "slave web1:8022"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				self, err := ring(t, c.global, c.servers, c.slaves).selfNode(web1, c.ctlPort, c.cuk)
				got := fmt.Sprintf("slave %s:%d", self.Name, self.CtlPort)
				if self.Server {
					got = fmt.Sprintf("server %s:%d", self.Name, self.CtlPort)
				}
				switch {
				case err != nil && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want)):
					t.Errorf("got error %v, want %s", err, c.want)
				case err == nil && got != c.want:
					t.Errorf("got %s, want %s", got, c.want)
				}
				if waited := time.Since(start); waited > resolveTimeout {
					t.Errorf("waited %v for the resolver", waited)
				}
			})
		})
	}
}

// Many names are asked at once and all together for resolveTimeout at most.
func TestResolveMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := make([]Server, 100)
		for i := range servers {
			servers[i].Name = "slow"
		}
		start := time.Now()
		found, err := host("web1", nil, nil).resolve(servers)
		if len(found) != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %d servers, %v", len(found), err)
		}
		if waited := time.Since(start); waited != resolveTimeout {
			t.Errorf("waited %v", waited)
		}
	})
}

// When the time is over nobody is asked any more, however many names there are.
func TestResolveEnds(t *testing.T) {
	servers := make([]Server, namesMax)
	for i := range servers {
		servers[i].Name = "slow"
	}
	synctest.Test(t, func(t *testing.T) {
		l, asked := host("web1", nil, nil), atomic.Int32{}
		slow := l.lookup
		l.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			asked.Add(1)
			return slow(ctx, host)
		}
		if _, err := l.resolve(servers); !errors.Is(err, context.DeadlineExceeded) || asked.Load() > 32 {
			t.Errorf("%d names were asked for, %v", asked.Load(), err)
		}
	})
}

// A server has what its entry says, a slave takes the CUK it is told.
func TestSelfFields(t *testing.T) {
	c := ring(t, "CHMPXIDTYPE=CUK", "localhost:8021:s", "localhost:8022")
	here := host("here", nil, nil)
	if got, err := c.selfNode(here, 8021, ""); err != nil || got != (Self{Server: true, Name: "localhost", Port: 1000, CtlPort: 8021, CUK: "s"}) {
		t.Errorf("server: got %+v, %v", got, err)
	}
	if got, err := c.selfNode(here, 8022, "mine"); err != nil || got != (Self{Name: "localhost", CtlPort: 8022, CUK: "mine"}) {
		t.Errorf("slave: got %+v, %v", got, err)
	}
}
