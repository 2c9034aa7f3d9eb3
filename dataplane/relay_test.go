package dataplane_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
)

// cables are the connections of a world, which can be cut between any two nodes,
// also those alone that one of them dials. Pairs are from who dials to whom.
type cables struct {
	mu    sync.Mutex // guards below
	ids   map[string]ring.ID
	cuts  map[[2]ring.ID]bool
	conns map[[2]ring.ID][]*net.TCPConn
	nodes map[ring.ID]*dataplane.Plane // which own the connections after the hellos
}

func (c *cables) add(n *testNode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[n.id] = n.plane
}

// newCabledWorld is newWorld with connections that can be cut. Those between
// the slave and the given servers are cut from the start.
func newCabledWorld(t *testing.T, servers int, cut ...ring.ID) *world {
	w := &world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cables: newCables(), downAfter: 400 * time.Millisecond}
	for _, id := range cut {
		w.cables.cut(0x999, id)
	}
	return w.begin(servers)
}

func newCables() *cables {
	return &cables{ids: map[string]ring.ID{}, cuts: map[[2]ring.ID]bool{}, conns: map[[2]ring.ID][]*net.TCPConn{}, nodes: map[ring.ID]*dataplane.Plane{}}
}

var errCut = errors.New("the cable is cut")

func (c *cables) dial(ctx context.Context, from ring.ID, addr string) (net.Conn, error) {
	c.mu.Lock()
	way := [2]ring.ID{from, c.ids[addr]}
	cut := c.cuts[way]
	c.mu.Unlock()
	if cut {
		return nil, errCut
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cuts[way] {
		_ = conn.Close()
		return nil, errCut
	}
	c.conns[way] = append(c.conns[way], conn.(*net.TCPConn))
	return conn, nil
}

// cutFrom resets the connections that one node dialled to another, and there
// are no more of them.
func (c *cables) cutFrom(from, to ring.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	way := [2]ring.ID{from, to}
	c.cuts[way] = true
	for _, conn := range c.conns[way] {
		_ = conn.SetLinger(0) // it may have ended by itself
		_ = conn.Close()
	}
	delete(c.conns, way)
	if p := c.nodes[from]; p != nil {
		p.Cut(to)
	}
}

func (c *cables) mendFrom(from, to ring.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.cuts, [2]ring.ID{from, to})
}

func (c *cables) cut(a, b ring.ID)  { c.cutFrom(a, b); c.cutFrom(b, a) }
func (c *cables) mend(a, b ring.ID) { c.mendFrom(a, b); c.mendFrom(b, a) }

// via returns the name of the server through which n reaches another, empty if
// it does not need one.
func via(s *dataplane.Status, to ring.ID) string {
	for _, l := range s.Links {
		if ring.ID(l.Peer) == to && !l.Accepted {
			return l.Via
		}
	}
	return ""
}

func (n *testNode) awaitVia(to ring.ID, ok func(via string) bool) (name string) {
	n.w.t.Helper()
	n.awaitStatus(fmt.Sprintf("the way to %v", to), func(s *dataplane.Status) bool {
		name = via(s, to)
		return ok(name)
	})
	return name
}

func tunnelled(via string) bool { return via != "" }
func direct(via string) bool    { return via == "" }

// traffic is what sessions send all the while, held against the contract.
type traffic struct {
	*story
	stop    chan struct{}
	senders sync.WaitGroup
	sent    atomic.Int64
}

// newTraffic starts a program that takes on each server, and one session on
// each of the given nodes that sends messages with the given hashes.
func newTraffic(w *world, hashes []uint64, from ...*testNode) *traffic {
	tr := &traffic{story: &story{world: w}, stop: make(chan struct{})}
	tr.judge.change = make(chan struct{}, 1)
	for _, n := range w.nodes[:len(w.nodes)-1] {
		tr.take(n)
	}
	for session, n := range from {
		c, rng := attach(w.t, n, client.RoleClient), rand.New(rand.NewPCG(uint64(session), 3))
		tr.senders.Go(func() { tr.send(uint64(session), c, hashes, rng) })
	}
	return tr
}

