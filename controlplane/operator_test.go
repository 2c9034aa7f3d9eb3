package controlplane

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// command runs a command on a node within the time of an operator's.
func (n *rigNode) command(body fsm.Body) error {
	ctx, cancel := context.WithTimeout(context.Background(), CommandTimeout)
	defer cancel()
	return n.plane.Command(ctx, body)
}

// consistent is a consistent read.
func (n *rigNode) consistent() error {
	ctx, cancel := context.WithTimeout(context.Background(), CommandTimeout)
	defer cancel()
	return n.plane.Consistent(ctx)
}

// suspended returns what a consistent read at a node says about SUSPENDMERGE.
func (r *rig) suspended(n *rigNode) bool {
	r.t.Helper()
	if err := n.consistent(); err != nil {
		r.t.Fatalf("read at %s: %v", n.name, err)
	}
	return n.plane.Status().SuspendMerge
}

// serve gives every server a program and waits until all are in service.
func (r *rig) serve() {
	r.t.Helper()
	for _, m := range r.servers {
		r.nodes[m.Name].plane.Programs(1)
	}
	r.await("all in service", patience, func() bool {
		for _, n := range r.nodes {
			v := n.plane.view()
			for _, m := range r.servers {
				if s := v.Server(m.ID); s == nil || s.Status != ring.ServiceIn|ring.Up || v.Merge != nil {
					return false
				}
			}
		}
		return true
	})
}

// TestCommandsEverywhere proves that a command at any server changes the ring,
// that a consistent read at any node, a slave too, shows it at once, and that a
// slave's operators may take servers out and nothing else.
func TestCommandsEverywhere(t *testing.T) {
	slaveStory(t, 3, func(r *rig) {
		r.startAll()
		s := r.start("s", nil)
		r.formed("a", "b", "c")
		r.serve()
		on := false
		for range 3 {
			for _, m := range r.servers {
				on = !on
				if err := r.nodes[m.Name].command(fsm.SuspendMerge{On: on}); err != nil {
					t.Fatalf("at %s: %v", m.Name, err)
				}
				for _, n := range r.nodes {
					if r.suspended(n) != on {
						t.Errorf("%s shows %t, want %t", n.name, !on, on)
					}
				}
			}
		}
		if err := s.command(fsm.SuspendMerge{}); !errors.Is(err, ErrRefused) {
			t.Errorf("SUSPENDMERGE of a slave: %v", err)
		}
		if err := s.command(fsm.ServiceOut{ID: r.servers[1].ID}); err != nil {
			t.Fatalf("SERVICEOUT by a slave: %v", err)
		}
		if err := s.consistent(); err != nil {
			t.Fatal(err)
		}
		if st := s.plane.view().Server(r.servers[1].ID).Status; st.Action() != ring.Delete {
			t.Errorf("after SERVICEOUT: %v", st)
		}
		a := r.nodes["a"]
		if err := a.command(fsm.ServiceIn{ID: r.servers[1].ID}); !errors.Is(err, ErrRefused) {
			t.Errorf("SERVICEIN of another server: %v", err)
		}
		if err := a.command(fsm.ServiceIn{ID: a.member.ID}); !errors.Is(err, fsm.ErrStatusNotAllowed) || !errors.Is(err, ErrRefused) {
			t.Errorf("SERVICEIN of a server in service: %v", err)
		}
	})
}

// TestSlaveMayNot proves that what a slave's operators ask for changes nothing
// where the servers do not let the slave's host change the ring, and that they
// are told so.
func TestSlaveMayNot(t *testing.T) {
	slaveStory(t, 1, func(r *rig) {
		var asked atomic.Int64
		r.start("a", func(c *Config) {
			c.SlaveMay = func(_ context.Context, remote net.Addr) bool { return remote == nil || asked.Add(1) == 0 }
		})
		s := r.start("s", nil)
		r.formed("a")
		a := r.servers[0].ID
		if err := s.command(fsm.ServiceOut{ID: a}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "CTLSLAVES") {
			t.Errorf("SERVICEOUT by a slave: %v", err)
		}
		if asked.Load() != 1 {
			t.Errorf("the slave's host was looked at %d times", asked.Load())
		}
		if err := r.nodes["a"].command(fsm.ServiceOut{ID: a}); errors.Is(err, ErrRefused) && strings.Contains(err.Error(), "CTLSLAVES") {
			t.Errorf("SERVICEOUT by a server: %v", err)
		}
	})
}

