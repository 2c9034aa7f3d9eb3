package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
)

// ErrLost is wrapped when the delivery contract did not hold in a demonstration.
var ErrLost = errors.New("testcluster: the ring did not keep its promise")

// DemoOptions says what a demonstration does.
type DemoOptions struct {
	Bin       string    // directory of the binaries
	Self      string    // program that knows the verbs _server and _client
	Requests  int       // 100000 in "make demo"
	PerSecond int       // 5000
	Keys      int       // 300
	Out       io.Writer // what happens, for people
	Keep      bool      // do not remove the directory
	Follower  bool      // kill a server that does not lead
}

// demo is one demonstration.
type demo struct {
	DemoOptions
	*Cluster
	start    time.Time
	programs []*Proc
	client   *Proc
	progress <-chan Progress
	killed   *Node
	killedNs int64
	leader   bool // killed was the leader
}

// demoWait bounds each wait; the ring takes a few seconds, and longer on a machine that is busy.
const demoWait = time.Minute

// Demo starts a ring of three servers and a slave, sends requests through it
// while one server node is killed and started again, and prints what it sees.
// It fails with ErrLost unless every request was answered, in order, and
// nothing was repeated unmarked. It ends by itself and removes all it made.
func Demo(ctx context.Context, o DemoOptions) (err error) {
	c, err := New(Options{Bin: o.Bin, Servers: 3, Slaves: 1, Replica: 1})
	if err != nil {
		return err
	}
	d := &demo{DemoOptions: o, Cluster: c, start: time.Now()}
	defer func() {
		if err != nil && !errors.Is(err, ErrLost) {
			c.Logs(o.Out)
		}
		if o.Keep {
			c.KillAll()
			return
		}
		err = errors.Join(err, c.Close())
	}()
	if err := d.setUp(ctx); err != nil {
		return err
	}
	if err := d.story(ctx); err != nil {
		return err
	}
	return d.conclude(ctx)
}

// say prints a line with the time since the start.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, "[%5.1fs] %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

// setUp starts nodes and server programs and waits until all serve.
func (d *demo) setUp(ctx context.Context) error {
	fmt.Fprintf(d.Out, "A ring of 3 servers with REPLICA=1 and a slave, real processes in %s\n", d.Dir)
	for _, n := range d.Servers {
		fmt.Fprintf(d.Out, "  server %s = localhost:%d\n", n.Name, n.CtlPort)
	}
	if err := d.StartNodes(); err != nil {
		return err
	}
	var err error
	if d.programs, err = d.StartServerPrograms(d.Self); err != nil {
		return err
	}
	d.say("nodes and one server program on each server are started")
	waitCtx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	err = d.Wait(waitCtx, "three servers in service", d.Nodes(), func(st controlplane.Status) bool { return InService(st) == 3 })
	if err != nil {
		return err
	}
	d.say("all servers are in service")
	return d.show(ctx, "The ring before", d.Servers[0])
}

// story sends the load, kills the leader a third into it and starts it again
// two thirds into it.
func (d *demo) story(ctx context.Context) error {
	load := Load{Requests: d.Requests, PerSecond: d.PerSecond, Keys: d.Keys, Patience: demoWait}
	d.say("the client program sends %s requests, %s a second, for %d keys", thousands(d.Requests), thousands(d.PerSecond), d.Keys)
	var err error
	if d.client, d.progress, err = d.StartLoad(d.Self, "client", d.Slaves[0], load); err != nil {
		return err
	}
	if err := d.follow(ctx, d.Requests/3); err != nil {
		return err
	}
	if err := d.kill(ctx); err != nil {
		return err
	}
	if err := d.follow(ctx, d.Requests*2/3); err != nil {
		return err
	}
	if err := d.killed.Start(); err != nil {
		return err
	}
	d.say("server %s is started again", d.killed.Name)
	return d.follow(ctx, d.Requests+1)
}

