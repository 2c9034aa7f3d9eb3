// Package testcluster runs rings for tests, demonstrations and measurements:
// real chmpx processes on the loopback interface, in a temporary directory of
// their own, with programs attached to them. It starts, kills and restarts
// them, waits for what their status says, and leaves nothing behind: every
// process dies with the one that started it.
//
// A Cluster and what belongs to it may be used by several goroutines at once.
package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/freeport"
)

// ErrTimeout is wrapped when a condition did not come true in time.
var ErrTimeout = errors.New("testcluster: waited too long")

// ErrEnded is wrapped when a process ended that should run.
var ErrEnded = errors.New("testcluster: process ended")

// Options says what to build.
type Options struct {
	Bin     string            // directory of the binaries; required
	Servers int               // server nodes, 1 to 26: a, b, c, ...
	Slaves  int               // slave nodes, 0 to 26: s0, s1, ...
	Replica int               // REPLICA
	Keys    map[string]string // further keys for [GLOBAL]
	Level   string            // log level of the nodes; empty: err
	// Host returns the host of a node by its place in Nodes; nil: all are localhost.
	Host func(i int) string
}

// Cluster is one ring of processes.
type Cluster struct {
	Dir     string  // holds everything that the ring writes
	Servers []*Node // in the order of their names
	Slaves  []*Node

	opts Options
	mu   sync.Mutex // guards procs
	// procs are all processes ever started, for Close.
	procs []*Proc
}

// New writes the configuration of a ring into a new temporary directory. No
// process runs yet. The caller must call Close.
func New(opts Options) (*Cluster, error) {
	if opts.Servers < 1 || opts.Servers > 26 || opts.Slaves < 0 || opts.Slaves > 26 {
		return nil, fmt.Errorf("testcluster: %d servers and %d slaves, 1 to 26 and 0 to 26 are possible", opts.Servers, opts.Slaves)
	}
	dir, err := os.MkdirTemp("", "chmpx-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	c := &Cluster{Dir: dir, opts: opts}
	ports, err := freeport.Take(2*opts.Servers + opts.Slaves)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for i := range opts.Servers {
		c.Servers = append(c.Servers, &Node{cluster: c, Name: string(rune('a' + i)), Port: ports[2*i], CtlPort: ports[2*i+1]})
	}
	for i := range opts.Slaves {
		c.Slaves = append(c.Slaves, &Node{cluster: c, Name: fmt.Sprintf("s%d", i), CtlPort: ports[2*opts.Servers+i], slave: true})
	}
	for i, n := range c.Nodes() {
		n.Host = "localhost"
		if opts.Host != nil {
			n.Host = opts.Host(i)
		}
	}
	for _, n := range c.Nodes() {
		if err := os.WriteFile(n.Conf(), []byte(c.configuration(n)), 0o640); err != nil {
			return nil, errors.Join(fmt.Errorf("write configuration: %w", err), c.Close())
		}
	}
	return c, nil
}

// Nodes returns the servers, then the slaves.
func (c *Cluster) Nodes() []*Node {
	return append(append([]*Node(nil), c.Servers...), c.Slaves...)
}

// StartNodes starts all nodes that do not run.
func (c *Cluster) StartNodes() error {
	for _, n := range c.Nodes() {
		if n.Running() {
			continue
		}
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Wait asks the nodes given until the condition holds for the status of each
// of them, or ctx ends. A node that does not answer does not fulfil it.
func (c *Cluster) Wait(ctx context.Context, what string, nodes []*Node, cond func(controlplane.Status) bool) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var last error
	for _, n := range nodes {
		for {
			st, err := n.Status(ctx)
			if err == nil && cond(st) {
				break
			}
			switch {
			case err == nil:
				last = fmt.Errorf("%s says %s", n.Name, brief(st))
			case last == nil || ctx.Err() == nil: // else the earlier one says more
				last = err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w for %s: %s: %w", ErrTimeout, what, n.Name, last)
			case <-tick.C:
			}
		}
	}
	return nil
}

// brief returns what matters of a status in an error.
func brief(st controlplane.Status) string {
	s := fmt.Sprintf("leader %q, waits for %q, programs %d", st.Raft.Leader, st.WaitsFor, st.Programs)
	for _, server := range st.Servers {
		s += fmt.Sprintf("; %d %s link %s", server.CtlPort, server.Status, server.Link)
	}
	return s
}

// InService returns the number of servers that a status shows in service:
// SERVICE IN, UP, with a program and no merge to come.
func InService(st controlplane.Status) int {
	n := 0
	for _, s := range st.Servers {
		if s.Status == "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]" {
			n++
		}
	}
	return n
}

// Leader returns the server that the first node to answer calls the leader, nil if there is none.
func (c *Cluster) Leader(ctx context.Context) *Node {
	for _, n := range c.Nodes() {
		st, err := n.Status(ctx)
		if err != nil {
			continue
		}
		for _, s := range st.Servers {
			if s.Leader {
				return c.byCtlPort(s.CtlPort)
			}
		}
	}
	return nil
}

func (c *Cluster) byCtlPort(port uint16) *Node {
	for _, n := range c.Nodes() {
		if n.CtlPort == port {
			return n
		}
	}
	return nil
}

// KillAll kills every process. It may be called again.
func (c *Cluster) KillAll() {
	c.mu.Lock()
	procs := c.procs
	c.procs = nil
	c.mu.Unlock()
	for _, p := range procs {
		p.Kill()
	}
}

// Forget drops a process that has ended from those that Close kills.
func (c *Cluster) Forget(p *Proc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.procs = slices.DeleteFunc(c.procs, func(o *Proc) bool { return o == p })
}

// Close kills every process and removes the directory. It may be called again.
func (c *Cluster) Close() error {
	c.KillAll()
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("remove directory: %w", err)
	}
	return nil
}

// Logs writes what the processes logged to w, for a test that has failed.
func (c *Cluster) Logs(w io.Writer) {
	files, err := filepath.Glob(filepath.Join(c.Dir, "*.log"))
	if err != nil {
		return // the pattern is constant
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
			fmt.Fprintf(w, "--- %s\n%s\n", filepath.Base(file), text)
		}
	}
}