// TestRefresh proves that UPDATESTATUS returns when the ring shows what this
// server reports: that its program has come.
func TestRefresh(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		for _, n := range r.nodes {
			n.plane.Programs(1)
			ctx, cancel := context.WithTimeout(context.Background(), CommandTimeout)
			err := n.plane.Refresh(ctx)
			cancel()
			if s := n.plane.view().Server(n.member.ID); err != nil || s.Status.Suspended() {
				t.Errorf("%s: %v, %v", n.name, err, s.Status)
			}
		}
	})
}

// TestCommandWhileTheLeaderDies proves that a command whose leader has just
// been killed is answered within 5 s by the next one, and counts.
func TestCommandWhileTheLeaderDies(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill(r.leader().name)
		var wg sync.WaitGroup
		began := time.Now()
		for _, n := range r.nodes {
			wg.Go(func() {
				if err := n.command(fsm.SuspendMerge{On: true}); err != nil {
					t.Errorf("at %s: %v", n.name, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		for _, n := range r.nodes {
			if !r.suspended(n) {
				t.Errorf("%s does not show it", n.name)
			}
		}
	})
}

// deafNet loses the answers to a number of requests over rpc: the connection
// breaks when the answer is read.
type deafNet struct {
	*pipeNet
	lose atomic.Int32
}

type deafConn struct {
	net.Conn
	n     *deafNet
	wrote atomic.Bool
}

func (n *deafNet) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := n.pipeNet.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &deafConn{Conn: c, n: n}, nil
}

func (c *deafConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), `"op":"command"`) {
		c.wrote.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.wrote.Swap(false) && c.n.lose.Add(-1) >= 0 {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestCommandsCountOnce proves that a command whose answer was lost after the
// commit is asked for again and counts once: its second answer is that of the
// first, where a second SERVICEOUT or MERGE would be refused.
func TestCommandsCountOnce(t *testing.T) {
	story(t, 3, func(r *rig) {
		deaf := &deafNet{pipeNet: r.net}
		r.params.AutoMerge = true
		for _, m := range r.servers {
			r.start(m.Name, func(c *Config) { c.Dial = deaf.dial })
		}
		r.formed("a", "b", "c")
		r.serve()
		var n *rigNode
		for _, m := range r.servers {
			if r.nodes[m.Name] != r.leader() {
				n = r.nodes[m.Name]
			}
		}
		if err := n.command(fsm.SuspendMerge{On: true}); err != nil {
			t.Fatal(err)
		}
		for _, body := range []fsm.Body{fsm.ServiceOut{ID: n.member.ID}, fsm.MergeRequest{}} {
			deaf.lose.Store(2)
			if err := n.command(body); err != nil {
				t.Errorf("%s: %v", body.Type(), err)
			}
			if left := deaf.lose.Load(); left > 0 {
				t.Errorf("%s: %d answers were not lost", body.Type(), left)
			}
			deaf.lose.Store(0)
		}
		if err := n.command(fsm.MergeRequest{}); !errors.Is(err, fsm.ErrOperating) {
			t.Errorf("a second MERGE: %v", err)
		}
	})
}

// TestNoQuorumSaysSo proves that without a majority a command ends within 5 s,
// says which servers are missing, and that nothing was changed; a consistent
// read says the same.
func TestNoQuorumSaysSo(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill("b")
		r.kill("c")
		a := r.nodes["a"]
		r.await("no leader", patience, func() bool { _, addr := a.plane.leader(); return addr == "" && !a.plane.leads() })
		for what, err := range map[string]func() error{
			"command": func() error { return a.command(fsm.SuspendMerge{On: true}) },
			"read":    a.consistent,
		} {
			began := time.Now()
			got := err()
			if !errors.Is(got, ErrNoLeader) || errors.Is(got, ErrUncertain) || !strings.Contains(got.Error(), "missing b:8022, c:8023") {
				t.Errorf("%s: %v", what, got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s took %v", what, took)
			}
		}
	})
}

// TestUncertain proves that a command that is in the log of a leader which then
// loses its majority is not called done, nor undone: it may have happened.
func TestUncertain(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		leader := r.leader()
		for _, m := range r.servers {
			if m.Name != leader.name {
				r.nodes[m.Name].plane.stream.Load().Hold(true)
			}
		}
		began := time.Now()
		err := leader.command(fsm.SuspendMerge{On: true})
		if !errors.Is(err, ErrUncertain) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestConsistentWaits proves that a node that is cut off from the log does not
// answer a consistent read with what it has, and does when it has caught up.
func TestConsistentWaits(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		leader := r.leader()
		var n *rigNode
		for _, m := range r.nodes {
			if m != leader {
				n = m
			}
		}
		n.plane.stream.Load().Hold(true)
		if err := leader.command(fsm.SuspendMerge{On: true}); err != nil {
			t.Fatal(err)
		}
		if err := n.consistent(); err == nil {
			t.Error("a node that is cut off answered")
		}
		n.plane.stream.Load().Hold(false)
		r.await("caught up", patience, func() bool { return n.consistent() == nil })
		if !n.plane.Status().SuspendMerge {
			t.Error("the read is old")
		}
	})
}

// TestConsistentOfALeaderCutOff proves that a leader that has just lost the
// others, and does not know yet, answers no consistent read: it may be old.
func TestConsistentOfALeaderCutOff(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		leader := r.leader()
		leader.plane.stream.Load().Hold(true)
		if !leader.plane.leads() {
			t.Fatal("it knows already")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond) // before there can be another leader to ask
		defer cancel()
		if err := leader.plane.Consistent(ctx); err == nil {
			t.Error("it answered")
		}
		leader.plane.stream.Load().Hold(false)
	})
}

