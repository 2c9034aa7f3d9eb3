package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/freeport"
	"github.com/chmpx/chmpx/internal/ringview"
)

// bin is where TestMain has built the commands.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "chmpx-bin-")
	if err == nil {
		bin = dir
		cmd := exec.Command("go", "build", "-o", bin, "./cmd/...")
		cmd.Dir = ".."
		if out, buildErr := cmd.CombinedOutput(); buildErr != nil {
			err = fmt.Errorf("build the commands: %w\n%s", buildErr, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else if code = m.Run(); code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func self() string { return filepath.Join(bin, "chmpx-testcluster") }

// testWithin bounds a test, and answersWithin answers to a load that is through; both take
// seconds, and longer on a machine that is busy.
const testWithin, answersWithin = 5 * time.Minute, time.Minute

// newCluster makes a ring that ends with the test; its logs are shown when it fails.
func newCluster(t *testing.T, o Options) (*Cluster, context.Context) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), testWithin)
	t.Cleanup(cancel)
	o.Bin = bin
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.Logs(t.Output())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, ctx
}

// newRing starts a ring of three servers with REPLICA=1, a slave and server
// programs, and waits until all are in service.
func newRing(t *testing.T) (*Cluster, context.Context, []*Proc) {
	t.Helper()
	c, ctx := newCluster(t, Options{Servers: 3, Slaves: 1, Replica: 1})
	must(t, c.StartNodes())
	programs, err := c.StartServerPrograms(self())
	must(t, err)
	waitInService(t, ctx, c, 3)
	return c, ctx, programs
}

func waitInService(t *testing.T, ctx context.Context, c *Cluster, n int) {
	t.Helper()
	var running []*Node
	for _, node := range c.Nodes() {
		if node.Running() {
			running = append(running, node)
		}
	}
	must(t, c.Wait(ctx, fmt.Sprintf("%d servers in service", n), running, func(st controlplane.Status) bool { return InService(st) == n }))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exampleDir copies the example configurations, with free ports and with
// directories of their own, so that the test disturbs nothing on this host.
// It returns the control port of the slave.
func exampleDir(t *testing.T, c *Cluster) (slaveCtlPort uint16) {
	t.Helper()
	ports, err := freeport.Take(3)
	must(t, err)
	swap := []string{"[GLOBAL]", fmt.Sprintf("[GLOBAL]\nRUNDIR = %s\nDATADIR = %s", c.path("run"), c.path("data"))}
	for i, p := range ports {
		swap = append(swap, fmt.Sprint(8020+i), fmt.Sprint(p))
	}
	for _, name := range []string{"test_server.ini", "test_slave.ini"} {
		text, err := os.ReadFile(filepath.Join("..", "examples", name))
		must(t, err)
		must(t, os.WriteFile(c.path(name), []byte(strings.NewReplacer(swap...).Replace(string(text))), 0o600))
	}
	return ports[2]
}

// The five steps of the README work as they are written there: nothing is
// reported as an error, the client's message comes back, and all four
// processes end on HUP with exit code 0.
func TestFiveSteps(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 1, Slaves: 1}) // only for its directory
	slaveNode := &Node{cluster: c, Name: "slave", Host: "localhost", CtlPort: exampleDir(t, c)}
	bench := strings.Fields("-l 0 -proccnt 1 -threadcnt 1 -ta -dl 128 -pr -g err -dummykey TEST")
	server, err := c.Start("chmpx-server", nil, filepath.Join(bin, "chmpx"), "-conf", "test_server.ini")
	must(t, err)
	program, err := c.StartBench("bench-server", nil, append([]string{"-s", "-conf", "test_server.ini"}, bench...)...)
	must(t, err)
	slave, err := c.Start("chmpx-slave", nil, filepath.Join(bin, "chmpx"), "-conf", "test_slave.ini")
	must(t, err)
	slaveNode.proc = slave
	inService := func(st controlplane.Status) bool { return InService(st) == 1 } // no person types as fast as this test
	must(t, c.Wait(ctx, "the server in service", []*Node{slaveNode}, inService))
	bench[1] = "1"
	client, err := c.StartBench("bench-client", nil, append([]string{"-c", "-conf", "test_slave.ini"}, bench...)...)
	must(t, err)
	if code, err := client.Wait(ctx); code != 0 || err != nil {
		t.Errorf("client program: code %d, %v", code, err)
	}
	for _, p := range []*Proc{program, slave, server} {
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string][]string{
		"bench-client": {"Send : ", "-> Succeed(receiver count:1)", "Receive reply : -> 1 Succeed(", "Total error count             0\n"},
		"bench-server": {"Receive : ", "CHMPX mode                    Server mode\n", "Total error count             0\n"},
		"chmpx-server": {"MODE                      = SERVER\n", "STATUS                    = SAFE -> [SERVICE OUT][UP]"},
		"chmpx-slave":  {"MODE                      = SLAVE\n", "PORT                      = -1\n"},
	} {
		text, err := os.ReadFile(c.path(name + ".log"))
		must(t, err)
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s did not print %q:\n%s", name, w, text)
			}
		}
		if lower := strings.ToLower(string(text)); strings.Contains(lower, "level=error") || strings.Contains(lower, "[err]") || strings.Contains(lower, "warning") {
			t.Errorf("%s reports an error:\n%s", name, text)
		}
	}
}