// follow prints the progress until so many requests were sent or the client program has ended.
func (d *demo) follow(ctx context.Context, sent int) error {
	for {
		select {
		case p, ok := <-d.progress:
			if !ok {
				return d.clientEnd(ctx, sent)
			}
			var by []string
			for _, n := range d.Servers {
				by = append(by, fmt.Sprintf("%s %4d", n.Name, p.By[n.Name]))
			}
			d.say("sent %7s  waiting %6s  answered in the last second by %s", thousands(p.Sent), thousands(p.Waiting), strings.Join(by, "  "))
			if p.Sent >= sent {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("demonstration: %w", ctx.Err())
		}
	}
}

// clientEnd checks how the client program has ended, and that it was time.
func (d *demo) clientEnd(ctx context.Context, awaited int) error {
	code, err := d.client.Wait(ctx)
	if err != nil {
		return err
	}
	if code != 0 || awaited <= d.Requests {
		d.Logs(d.Out)
	}
	if awaited <= d.Requests {
		return fmt.Errorf("%w: the client program, before it had sent everything", ErrEnded)
	}
	return nil // what it could not do is in its records
}

// kill ends one server node without warning: the leader, unless Follower asks
// for another one or nobody leads.
func (d *demo) kill(ctx context.Context) error {
	leader := d.Leader(ctx)
	d.killed, d.leader = leader, leader != nil && !d.Follower
	for _, n := range d.Servers {
		if n != leader && !d.leader {
			d.killed = n
		}
	}
	d.killedNs = time.Now().UnixNano()
	d.killed.Kill()
	was := "it was not the leader"
	if d.leader {
		was = "it was the leader"
	}
	d.say("SIGKILL to server node %s (%s); its server program lives on", d.killed.Name, was)
	waitCtx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	witness := d.others()[0]
	down := func(st controlplane.Status) bool { return InService(st) == 2 && st.Raft.Leader != "" }
	if err := d.Wait(waitCtx, "the ring noticing", []*Node{witness}, down); err != nil {
		d.say("the ring has not noticed: %v", err)
	}
	return d.show(ctx, "The ring after the kill", witness)
}

// others returns the servers that were not killed.
func (d *demo) others() []*Node {
	var all []*Node
	for _, n := range d.Servers {
		if n != d.killed {
			all = append(all, n)
		}
	}
	return all
}

// conclude waits until the ring is whole, ends the programs and judges.
func (d *demo) conclude(ctx context.Context) error {
	waitCtx, cancel := context.WithTimeout(ctx, 2*demoWait)
	defer cancel()
	whole := func(st controlplane.Status) bool { return InService(st) == 3 }
	wholeErr := d.Wait(waitCtx, "the ring being whole again", d.Servers, whole)
	if wholeErr != nil {
		d.say("%v", wholeErr)
	}
	if err := d.show(ctx, "The ring at the end", d.others()[0]); err != nil {
		return err
	}
	asked, err := readRecords[Asked](d.records("client"))
	if err != nil {
		return err
	}
	taken, err := d.StopServerPrograms(waitCtx, d.programs)
	if err != nil {
		return err
	}
	v := Judge(asked, taken, d.killed.Name[0], d.killedNs)
	d.print(v)
	if v.Lost > 0 || v.WrongOrder > 0 || v.Unmarked > 0 {
		return fmt.Errorf("%w: %d lost, %d in wrong order, %d repeated without a mark", ErrLost, v.Lost, v.WrongOrder, v.Unmarked)
	}
	return wholeErr
}

func (d *demo) print(v Verdict) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(d.Out, "%-44s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(d.Out)
	row("sent", "%s", thousands(v.Sent))
	row("answered", "%s", thousands(v.Answered))
	row("lost", "%d", v.Lost)
	row("repeated (all must carry MaybeRepeat)", "%d (%d without)", v.Repeated, v.Unmarked)
	row("in wrong order", "%d", v.WrongOrder)
	row("rate", "%.0f/s", v.Rate)
	row("latency p50 / p99, from when a request is due", "%v / %v", v.P50, v.P99)
	row("from the kill to the replica's first answer", "%v", v.Failover.Round(time.Millisecond))
	fmt.Fprintf(d.Out, "\nsent %d answered %d lost %d repeated %d wrong-order %d rate %.0f/s p50 %v p99 %v failover %v leader-killed %t seconds %.0f\n",
		v.Sent, v.Answered, v.Lost, v.Repeated, v.WrongOrder, v.Rate, v.P50, v.P99, v.Failover.Round(time.Millisecond), d.leader,
		time.Since(d.start).Seconds())
}

// show prints the ring as one node sees it.
func (d *demo) show(ctx context.Context, title string, n *Node) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\n%s, as server %s sees it\n\n", title, n.Name)
	if err := ringview.Print(d.Out, st); err != nil {
		return err
	}
	fmt.Fprintln(d.Out)
	return nil
}

// thousands prints a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