func (tr *traffic) send(session uint64, c *client.Client, hashes []uint64, rng *rand.Rand) {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		select {
		case <-tr.stop:
			return
		case <-pace.C:
		}
		for range 3 {
			hash := hashes[rng.IntN(len(hashes))]
			tr.judge.mu.Lock()
			tr.judge.sent[session][hash]++
			n := tr.judge.sent[session][hash]
			tr.judge.mu.Unlock()
			b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, session), n)
			if err := c.Send(ctx, hash, append(b, make([]byte, rng.IntN(3000))...)); err != nil {
				tr.t.Errorf("session %d: %v", session, err)
				return
			}
			tr.sent.Add(1)
		}
	}
}

// goesOn waits until something that is sent from now on has been taken.
func (tr *traffic) goesOn(what string) {
	tr.t.Helper()
	tr.judge.mu.Lock()
	at := tr.judge.sent
	tr.judge.mu.Unlock()
	tr.until(what, func() bool {
		tr.judge.mu.Lock()
		defer tr.judge.mu.Unlock()
		for s := range at {
			for h := range at[s] {
				if tr.judge.first[s][h] < at[s][h] {
					return false
				}
			}
		}
		return true
	})
}

// finish stops sending and judges: all taken, in order, nothing twice.
func (tr *traffic) finish() {
	tr.t.Helper()
	close(tr.stop)
	tr.senders.Wait()
	tr.until("everything taken", tr.judge.done)
	tr.judge.mu.Lock()
	defer tr.judge.mu.Unlock()
	for _, b := range tr.judge.bad {
		tr.t.Error(b)
	}
	if tr.judge.repeat != 0 {
		tr.t.Errorf("%d marked repeats, want none: no server ended", tr.judge.repeat)
	}
	if tr.sent.Load() == 0 {
		tr.t.Error("nothing was sent")
	}
	for _, n := range tr.nodes {
		if c := n.plane.Status().Counters; c.Violations != 0 || c.Repeats != 0 {
			tr.t.Errorf("node %v: %d violations, %d repeats", n.id, c.Violations, c.Repeats)
		}
	}
}

// Messages and requests go on when the links to a server are cut, through
// another server, and go the direct way again when they are back:
// nothing is lost, taken twice or out of order. What is reported of links is
// about direct links only.
func TestRelayAroundCut(t *testing.T) {
	w := newCabledWorld(t, 3)
	slave, s0, s1 := w.slave(), w.nodes[0], w.nodes[1]
	tr := newTraffic(w, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, slave, s1, s0)
	tr.goesOn("messages before the cut")
	w.cables.cut(slave.id, s0.id)
	w.cables.cut(s1.id, s0.id)
	slave.awaitVia(s0.id, tunnelled)
	if got := s1.awaitVia(s0.id, tunnelled); got != w.nodes[2].id.String() && got != "server-2" {
		t.Errorf("server 1 reaches server 0 through %q", got)
	}
	s0.awaitVia(s1.id, tunnelled)
	tr.goesOn("messages during the cut")
	for _, n := range []*testNode{slave, s1} {
		n.await("evidence of silence", func() bool { return n.evidence[s0.id].State == ring.LinkSilent })
	}
	w.cables.mend(slave.id, s0.id)
	w.cables.mend(s1.id, s0.id)
	slave.awaitVia(s0.id, direct)
	s1.awaitVia(s0.id, direct)
	s0.awaitVia(s1.id, direct)
	tr.goesOn("messages after the cut")
	slave.await("evidence of life", func() bool { return slave.evidence[s0.id].State == ring.LinkAlive })
	tr.finish()
	for _, n := range []*testNode{slave, s0} {
		n.awaitStatus("the end of all tunnels", func(s *dataplane.Status) bool { return s.Relay.Ended == s.Relay.Opened+s.Relay.Accepted })
	}
	// One of each on a machine that is not busy; else some are opened again.
	if r := slave.plane.Status().Relay; r.Opened < 1 || r.Refused != 0 {
		t.Errorf("the slave's tunnels: %+v", r)
	}
	if r := s0.plane.Status().Relay; r.Accepted < 2 || r.Opened < 1 || r.Refused != 0 {
		t.Errorf("server 0's tunnels: %+v", r)
	}
	passed := s1.plane.Status().Relay.Passed + w.nodes[2].plane.Status().Relay.Passed
	if passed == 0 {
		t.Error("no frame was passed on")
	}
}

