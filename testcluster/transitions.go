package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/controlplane"
)

// TransitionsOptions says what MeasureTransitions runs.
type TransitionsOptions struct {
	Bin      string    // directory of the binaries
	Self     string    // program that knows the verbs of programs
	Commands int       // committed changes to time at each server
	Rounds   int       // times that a server is killed, or stopped, in each way
	Out      io.Writer // one JSON line for each case
}

// TransitionFigures is one line of MeasureTransitions's output.
type TransitionFigures struct {
	Case string  `json:"case"`
	N    int     `json:"n"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"` // the longest, with fewer than 100
	Max  float64 `json:"max_ms"`
}

func figuresOf(name string, took []time.Duration) TransitionFigures {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return TransitionFigures{Case: name, N: len(took), P50: ms(took[len(took)/2]), P99: ms(took[min(len(took)-1, len(took)*99/100)]), Max: ms(took[len(took)-1])}
}

const (
	// transitionsWait bounds every wait for the ring.
	transitionsWait = 30 * time.Second
	// transitionsRest is how long a ring is left alone before a server ends: links
	// of the others must have met the process that was started last, else its end
	// cannot be told from its absence before. silentRest is that for silent ones:
	// only one of so few is declared DOWN in 10 s.
	transitionsRest = time.Second
	silentRest      = 11 * time.Second
)

// MeasureTransitions starts three servers with programs and two slaves, and
// measures how long a change of the ring takes: commands at a control port until
// they are answered, each of which is one entry of the log on disk, and ends of
// servers until the tables of all other nodes show them DOWN.
func MeasureTransitions(ctx context.Context, o TransitionsOptions) error {
	return withNodes(Options{Bin: o.Bin, Servers: 3, Slaves: 2}, func(c *Cluster) error { return c.measureTransitions(ctx, o) })
}

func (c *Cluster) measureTransitions(ctx context.Context, o TransitionsOptions) error {
	if _, err := c.StartServerPrograms(o.Self); err != nil {
		return err
	}
	if err := c.whole(ctx); err != nil {
		return err
	}
	if err := c.measureCommits(ctx, o); err != nil {
		return err
	}
	ends := []struct {
		name   string
		leader bool
		rest   time.Duration
		end    func(*Node) error
	}{
		{"killed follower until DOWN everywhere", false, transitionsRest, func(n *Node) error { n.Kill(); return nil }},
		{"killed leader until DOWN everywhere", true, transitionsRest, func(n *Node) error { n.Kill(); return nil }},
		{"silent follower until DOWN everywhere", false, silentRest, func(n *Node) error { return n.Proc().Signal(syscall.SIGSTOP) }},
		{"silent leader until DOWN everywhere", true, silentRest, func(n *Node) error { return n.Proc().Signal(syscall.SIGSTOP) }},
	}
	for _, e := range ends {
		var took []time.Duration
		for range o.Rounds {
			d, err := c.measureEnd(ctx, e.leader, e.rest, e.end)
			if err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			took = append(took, d)
		}
		if err := json.NewEncoder(o.Out).Encode(figuresOf(e.name, took)); err != nil {
			return fmt.Errorf("print figures: %w", err)
		}
	}
	var took []time.Duration
	for range o.Rounds {
		d, err := c.measureRestart(ctx)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	if err := json.NewEncoder(o.Out).Encode(figuresOf("all servers killed and started, from the start until in service", took)); err != nil {
		return fmt.Errorf("print figures: %w", err)
	}
	return nil
}

// measureRestart kills all servers, starts them, and returns how long it took
// from then on until all nodes showed them in service.
func (c *Cluster) measureRestart(ctx context.Context) (time.Duration, error) {
	for _, n := range c.Servers {
		n.Kill()
	}
	begin := time.Now()
	for _, n := range c.Servers {
		if err := n.Start(); err != nil {
			return 0, err
		}
	}
	err := c.whole(ctx)
	return time.Since(begin), err
}

// whole waits until all servers are in service on all nodes.
func (c *Cluster) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*transitionsWait)
	defer cancel()
	return c.Wait(ctx, "all servers in service", c.Nodes(), func(st controlplane.Status) bool { return InService(st) == len(c.Servers) })
}

