package dataplane_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
)

// patience bounds waits that end at once when all is well.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if programMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

// world is a ring of data planes on loopback whose views the test writes
// itself: what a control plane would agree on.
type world struct {
	t     *testing.T
	table ring.Table
	nodes []*testNode
	epoch uint64

	cables    *cables       // nil: nothing is ever cut
	downAfter time.Duration // of all nodes, 0 = default
	rings     int           // RingBytes of all nodes, 0 = default
	history   int           // HistoryMax of all nodes
	hello     time.Duration // HelloWithin of all nodes, 0 = default
	standIn   time.Duration // StandInAfter
	cold      bool          // no node waits hot
}

type testNode struct {
	w     *world
	id    ring.ID
	inc   ring.Incarnation
	slave bool
	addr  string
	dir   string
	rings int  // RingBytes, 0 = default
	blank bool // no server in its configuration: it knows those of the table only
	plane *dataplane.Plane
	stop  func()

	mu       sync.Mutex // guards below
	programs int
	reports  int // of ProgramsChanged
	evidence map[ring.ID]ring.Evidence
	silent   map[ring.ID]int // how often evidence of silence came
	links    int             // that it got, as evidence says
	ready    int
	final    int
	changed  chan struct{}
}

func (n *testNode) note(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *testNode) ProgramsChanged(c int) { n.note(func() { n.programs, n.reports = c, n.reports+1 }) }
func (n *testNode) Link(e ring.Evidence) {
	n.note(func() {
		n.evidence[e.Peer] = e
		switch e.State {
		case ring.LinkSilent:
			n.silent[e.Peer]++
		case ring.LinkAlive:
			n.links++
		}
	})
}
func (n *testNode) TransferReady(uint64, ring.ID, ring.ID)         { n.note(func() { n.ready++ }) }
func (n *testNode) TransferFinal(uint64, uint64, ring.ID, ring.ID) { n.note(func() { n.final++ }) }

// await waits until cond holds, looking again at each report, for at most patience.
func (n *testNode) await(what string, cond func() bool) {
	n.w.t.Helper()
	stop := time.After(patience)
	for {
		n.mu.Lock()
		ok, changed := cond(), n.changed
		n.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-stop:
			n.w.t.Fatalf("node %v: %s did not happen", n.id, what)
		}
	}
}

// linked reports whether all links that the node opens are there.
func linked(s *dataplane.Status) bool {
	return !slices.ContainsFunc(s.Links, func(l dataplane.LinkStatus) bool { return !l.Accepted && l.Socket < 0 })
}

// steady runs f until the links of the node have been the same meanwhile.
func (n *testNode) steady(f func(try int)) {
	n.w.t.Helper()
	for try := range 100 {
		n.awaitStatus("all links", linked)
		n.mu.Lock()
		before := n.links
		n.mu.Unlock()
		f(try)
		n.mu.Lock()
		after := n.links
		n.mu.Unlock()
		if s := n.plane.Status(); before == after && linked(&s) {
			return
		}
	}
	n.w.t.Fatal("links come and go")
}

// config returns the servers of the node's configuration.
func (n *testNode) config(all []ring.Server) []ring.Server {
	if n.blank {
		return nil
	}
	return all
}

func (n *testNode) socket() string { return filepath.Join(n.dir, n.id.String()+".sock") }

const serving = ring.ServiceIn | ring.Up

// newWorld starts servers and one slave; all servers are in service.
func newWorld(t *testing.T, servers int) *world {
	return (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10}).begin(servers)
}

func (w *world) begin(servers int) *world {
	t := w.t
	var numbers []uint16
	lns := make([]net.Listener, servers)
	for i := range servers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns[i] = ln
		w.table.Servers = append(w.table.Servers, ring.Server{
			ID: ring.ID(0x100 + i), Number: uint16(i), Identity: ring.Identity{Name: fmt.Sprint("server-", i)},
			Addr: ln.Addr().String(), Status: serving, Incarnation: 3,
		})
		numbers = append(numbers, uint16(i))
		if w.cables != nil {
			w.cables.ids[ln.Addr().String()] = ring.ID(0x100 + i)
		}
	}
	w.table.Base = ring.Interleaved(64, min(2, servers), numbers)
	for i := range servers {
		w.start(&testNode{id: ring.ID(0x100 + i), inc: 3, addr: lns[i].Addr().String()}, lns[i])
	}
	w.start(&testNode{id: 0x999, slave: true}, nil)
	w.publish(nil)
	return w
}

func (w *world) slave() *testNode { return w.nodes[len(w.nodes)-1] }