// chmpxbench counts no error with one and with eight threads, in two
// processes, for small and for large messages.
func TestBench(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 1, Slaves: 1})
	must(t, c.StartNodes())
	for _, size := range []string{"128", "65536"} {
		server, err := c.StartBench("bench-server", nil, "-s", "-conf", c.Servers[0].Conf(), "-l", "0", "-ta", "-dl", size, "-proccnt", "2")
		must(t, err)
		waitInService(t, ctx, c, 1)
		for _, args := range []string{"-threadcnt 1", "-threadcnt 8", "-threadcnt 1 -proccnt 2", "-threadcnt 8 -proccnt 2", "-threadcnt 1 -window 64"} {
			sum, err := c.RunBench(ctx, append(strings.Fields(args), "-c", "-conf", c.Slaves[0].Conf(), "-l", "1000", "-ta", "-dl", size)...)
			if err != nil || sum.Errors != 0 || sum.Sent == 0 {
				t.Errorf("%s bytes, %s: %+v, %v", size, args, sum, err)
			}
		}
		must(t, server.Stop(ctx))
	}
}

// A program that finds no node says so and ends, within its limit.
func TestBenchCannotAttach(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 1, Slaves: 1})
	p, err := c.StartBench("bench-client", nil, "-c", "-conf", c.Slaves[0].Conf(), "-attach-timeout", "300ms")
	must(t, err)
	code, err := p.Wait(ctx)
	text, _ := os.ReadFile(c.path("bench-client.log"))
	if code != 1 || err != nil || !strings.Contains(string(text), "[ERR] Could not initialize internal object/data/etc") {
		t.Errorf("code %d, %v, output:\n%s", code, err, text)
	}
}

// owners returns which server answered last for each key, up to a time.
func owners(asked []Asked, untilNs int64) map[uint32]byte {
	m := map[uint32]byte{}
	for _, a := range asked {
		if a.AnsweredNs != 0 && a.AnsweredNs < untilNs {
			m[a.Key] = a.By
		}
	}
	return m
}

// After SIGKILL of the leader there is a new one, nothing is lost, and
// messages for the two other servers are answered by them.
func TestKilledLeader(t *testing.T) {
	c, ctx, programs := newRing(t)
	leader := c.Leader(ctx)
	if leader == nil {
		t.Fatal("nobody leads")
	}
	var killedNs int64
	load := Load{Requests: 8000, PerSecond: 1000, Keys: 300, Patience: answersWithin}
	asked, err := c.RunLoad(ctx, self(), load, 1000, func() {
		killedNs = time.Now().UnixNano()
		leader.Kill()
	})
	must(t, err)
	owner, longest := owners(asked, killedNs), time.Duration(0)
	for _, a := range asked {
		if owner[a.Key] == leader.Name[0] {
			continue
		}
		if a.AnsweredNs == 0 || a.By != owner[a.Key] {
			t.Fatalf("request for key %d of server %c was not answered by it: %+v", a.Key, owner[a.Key], a)
		}
		longest = max(longest, time.Duration(a.AnsweredNs-a.DueNs))
	}
	t.Logf("messages for the others waited for %v at most", longest)
	others := func() (nodes []*Node) {
		for _, n := range c.Nodes() {
			if n != leader {
				nodes = append(nodes, n)
			}
		}
		return nodes
	}()
	must(t, c.Wait(ctx, "a new leader", others, func(st controlplane.Status) bool { return st.Raft.Leader != "" && st.Quorum.OK && InService(st) == 2 }))
	if next := c.Leader(ctx); next == nil || next == leader {
		t.Errorf("the new leader is %v", next)
	}
	taken, err := c.StopServerPrograms(ctx, programs)
	must(t, err)
	v := Judge(asked, taken, leader.Name[0], killedNs)
	kept(t, v)
}

