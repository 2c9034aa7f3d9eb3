package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/testcluster/rig"
)

const (
	commandWait = 8 * time.Second // an answer comes within 5 s
)

// operators give commands to the control ports of random nodes.
type operators struct{ *current }

func newOperators(c *current) *operators { return &operators{c} }

// start lets each operator work until ctx ends.
func (o *operators) start(ctx context.Context, wg *sync.WaitGroup) {
	for i := range o.Operators {
		random := rand.New(rand.NewPCG(o.Seed, uint64(o.Number)<<8|uint64(i)|1<<62))
		wg.Go(func() {
			for pause(ctx, time.Duration(random.ExpFloat64()*float64(o.OperatorRest))) {
				o.one(ctx, i, random)
			}
		})
	}
}

// others are the commands of which only the answer is judged.
var others = [...]string{"MERGE", "COMPMERGE", "ABORTMERGE", "UPDATESTATUS", "ALLSTATUS", "SELFSTATUS"}

// one gives one command and notes what came of it.
func (o *operators) one(ctx context.Context, client int, random *rand.Rand) {
	hosts := o.rig.Hosts
	h := hosts[random.IntN(len(hosts))]
	op := check.Op{Client: client, Node: h.Name, Command: "READ"}
	server := hosts[random.IntN(o.Servers)]
	switch n := random.IntN(40); {
	case n < 6:
		op.Command = "SUSPENDMERGE"
	case n < 12:
		op.Command = "NOSUSPENDMERGE"
	case n < 14:
		op.Command, op.Target = "SERVICEOUT", server.Name
	case n < 18: // a server gives this command about itself
		op.Command, op.Target, op.Node, h = "SERVICEIN", server.Name, server.Name, server
	case n < 24:
		op.Command = others[n-18]
	}
	op.CallNs = check.Now()
	if op.Command == "READ" {
		var st check.State
		err := get(ctx, h, "/v1/status?consistent=1", commandWait, &st)
		if err == nil {
			op.OK, op.Read = true, &st
		} else {
			op.Reply = err.Error()
		}
	} else {
		give(ctx, h, &op, server)
	}
	op.ReturnNs = check.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ops = append(o.ops, op)
}

// give gives a text command and understands the answer.
func give(ctx context.Context, h *rig.Host, op *check.Op, server *rig.Host) {
	line := op.Command
	if op.Command == "SERVICEOUT" {
		line += fmt.Sprintf(" %s:%d", server.Node.Host, server.Node.CtlPort)
	}
	reply, err := command(ctx, h, line)
	op.Reply = strings.TrimSpace(reply)
	switch {
	case errors.Is(err, errNotGiven):
		op.Reply = err.Error()
	case strings.HasPrefix(reply, "SUCCEED"):
		op.OK = true
	case op.Command == "SELFSTATUS", op.Command == "ALLSTATUS": // they show, and change nothing
		op.OK = err == nil && reply != "" && !strings.HasPrefix(reply, "ERROR")
	case err != nil, !strings.HasPrefix(reply, "ERROR"), strings.Contains(reply, "may have happened"):
		op.Unknown = true
	}
}

// errNotGiven says that a command never reached the node.
var errNotGiven = errors.New("not given")

// command sends one line to a control port and returns the answer.
func command(ctx context.Context, h *rig.Host, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(h.Node.Host, strconv.Itoa(int(h.Node.CtlPort))))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNotGiven, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", fmt.Errorf("give command: %w", err)
	}
	reply, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if err != nil {
		return string(reply), fmt.Errorf("read answer: %w", err)
	}
	return string(reply), nil
}

const (
	restoreLook = 3 * time.Second // between two looks whether more must be done
	restoreAsk  = time.Second
)

// whole waits until all servers are in service everywhere, and takes back what
// operators have changed: after a command the ring may wait for the next one.
func (c *current) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healWait)
	defer cancel()
	for {
		wait, cancel := context.WithTimeout(ctx, restoreLook)
		err := c.rig.Wait(wait, "all servers in service", c.rig.Nodes(), inService(c.Servers))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		for _, h := range c.rig.Hosts[:c.Servers] {
			var st check.State
			if c.Operators > 0 && get(ctx, h, "/v1/status", restoreAsk, &st) == nil {
				restore(ctx, c, h, &st)
				break
			}
		}
	}
}

// restore gives the commands that a node's view of the ring calls for.
func restore(ctx context.Context, c *current, h *rig.Host, st *check.State) {
	give := func(h *rig.Host, command, target string) {
		op := check.Op{Client: c.Operators, Node: h.Name, Command: command, Target: target, CallNs: check.Now()} // a client of its own
		give(ctx, h, &op, h)
		op.ReturnNs = check.Now()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ops = append(c.ops, op)
	}
	switch {
	case st.SuspendMerge:
		give(h, "NOSUSPENDMERGE", "")
	case st.Merge != nil && st.Merge.ID != 0:
		give(h, "COMPMERGE", "") // refused until all are ready
	case slices.ContainsFunc(st.Servers, func(s check.ServerState) bool { return strings.Contains(s.Status, "[Pending]") }):
		give(h, "MERGE", "")
	}
	for _, s := range st.Servers {
		if out := c.rig.HostAt(s.CtlPort); out != nil && strings.Contains(s.Status, "[SERVICE OUT]") {
			give(out, "SERVICEIN", out.Name)
		}
	}
}