// start runs a node until the test ends or stop is called.
func (w *world) start(n *testNode, ln net.Listener) *testNode {
	if n.rings == 0 {
		n.rings = w.rings
	}
	n.w, n.evidence, n.silent, n.changed = w, map[ring.ID]ring.Evidence{}, map[ring.ID]int{}, make(chan struct{})
	if n.dir == "" {
		n.dir = w.t.TempDir()
	}
	var servers []dataplane.Server
	for _, s := range n.config(w.table.Servers) {
		servers = append(servers, dataplane.Server{ID: s.ID, Name: s.Name, Addr: s.Addr})
	}
	p, err := dataplane.New(dataplane.Config{
		Self: n.id, Name: n.id.String(), Group: "test", Slave: n.slave, Servers: servers, RunDirs: []string{n.dir}, DataDir: n.dir,
		Reporter: n, Logger: slog.New(slog.DiscardHandler), RingBytes: n.rings, Limits: dataplane.Limits{DownAfter: w.downAfter, HistoryMax: w.history, StandInAfter: w.standIn},
		HelloWithin: w.hello, HotWait: !w.cold,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if w.cables != nil {
				return w.cables.dial(ctx, n.id, addr)
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n.plane = p
	if w.cables != nil {
		w.cables.add(n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	if ln != nil {
		wg.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { p.HandleConn(conn) })
			}
		})
	}
	n.stop = sync.OnceFunc(func() {
		if ln != nil {
			_ = ln.Close()
		}
		cancel()
		wg.Wait()
	})
	w.t.Cleanup(n.stop)
	for i, old := range w.nodes {
		if old.id == n.id {
			w.nodes[i] = n
			return n
		}
	}
	w.nodes = append(w.nodes, n)
	return n
}

// publish gives everybody the present table under a new epoch.
func (w *world) publish(m *ring.Merge) {
	w.epoch++
	built := w.build()
	for _, n := range w.nodes {
		n.plane.SetView(ring.View{Table: built, Merge: m}, n.inc)
	}
}

// build makes the present table.
func (w *world) build() *ring.Table {
	tab := w.table
	tab.Epoch, tab.Version = ring.Epoch{Era: 1, Index: w.epoch}, w.epoch
	tab.Servers = append([]ring.Server(nil), tab.Servers...)
	tab.Base = tab.Base.Clone()
	built, err := ring.NewTable(tab)
	if err != nil {
		w.t.Fatal(err)
	}
	return built
}

func attach(t *testing.T, n *testNode, role client.Role) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Socket: n.socket(), Role: role, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo attaches a server program that answers with the payload and its node's id.
func echo(t *testing.T, n *testNode) (stop func()) {
	t.Helper()
	c := attach(t, n, client.RoleServer)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := c.Serve(ctx, 2, func(_ context.Context, m *client.Message) ([]byte, error) {
			return binary.BigEndian.AppendUint64(append([]byte(nil), m.Payload...), uint64(n.id)), nil
		})
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		_ = c.Close()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// ask sends one request and returns the id of the node whose program answered.
func ask(t *testing.T, c *client.Client, hash uint64, text string) ring.ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.Request(ctx, hash, []byte(text))
	if err != nil {
		t.Fatalf("request with hash %d: %v", hash, err)
	}
	if len(r.Payload) != len(text)+8 || string(r.Payload[:len(text)]) != text {
		t.Fatalf("reply %q to %q", r.Payload, text)
	}
	return ring.ID(binary.BigEndian.Uint64(r.Payload[len(text):]))
}

// Requests of a slave's program reach the program of the owner of their hash
// and the answers come back; a server's own program reaches its own node and others alike.
func TestRequestsReachOwners(t *testing.T) {
	w := newWorld(t, 3)
	for _, n := range w.nodes[:3] {
		echo(t, n)
	}
	for _, from := range []*testNode{w.slave(), w.nodes[1]} {
		c := attach(t, from, client.RoleClient)
		for h := range uint64(64) {
			if got, want := ask(t, c, h, fmt.Sprint("message ", h)), ring.ID(0x100+h%3); got != want {
				t.Fatalf("from %v: hash %d answered by %v, want %v", from.id, h, got, want)
			}
		}
	}
}

// Payloads from nothing to the largest that is allowed pass unchanged; one byte
// more is refused before anything is sent.
func TestPayloadSizes(t *testing.T) {
	w := newWorld(t, 1)
	echo(t, w.nodes[0])
	c := attach(t, w.slave(), client.RoleClient)
	for _, size := range []int{0, 1, 63, 64, 65, 4096, 65536, 200_000} {
		text := make([]byte, size)
		for i := range text {
			text[i] = byte(i * 7)
		}
		ask(t, c, uint64(size), string(text))
	}
	if err := c.Send(context.Background(), 1, make([]byte, 1<<20)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("1 MiB: %v, want ErrTooLarge", err)
	}
}

// When a server's table entry says DOWN, its slots are served by the replica;
// messages that waited for it are delivered there.
func TestReplicaTakesOver(t *testing.T) {
	w := newWorld(t, 3)
	for _, n := range w.nodes[:3] {
		echo(t, n)
	}
	c := attach(t, w.slave(), client.RoleClient)
	ask(t, c, 0, "before")
	w.nodes[0].stop()
	w.slave().await("evidence that server-0 refuses", func() bool { return w.slave().evidence[0x100].State == ring.LinkRefused })
	got := make(chan ring.ID, 1)
	go func() { got <- ask(t, c, 0, "during") }()
	w.table.Servers[0].Status = ring.ServiceIn
	w.table.Base.InSync[0] &^= 1
	w.publish(nil)
	if id := <-got; id != 0x101 {
		t.Errorf("answered by %v, want the replica 0x101", id)
	}
}

// A sealed donor drains, says so, and hands out nothing of the slots until the
// new table says who owns them; then messages go there.
func TestSealDrainsAndMoves(t *testing.T) {
	w := newWorld(t, 2)
	for _, n := range w.nodes[:2] {
		echo(t, n)
	}
	c := attach(t, w.slave(), client.RoleClient)
	if id := ask(t, c, 0, "before"); id != 0x100 {
		t.Fatalf("answered by %v", id)
	}
	slots := ring.NewSlotSet(64)
	slots.Add(0)
	m := &ring.Merge{ID: 5, Phase: ring.MergeCopying, Transfers: []ring.Transfer{{Donor: 0x100, Receiver: 0x101, Slots: slots}}}
	w.publish(m)
	w.nodes[1].await("receiver ready", func() bool { return w.nodes[1].ready == 1 })
	sealed := *m
	sealed.Phase, sealed.Seal = ring.MergeSealed, 6
	w.publish(&sealed)
	w.nodes[0].await("donor final", func() bool { return w.nodes[0].final == 1 })
	got := make(chan ring.ID, 1)
	go func() { got <- ask(t, c, 0, "while sealed") }()
	ask(t, c, 1, "another slot goes on")
	w.table.Base.Owners[0], w.table.Base.Owners[1] = 1, 0
	w.publish(nil)
	if id := <-got; id != 0x101 {
		t.Errorf("answered by %v, want the receiver 0x101", id)
	}
}

// A node that restarts knows the table from its disk, and one that is behind
// gets it from a peer: no control plane is needed to route.
func TestTableFromDiskAndPeers(t *testing.T) {
	w := newWorld(t, 2)
	for _, n := range w.nodes[:2] {
		echo(t, n)
	}
	old := w.slave()
	c := attach(t, old, client.RoleClient)
	ask(t, c, 0, "before")
	old.stop()
	w.table.Base.Owners[0], w.table.Base.Owners[1] = 1, 0
	last := w.nodes
	w.nodes = w.nodes[:2]
	w.publish(nil) // the slave does not hear of it
	w.nodes = last
	w.start(&testNode{id: old.id, slave: true, dir: old.dir}, nil)
	if id := ask(t, c, 0, "after the restart"); id != 0x101 {
		t.Errorf("answered by %v, want 0x101", id)
	}
}

// A run directory that others can write to is not used: anybody could be the
// node there.
func TestForeignRunDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 1)
	_, err := dataplane.New(dataplane.Config{
		Self: 0x77, Group: "test", RunDirs: []string{dir}, DataDir: t.TempDir(), Reporter: w.nodes[0],
		Logger: slog.New(slog.DiscardHandler), Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	if !errors.Is(err, dataplane.ErrForeignDir) {
		t.Errorf("error %v, want ErrForeignDir", err)
	}
}

// The same node cannot run twice.
func TestSecondStartIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	_, err := dataplane.New(dataplane.Config{
		Self: 0x100, Group: "test", RunDirs: []string{w.nodes[0].dir}, DataDir: t.TempDir(), Reporter: w.nodes[0],
		Logger: slog.New(slog.DiscardHandler), Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	if !errors.Is(err, dataplane.ErrInUse) {
		t.Errorf("error %v, want ErrInUse", err)
	}
}
