package testcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
)

// TestCommandsOnRandomNodes proves with real processes that operators may
// command any node: a server is taken out and in again by hand, with every
// command at a random server, one of them by the slave, and after each of them a
// consistent read of a random node shows what it did.
func TestCommandsOnRandomNodes(t *testing.T) {
	c, ctx, _ := newRing(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	send := func(n *Node, command, reply string) {
		t.Helper()
		got, err := ringview.Command(ctx, "127.0.0.1", n.CtlPort, command)
		if err != nil || got.Reply != reply {
			t.Fatalf("%s at %s: %+v, %v, want %q", command, n.Name, got, err, reply)
		}
	}
	server := func() *Node { return c.Servers[random.IntN(len(c.Servers))] }
	shows := func(what string, is func(controlplane.Status) bool) {
		t.Helper()
		n := c.Nodes()[random.IntN(len(c.Nodes()))]
		if st := read(t, ctx, n); !is(st) {
			t.Fatalf("%s is not what %s shows:\n%+v", what, n.Name, st)
		}
	}
	victim := server()
	state := func(action, operate, service string) func(controlplane.Status) bool {
		return func(st controlplane.Status) bool {
			for _, s := range st.Servers {
				if s.CtlPort == victim.CtlPort {
					return s.Action == action && s.Operate == operate && s.Service == service
				}
			}
			return false
		}
	}
	await := func(what string, is func(controlplane.Status) bool) {
		t.Helper()
		must(t, c.Wait(ctx, what, c.Nodes(), is))
	}
	const done, nobody = "SUCCEED", "SUCCEED: There no server on RING."
	slave := c.Slaves[0]
	send(server(), "SUSPENDMERGE", done)
	shows("SUSPENDMERGE", func(st controlplane.Status) bool { return st.SuspendMerge })
	send(victim, "SERVICEIN", "ERROR: Could not change status, because status is not allowed.")
	send(slave, fmt.Sprintf("SERVICEOUT localhost:%d", victim.CtlPort), done)
	shows("SERVICEOUT", state("delete", "pending", "in"))
	send(slave, "MERGE", nobody)
	shows("MERGE of a slave", state("delete", "pending", "in"))
	send(server(), "ABORTMERGE", done)
	shows("ABORTMERGE", state("none", "nothing", "in"))
	send(server(), fmt.Sprintf("SERVICEOUT localhost:%d", victim.CtlPort), done)
	send(server(), "MERGE", done)
	await("copied", state("delete", "done", "in"))
	send(server(), "MERGE", "ERROR: Could not change status, because some servers could not be changed its status now.")
	send(server(), "COMPMERGE", done)
	await("out", state("none", "nothing", "out"))
	send(victim, "UPDATESTATUS", done)
	send(victim, "SERVICEIN", done)
	shows("SERVICEIN", state("add", "pending", "in"))
	send(server(), "MERGE", done)
	await("copied", state("add", "done", "in"))
	send(server(), "COMPMERGE", done)
	await("in again", state("none", "nothing", "in"))
	send(server(), "NOSUSPENDMERGE", done)
	shows("NOSUSPENDMERGE", func(st controlplane.Status) bool { return !st.SuspendMerge })
}

// read is a consistent read of a node.
func read(t *testing.T, ctx context.Context, n *Node) controlplane.Status {
	t.Helper()
	var st controlplane.Status
	_, err := ringview.Get(ctx, "127.0.0.1", n.CtlPort, "/v1/status?consistent=1", &st)
	must(t, err)
	return st
}
