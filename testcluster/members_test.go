package testcluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chmpx/chmpx/controlplane"
)

// stopLimit is how long a node may take to stop, whatever state it is in: it takes
// up to 4 s, and longer on a machine that is busy.
const stopLimit = time.Minute

// stops proves that a node ends on a signal, in order.
func stops(t *testing.T, ctx context.Context, n *Node, sig syscall.Signal) {
	t.Helper()
	began := time.Now()
	must(t, n.Proc().Signal(sig))
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	code, err := n.Proc().Wait(ctx)
	if err != nil || code != 0 {
		t.Errorf("%s ended %v after %v with code %d, %v", n.Name, time.Since(began), sig, code, err)
	}
	t.Logf("%s ended %v after %v", n.Name, time.Since(began).Round(time.Millisecond), sig)
}

// waitsFor returns a condition on what a node waits for.
func waitsFor(text string) func(controlplane.Status) bool {
	return func(st controlplane.Status) bool { return strings.HasPrefix(st.WaitsFor, text) }
}

// A node stops on TERM and on HUP while it waits for other
// servers, be it for the first start or to join, and as a slave without any.
func TestStopWhileWaiting(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 4, Slaves: 1})
	a, d, slave := c.Servers[0], c.Servers[3], c.Slaves[0]
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		for _, n := range []*Node{a, d, slave} {
			must(t, n.Start())
		}
		must(t, c.Wait(ctx, "waiting", []*Node{a, d}, waitsFor("waiting for ")))
		must(t, c.Wait(ctx, "slave runs", []*Node{slave}, func(controlplane.Status) bool { return true }))
		for _, n := range []*Node{a, d, slave} {
			stops(t, ctx, n, sig)
		}
	}
}

// Nodes stop on TERM and on HUP without quorum.
func TestStopWithoutQuorum(t *testing.T) {
	c, ctx, _ := newRing(t)
	for i, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		last := c.Servers[i]
		for _, n := range c.Servers {
			if n != last {
				n.Kill()
			}
		}
		must(t, c.Wait(ctx, "no quorum", []*Node{last}, waitsFor("no quorum: 1 of 3")))
		stops(t, ctx, last, sig)
		if i == 0 {
			must(t, c.StartNodes())
			must(t, c.Wait(ctx, "all are back", c.Servers, func(st controlplane.Status) bool { return st.Quorum.OK && st.Incarnation != 0 }))
		}
	}
	stops(t, ctx, c.Slaves[0], syscall.SIGTERM) // that has nobody left
}

// Nodes stop on TERM and on HUP while the leader hangs, at once
// and when they have noticed, and while a program of theirs takes nothing. The
// hanging leader stops when it continues.
func TestStopBesideHanging(t *testing.T) {
	c, ctx, programs := newRing(t)
	leader := c.Leader(ctx)
	if leader == nil {
		t.Fatal("nobody leads")
	}
	var others []*Node
	for i, n := range c.Servers {
		if n != leader {
			others = append(others, n)
			must(t, programs[i].Signal(syscall.SIGSTOP))
		}
	}
	must(t, leader.Proc().Signal(syscall.SIGSTOP))
	stops(t, ctx, others[0], syscall.SIGTERM)
	must(t, c.Wait(ctx, "noticed", others[1:], func(st controlplane.Status) bool { return !st.Quorum.OK }))
	stops(t, ctx, others[1], syscall.SIGHUP)
	stops(t, ctx, c.Slaves[0], syscall.SIGHUP)
	must(t, leader.Proc().Signal(syscall.SIGTERM))
	must(t, leader.Proc().Signal(syscall.SIGCONT))
	stops(t, ctx, leader, syscall.SIGCONT)
}

// A second start of a node on the same host fails and says
// what is in use, also while the first one hangs, which is as before when it
// continues.
func TestSecondStart(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 1})
	a := c.Servers[0]
	must(t, a.Start())
	must(t, c.Wait(ctx, "a ring of one", c.Servers, func(st controlplane.Status) bool { return st.Incarnation != 0 }))
	was, err := a.Status(ctx)
	must(t, err)
	second := func() {
		t.Helper()
		sctx, cancel := context.WithTimeout(ctx, stopLimit)
		defer cancel()
		out, err := exec.CommandContext(sctx, filepath.Join(bin, "chmpx"), "-conf", a.Conf()).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "does this node run already?") {
			t.Errorf("second start: %v\n%s", err, out)
		}
	}
	second()
	must(t, a.Proc().Signal(syscall.SIGSTOP))
	second()
	must(t, a.Proc().Signal(syscall.SIGCONT))
	is, err := a.Status(ctx)
	must(t, err)
	if is.Incarnation != was.Incarnation || is.Raft.Term != was.Raft.Term || is.RingID != was.RingID {
		t.Errorf("incarnation %d term %d became %d and %d", was.Incarnation, was.Raft.Term, is.Incarnation, is.Raft.Term)
	}
}

// A server that hangs is down and, when it continues, up again under one new
// incarnation: it does not come and go.
func TestHungServer(t *testing.T) {
	c, ctx, _ := newRing(t)
	leader := c.Leader(ctx)
	var victim, witness *Node
	for _, n := range c.Servers {
		if n != leader {
			victim, witness = n, victim
		}
	}
	of := func(st controlplane.Status) controlplane.ServerStatus {
		for _, s := range st.Servers {
			if s.CtlPort == victim.CtlPort {
				return s
			}
		}
		return controlplane.ServerStatus{}
	}
	before, err := witness.Status(ctx)
	must(t, err)
	must(t, victim.Proc().Signal(syscall.SIGSTOP))
	must(t, c.Wait(ctx, "down", []*Node{witness}, func(st controlplane.Status) bool { return strings.Contains(of(st).Status, "[DOWN]") }))
	must(t, victim.Proc().Signal(syscall.SIGCONT))
	waitInService(t, ctx, c, 3)
	once, err := witness.Status(ctx)
	must(t, err)
	if of(once).Incarnation <= of(before).Incarnation {
		t.Errorf("incarnation %d after %d", of(once).Incarnation, of(before).Incarnation)
	}
	calm, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err = c.Wait(calm, "another incarnation", []*Node{witness}, func(st controlplane.Status) bool { return of(st).Incarnation != of(once).Incarnation })
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("it came and went: %v", err)
	}
}

// A ring of two whose only voter lost its disk goes on from the other server
// with --bootstrap, programs and all.
func TestOnlyVoterLost(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 2, Slaves: 1})
	must(t, c.StartNodes())
	_, err := c.StartServerPrograms(self())
	must(t, err)
	waitInService(t, ctx, c, 2)
	voter, other := c.Servers[0], c.Servers[1]
	if st, err := voter.Status(ctx); err != nil || st.Raft.Suffrage != "voter" {
		voter, other = other, voter
	}
	was, err := other.Status(ctx)
	must(t, err)
	voter.Kill()
	must(t, os.RemoveAll(c.path("data-"+voter.Name)))
	must(t, voter.Start())
	must(t, c.Wait(ctx, "the way out", []*Node{other}, waitsFor("the ring has lost its majority for good: 1 of 1 voters lost their disk")))
	must(t, other.Stop(ctx))
	must(t, other.Start("--bootstrap"))
	// On the slave too, which has never stopped.
	must(t, c.Wait(ctx, "both servers in service in the next era", c.Nodes(), func(st controlplane.Status) bool {
		return InService(st) == 2 && st.RingID != was.RingID && st.Epoch.Era == was.Epoch.Era+1
	}))
}