// A request finds its server, and its reply the way back, from a slave that can
// reach only one server, from its start on.
func TestSlaveWithOneServer(t *testing.T) {
	w := newCabledWorld(t, 3, 0x100, 0x101)
	for _, n := range w.nodes[:3] {
		echo(t, n)
	}
	c := attach(t, w.slave(), client.RoleClient)
	for h := range uint64(64) {
		if got, want := ask(t, c, h, fmt.Sprint("message ", h)), ring.ID(0x100+h%3); got != want {
			t.Fatalf("hash %d answered by %v, want %v", h, got, want)
		}
	}
	for size := range 4 { // several of them fill a tunnel
		ask(t, c, 0, string(make([]byte, size*80_000)))
	}
	if n := w.nodes[2].plane.Status(); n.Relays != 2 || n.Relay.Passed == 0 {
		t.Errorf("the only server that can be reached relays %d tunnels, want 2: %+v", n.Relays, n.Relay)
	}
}

// When the relay cannot go on (it loses its link to the receiver, the sender
// loses its link to the relay, it ends), another server relays.
func TestRelayDies(t *testing.T) {
	w := newCabledWorld(t, 4)
	slave, s0 := w.slave(), w.nodes[0]
	tr := newTraffic(w, []uint64{0, 4, 8}, slave) // all for server 0
	w.cables.cut(slave.id, s0.id)
	byName := func(name string) *testNode {
		i := slices.IndexFunc(w.nodes, func(n *testNode) bool { return name == n.id.String() })
		if i < 0 {
			i = slices.IndexFunc(w.table.Servers, func(s ring.Server) bool { return s.Name == name })
		}
		return w.nodes[i]
	}
	first := slave.awaitVia(s0.id, tunnelled)
	w.cables.cut(byName(first).id, s0.id)
	second := slave.awaitVia(s0.id, func(via string) bool { return via != "" && via != first })
	tr.goesOn("messages through the second relay")
	w.cables.mend(byName(first).id, s0.id)
	byName(first).awaitVia(s0.id, direct)
	w.cables.cut(slave.id, byName(second).id)
	third := slave.awaitVia(s0.id, func(via string) bool { return via != "" && via != second })
	tr.goesOn("messages through the third relay")
	byName(third).stop()
	w.cables.mend(slave.id, byName(second).id)
	slave.awaitVia(s0.id, func(via string) bool { return via != "" && via != third })
	tr.goesOn("messages through the last relay")
	w.cables.mend(slave.id, s0.id)
	slave.awaitVia(s0.id, direct)
	tr.finish()
}

// However cables are cut and mended, as long as each two nodes have a server
// between them now and then, nothing is lost, taken twice or out of order.
func TestRelayStorm(t *testing.T) {
	w := newCabledWorld(t, 3)
	tr := newTraffic(w, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, w.slave(), w.nodes[0], w.nodes[2])
	rng := rand.New(rand.NewPCG(storySeed.Add(1), 11))
	var cut [2]ring.ID
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		a := rng.IntN(4)
		b := (a + 1 + rng.IntN(3)) % 4
		w.cables.mend(cut[0], cut[1])
		cut = [2]ring.ID{w.nodes[a].id, w.nodes[b].id}
		w.cables.cut(cut[0], cut[1])
		<-time.After(time.Duration(rng.IntN(300)) * time.Millisecond)
	}
	w.cables.mend(cut[0], cut[1])
	for _, n := range w.nodes {
		for _, s := range w.table.Servers {
			n.awaitVia(s.ID, direct)
		}
	}
	tr.finish()
}