// A ring whose servers were all killed comes back from disk as the same ring,
// with the same places, and delivers.
func TestAllKilled(t *testing.T) {
	c, ctx, _ := newRing(t)
	before, err := c.Servers[0].Status(ctx)
	must(t, err)
	for _, n := range c.Servers {
		n.Kill()
	}
	must(t, c.StartNodes())
	// What the nodes read from disk shows the servers as they were: wait until each was admitted anew.
	must(t, c.Wait(ctx, "all servers back", c.Nodes(), func(st controlplane.Status) bool {
		for i, s := range st.Servers {
			if s.Incarnation <= before.Servers[i].Incarnation {
				return false
			}
		}
		return InService(st) == 3
	}))
	after, err := c.Servers[0].Status(ctx)
	must(t, err)
	if before.RingID != after.RingID || before.RingID == 0 {
		t.Errorf("ring %v became %v", before.RingID, after.RingID)
	}
	for i, s := range before.Servers {
		if a := after.Servers[i]; a.ID != s.ID || a.BaseHash != s.BaseHash {
			t.Errorf("server %d was %+v and is %+v", i, s, a)
		}
	}
	asked, err := c.RunLoad(ctx, self(), Load{Requests: 300, PerSecond: 1000, Keys: 300, Patience: answersWithin}, 0, nil)
	must(t, err)
	if v := Judge(asked, nil, 0, 0); v.Lost != 0 || len(v.By) != 3 {
		t.Errorf("verdict: %+v", v)
	}
}

// With one of three servers left there is no quorum, which its status says,
// and it answers for its keys as before.
func TestOneOfThree(t *testing.T) {
	c, ctx, _ := newRing(t)
	load := Load{Requests: 300, PerSecond: 1000, Keys: 300, Patience: answersWithin}
	before, err := c.RunLoad(ctx, self(), load, 0, nil)
	must(t, err)
	owner := owners(before, time.Now().UnixNano())
	last := c.Servers[0]
	c.Servers[1].Kill()
	c.Servers[2].Kill()
	must(t, c.Wait(ctx, "no quorum", []*Node{last}, func(st controlplane.Status) bool {
		return !st.Quorum.OK && strings.HasPrefix(ringview.Quorum(st), "no quorum: 1 of 3 voters (missing ")
	}))
	load.Patience = 5 * time.Second // for those that nobody answers
	asked, err := c.RunLoad(ctx, self(), load, 0, nil)
	must(t, err)
	for _, a := range asked {
		if owner[a.Key] == last.Name[0] && (a.AnsweredNs == 0 || a.By != last.Name[0]) {
			t.Fatalf("key %d of the server that is left was not answered by it: %+v", a.Key, a)
		}
	}
}

// kept fails the test unless the run kept the delivery contract.
func kept(t *testing.T, v Verdict) {
	t.Helper()
	if v.Lost != 0 || v.Unmarked != 0 || v.WrongOrder != 0 {
		t.Errorf("verdict: %+v", v)
	}
	t.Logf("verdict: %+v", v)
}

// The sender's own node is killed under load and started again: its programs
// attach again, nothing is lost, and what is repeated is marked.
func TestRestartedSlave(t *testing.T) {
	c, ctx, programs := newRing(t)
	var startErr error
	load := Load{Requests: 12000, PerSecond: 3000, Keys: 48, Patience: answersWithin}
	asked, err := c.RunLoad(ctx, self(), load, 3000, func() {
		c.Slaves[0].Kill()
		startErr = c.Slaves[0].Start()
	})
	must(t, errors.Join(err, startErr))
	taken, err := c.StopServerPrograms(ctx, programs)
	must(t, err)
	kept(t, Judge(asked, taken, 0, 0))
}

// Each server is stopped in order and started again under load: the ring
// serves on, and nothing is lost.
func TestRollingRestart(t *testing.T) {
	c, ctx, programs := newRing(t)
	var rollErr error
	load := Load{Requests: 30000, PerSecond: 3000, Keys: 48, Patience: answersWithin}
	asked, err := c.RunLoad(ctx, self(), load, 3000, func() {
		for _, n := range c.Servers {
			whole := func(st controlplane.Status) bool { return InService(st) == 3 }
			rollErr = errors.Join(rollErr, n.Stop(ctx), n.Start(), c.Wait(ctx, "all in service", c.Nodes(), whole))
		}
	})
	must(t, errors.Join(err, rollErr))
	taken, err := c.StopServerPrograms(ctx, programs)
	must(t, err)
	kept(t, Judge(asked, taken, 0, 0))
}

// A server program is killed under load and started again: what it had taken
// is asked again, and nothing is lost. What it had taken before is not on
// record, so order and repeats cannot be judged here.
func TestKilledProgram(t *testing.T) {
	c, ctx, programs := newRing(t)
	var startErr error
	load := Load{Requests: 15000, PerSecond: 3000, Keys: 48, Patience: answersWithin}
	asked, err := c.RunLoad(ctx, self(), load, 3000, func() {
		programs[0].Kill()
		suspended := func(st controlplane.Status) bool { return InService(st) == 2 }
		startErr = c.Wait(ctx, "the server without program suspended", c.Nodes(), suspended)
		var err error
		programs[0], err = c.StartServerProgram(self(), c.Servers[0])
		startErr = errors.Join(startErr, err)
	})
	must(t, errors.Join(err, startErr))
	_, err = c.StopServerPrograms(ctx, programs)
	must(t, err)
	if v := Judge(asked, nil, 0, 0); v.Lost != 0 {
		t.Errorf("verdict: %+v", v)
	}
}