// measureCommits times SUSPENDMERGE and NOSUSPENDMERGE at the leader and at a
// follower, in turns.
func (c *Cluster) measureCommits(ctx context.Context, o TransitionsOptions) error {
	leader := c.Leader(ctx)
	if leader == nil {
		return fmt.Errorf("%w for a leader", ErrTimeout)
	}
	follower := c.follower(leader)
	took := map[*Node][]time.Duration{}
	for i := range 2 * o.Commands {
		n := []*Node{leader, follower}[i%2]
		begin := time.Now()
		if err := n.command(ctx, []string{"SUSPENDMERGE", "NOSUSPENDMERGE"}[i/2%2]); err != nil {
			return err
		}
		took[n] = append(took[n], time.Since(begin))
	}
	if err := leader.command(ctx, "NOSUSPENDMERGE"); err != nil {
		return err
	}
	for _, f := range []TransitionFigures{figuresOf("command at the leader until committed", took[leader]), figuresOf("command at a follower until committed", took[follower])} {
		if err := json.NewEncoder(o.Out).Encode(f); err != nil {
			return fmt.Errorf("print figures: %w", err)
		}
	}
	return nil
}

func (c *Cluster) follower(leader *Node) *Node {
	return c.Servers[slices.IndexFunc(c.Servers, func(n *Node) bool { return n != leader })]
}

// command gives a text command to the control port, which must succeed.
func (n *Node) command(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, transitionsWait)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(n.Host, strconv.Itoa(int(n.CtlPort))))
	if err != nil {
		return fmt.Errorf("give %s to %s: %w", line, n.Name, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return fmt.Errorf("give %s to %s: %w", line, n.Name, err)
	}
	reply, err := io.ReadAll(io.LimitReader(conn, 1<<16))
	if err != nil {
		return fmt.Errorf("read what %s answers to %s: %w", n.Name, line, err)
	}
	if !strings.HasPrefix(string(reply), "SUCCEED") {
		return fmt.Errorf("%s answers to %s: %s", n.Name, line, strings.TrimSpace(string(reply)))
	}
	return nil
}

// measureEnd lets the ring rest, ends a server, returns how long it took until every other node
// showed it DOWN, and makes the ring whole again.
func (c *Cluster) measureEnd(ctx context.Context, leader bool, rest time.Duration, end func(*Node) error) (time.Duration, error) {
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	victim := c.Leader(ctx)
	if victim == nil {
		return 0, fmt.Errorf("%w for a leader", ErrTimeout)
	}
	if !leader {
		victim = c.follower(victim)
	}
	begin := time.Now()
	if err := end(victim); err != nil {
		return 0, fmt.Errorf("end %s: %w", victim.Name, err)
	}
	waitCtx, cancel := context.WithTimeout(ctx, transitionsWait)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(c.Servers)+len(c.Slaves))
	for _, n := range c.Nodes() {
		if n != victim {
			wg.Go(func() { errs <- n.awaitDown(waitCtx, victim) })
		}
	}
	wg.Wait()
	took := time.Since(begin)
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	victim.Kill()
	if err := victim.Start(); err != nil {
		return 0, err
	}
	return took, c.whole(ctx)
}

// awaitDown waits until a node shows another one DOWN.
func (n *Node) awaitDown(ctx context.Context, victim *Node) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := n.Status(ctx)
		if err == nil && slices.ContainsFunc(st.Servers, func(s controlplane.ServerStatus) bool {
			return s.CtlPort == victim.CtlPort && strings.Contains(s.Status, "[DOWN]")
		}) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w for %s to show %s DOWN", ErrTimeout, n.Name, victim.Name)
		}
	}
}
