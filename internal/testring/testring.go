// Package testring is what tests of several packages need to run a ring of nodes
// in their own process, on the loopback interface.
package testring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chmpx/chmpx/internal/freeport"
)

// House is the place of some servers and a slave, which comes last: their
// configurations, and what runs by them. Its methods belong to the test's goroutine.
type House struct {
	Dir   string
	Ports []int // control port of node i; PORT of server i at servers+1+i

	t     testing.TB
	stops []func() // of nodes that were started
}

// New makes the configurations of servers and a slave with these keys. What was
// started in it is stopped at the end of the test.
func New(t testing.TB, servers int, keys string) *House {
	t.Helper()
	h := &House{t: t, Dir: t.TempDir(), Ports: Ports(t, 2*servers+1), stops: make([]func(), servers+1)}
	for i := range servers + 1 {
		mode := "SERVER"
		if i == servers {
			mode = "SLAVE"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "[GLOBAL]\nFILEVERSION = 1\nGROUP = HOUSE\nMODE = %s\nSELFCTLPORT = %d\n%s\nRUNDIR = %s/run\nDATADIR = %s/data\n",
			mode, h.Ports[i], keys, h.Dir, h.Dir)
		for k := range servers {
			fmt.Fprintf(&b, "[SVRNODE]\nNAME = localhost\nPORT = %d\nCTLPORT = %d\n", h.Ports[servers+1+k], h.Ports[k])
		}
		fmt.Fprintf(&b, "[SLVNODE]\nNAME = localhost\nCTLPORT = %d\n", h.Ports[servers])
		if err := os.WriteFile(h.Conf(i), []byte(b.String()), 0o600); err != nil {
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

// Ports returns free ports in ascending order.
func Ports(t testing.TB, n int) []int {
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

// Conf returns the configuration file of node i.
func (h *House) Conf(i int) string { return filepath.Join(h.Dir, fmt.Sprintf("node%d.ini", i)) }

// Start runs node i until Stop is called, at the latest at the end of the test.
func (h *House) Start(i int, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	h.stops[i] = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			h.t.Errorf("node %d: %v", i, err)
		}
	})
}

// Stop ends node i, which was started, in order.
func (h *House) Stop(i int) { h.stops[i]() }
