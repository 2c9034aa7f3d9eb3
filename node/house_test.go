package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/internal/freeport"
)

// house is a ring of nodes of this process on the loopback interface: the
// servers are named a, b ... in ring order, the slave comes last.
type house struct {
	t     *testing.T
	dir   string
	ports []int // control port of node i; PORT of server i at servers+1+i
	nodes []*Node
	stops []func()
}

// newHouse makes the configurations of servers and a slave with these keys.
func newHouse(t *testing.T, servers int, keys string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), ports: freePorts(t, 2*servers+1), nodes: make([]*Node, servers+1), stops: make([]func(), servers+1)}
	for i := range servers + 1 {
		mode := "SERVER"
		if i == servers {
			mode = "SLAVE"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "[GLOBAL]\nFILEVERSION = 1\nGROUP = HOUSE\nMODE = %s\nSELFCTLPORT = %d\n%s\nRUNDIR = %s/run\nDATADIR = %s/data\n",
			mode, h.ports[i], keys, h.dir, h.dir)
		for k := range servers {
			fmt.Fprintf(&b, "[SVRNODE]\nNAME = localhost\nPORT = %d\nCTLPORT = %d\n", h.ports[servers+1+k], h.ports[k])
		}
		fmt.Fprintf(&b, "[SLVNODE]\nNAME = localhost\nCTLPORT = %d\n", h.ports[servers])
		if err := os.WriteFile(h.conf(i), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // all at once: who leaves last would wait for a quorum in vain
		var stopping sync.WaitGroup
		for _, stop := range h.stops {
			if stop != nil {
				stopping.Go(stop)
			}
		}
		stopping.Wait()
	})
	return h
}

func (h *house) conf(i int) string { return filepath.Join(h.dir, fmt.Sprintf("node%d.ini", i)) }

// freePorts returns free ports in ascending order.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	taken, err := freeport.Take(n)
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]int, n)
	for i, p := range taken {
		ports[i] = int(p)
	}
	slices.Sort(ports)
	return ports
}

// start runs node i until stop is called, at the latest at the end of the test.
func (h *house) start(i int) {
	h.t.Helper()
	n, err := New(Options{Config: config.Source{Path: h.conf(i)}})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	h.nodes[i] = n
	h.stops[i] = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			h.t.Errorf("node %d: %v", i, err)
		}
	})
}

// stop stops node i in order.
func (h *house) stop(i int) {
	h.stops[i]()
	h.nodes[i] = nil
}

// serve attaches a server program to server i that replies with the server's
// name, and returns how to end it.
func (h *house) serve(i int) (end func()) {
	h.t.Helper()
	c := h.attach(i, client.RoleServer)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Serve(ctx, 1, func(context.Context, *client.Message) ([]byte, error) { return []byte{'a' + byte(i)}, nil })
	}()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("server program %d: %v", i, err)
		}
		c.Close()
	})
	h.t.Cleanup(end)
	return end
}

func (h *house) attach(i int, role client.Role) *client.Client {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Config: h.conf(i), Role: role})
	if err != nil {
		h.t.Fatalf("attach to node %d: %v", i, err)
	}
	return c
}

// inService waits until every node shows exactly these servers in service, with
// base numbers in this order and nothing under way.
func (h *house) inService(servers string) {
	h.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		wrong := ""
		for i, n := range h.nodes {
			if n == nil {
				continue
			}
			got := make([]byte, len(servers))
			for _, s := range n.Status().Servers {
				if s.Status == "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]" && int(s.BaseHash) < len(got) && s.BaseHash == s.PendingHash {
					got[s.BaseHash] = h.name(int(s.CtlPort))
				} else if s.BaseHash != -1 || s.PendingHash != -1 {
					got = nil
					break
				}
			}
			if string(got) != servers {
				wrong = fmt.Sprintf("node %d: %+v", i, n.Status().Status)
			}
		}
		if wrong == "" {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			h.t.Fatalf("not %q in service: %s", servers, wrong)
		}
	}
}

func (h *house) name(ctlPort int) byte {
	for i, p := range h.ports {
		if p == ctlPort {
			return 'a' + byte(i)
		}
	}
	return '?'
}

// load sends requests, each with the next hash, from the slave, one after the other in
// each of some sessions, until it is ended; everyone must be answered.
func (h *house) load(sessions int) (end func() int64) {
	var answered atomic.Int64
	var senders sync.WaitGroup
	stop := make(chan struct{})
	for range sessions {
		c := h.attach(len(h.nodes)-1, client.RoleClient)
		senders.Go(func() {
			defer c.Close()
			for hash := uint64(0); ; hash++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := c.Request(ctx, hash, nil, client.Repeatable())
				cancel()
				if err != nil {
					h.t.Errorf("request for hash %d: %v", hash, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	end = sync.OnceValue(func() int64 {
		close(stop)
		senders.Wait()
		return answered.Load()
	})
	h.t.Cleanup(func() { end() })
	return end
}