// TestCommandsWhileServersDie proves with random commands, each at a random
// server, while servers die and answers are lost, that what was answered holds:
// a change that was made is seen by every consistent read after it, one that was
// not made by none, and none comes late or twice.
func TestCommandsWhileServersDie(t *testing.T) {
	story(t, 3, func(r *rig) {
		deaf := &deafNet{pipeNet: r.net}
		restart := func(name string) { r.start(name, func(c *Config) { c.Dial = deaf.dial }) }
		for _, m := range r.servers {
			restart(m.Name)
		}
		r.formed("a", "b", "c")
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		is, known := false, true
		var done, undone, uncertain int
		for range 80 {
			var live []string
			for _, m := range r.servers {
				if r.nodes[m.Name] == nil && random.IntN(3) > 0 {
					restart(m.Name)
				}
				if r.nodes[m.Name] != nil {
					live = append(live, m.Name)
				}
			}
			if len(live) == 0 {
				continue
			}
			n := r.nodes[live[random.IntN(len(live))]]
			var dying []string // while the command is on its way
			for _, name := range live {
				if r.nodes[name] != n && random.IntN(4) == 0 {
					r.nodes[name].stop()
					dying = append(dying, name)
				}
			}
			deaf.lose.Store(random.Int32N(3))
			on := random.IntN(2) == 0
			began := time.Now()
			switch err := n.command(fsm.SuspendMerge{On: on}); {
			case err == nil:
				is, known = on, true
				done++
			case errors.Is(err, ErrUncertain):
				known = known && is == on
				uncertain++
			default:
				undone++
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a command took %v", took)
			}
			for _, name := range dying {
				r.kill(name)
			}
			reader := r.nodes[r.servers[random.IntN(3)].Name]
			if reader == nil || reader.consistent() != nil {
				continue
			}
			if got := reader.plane.Status().SuspendMerge; known && got != is {
				t.Fatalf("%s shows %t, want %t (%d done, %d uncertain, %d undone)", reader.name, got, is, done, uncertain, undone)
			}
		}
		t.Logf("%d done, %d uncertain, %d undone", done, uncertain, undone)
		if done < 10 {
			t.Error("hardly a command was done")
		}
	})
}

// TestMayCommand proves who may ask for what.
func TestMayCommand(t *testing.T) {
	for _, tc := range []struct {
		body          fsm.Body
		server, slave bool
	}{
		{fsm.ServiceIn{ID: 7}, true, false},
		{fsm.ServiceIn{ID: 8}, false, false},
		{fsm.ServiceOut{ID: 8}, true, true},
		{fsm.ServiceOut{ID: 7, Auto: true}, false, false},
		{fsm.MergeRequest{}, true, false},
		{fsm.MergeComplete{}, true, false},
		{fsm.MergeAbort{Operator: true}, true, false},
		{fsm.MergeAbort{}, false, false},
		{fsm.SuspendMerge{}, true, false},
		{fsm.ServerRestart{ID: 8}, true, false},
		{fsm.ServerReplace{Old: 8, New: 9}, true, false},
		{fsm.ServerForget{ID: 8}, true, false},
		{fsm.HoldEnd{ID: 7}, false, false},
		{fsm.NodeDown{ID: 7}, false, false},
		{fsm.MergeStart{}, false, false},
		{fsm.RingInit{}, false, false},
	} {
		for slave, want := range map[bool]bool{false: tc.server, true: tc.slave} {
			if got := mayCommand(&request{From: 7, Slave: slave}, tc.body); got != want {
				t.Errorf("%s %+v, slave %t: %t", tc.body.Type(), tc.body, slave, got)
			}
		}
	}
}
