package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/internal/testring"
)

// house is a ring of nodes of this process: the servers are named a, b ... in ring
// order, the slave comes last.
type house struct {
	*testring.House
	t     *testing.T
	nodes []*Node
}

// newHouse makes the configurations of servers and a slave with these keys.
func newHouse(t *testing.T, servers int, keys string) *house {
	t.Helper()
	return &house{House: testring.New(t, servers, keys), t: t, nodes: make([]*Node, servers+1)}
}

// start runs node i until stop is called, at the latest at the end of the test.
func (h *house) start(i int) {
	h.t.Helper()
	n, err := New(Options{Config: config.Source{Path: h.Conf(i)}})
	if err != nil {
		h.t.Fatal(err)
	}
	h.nodes[i] = n
	h.Start(i, n.Run)
}

// stop stops node i in order.
func (h *house) stop(i int) {
	h.Stop(i)
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
	c, err := client.Attach(ctx, client.Options{Config: h.Conf(i), Role: role})
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
	for i, p := range h.Ports {
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
