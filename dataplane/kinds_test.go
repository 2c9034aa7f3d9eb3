package dataplane_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// tally counts what programs take, by program and payload.
type tally struct {
	t       *testing.T
	mu      sync.Mutex // guards what follows
	takes   map[string]map[string]int
	total   int
	changed chan struct{} // capacity 1
}

func newTally(t *testing.T) *tally {
	return &tally{t: t, takes: map[string]map[string]int{}, changed: make(chan struct{}, 1)}
}

// taker attaches a server program that takes until the test ends.
func (y *tally) taker(n *testNode, name string) {
	y.t.Helper()
	c := attach(y.t, n, client.RoleServer)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			m, err := c.Receive(ctx)
			if err != nil {
				return
			}
			y.mu.Lock()
			if y.takes[name] == nil {
				y.takes[name] = map[string]int{}
			}
			y.takes[name][string(m.Payload)]++
			y.total++
			y.mu.Unlock()
			select {
			case y.changed <- struct{}{}:
			default:
			}
		}
	})
	y.t.Cleanup(func() { cancel(); wg.Wait() })
}

// await waits until so many messages have been taken.
func (y *tally) await(total int) {
	y.t.Helper()
	stop := time.After(patience)
	for {
		y.mu.Lock()
		got := y.total
		y.mu.Unlock()
		switch {
		case got == total:
			return
		case got > total:
			y.t.Fatalf("%d messages were taken, want %d", got, total)
		}
		select {
		case <-y.changed:
		case <-stop:
			y.t.Fatalf("%d messages were taken, want %d: %v", got, total, y.takes)
		}
	}
}

// of returns how often each program took a payload.
func (y *tally) of(payload string) map[string]int {
	y.mu.Lock()
	defer y.mu.Unlock()
	counts := map[string]int{}
	for name, takes := range y.takes {
		if takes[payload] > 0 {
			counts[name] = takes[payload]
		}
	}
	return counts
}

// kindsWorld is a world of servers with one taker each, to which n has all links.
func kindsWorld(t *testing.T, servers int) (*world, *tally) {
	w, y := newWorld(t, servers), newTally(t)
	for i, n := range w.nodes[:servers] {
		y.taker(n, fmt.Sprint(i))
	}
	for _, n := range w.nodes {
		for i, s := range w.nodes[:servers] {
			if s != n {
				up := ring.Evidence{Peer: s.id, Incarnation: s.inc, State: ring.LinkAlive}
				n.await(fmt.Sprint("link to server ", i), func() bool { return n.evidence[s.id] == up })
			}
		}
	}
	return w, y
}

func patiently(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Random messages are shared out evenly by 2, 3 and 4 servers, from a slave and
// from a server, and so are those sent by hash in random mode. A server without
// a link is passed over, so links must stay while they are sent.
func TestRandomIsEven(t *testing.T) {
	for servers := 2; servers <= 4; servers++ {
		t.Run(fmt.Sprint(servers), func(t *testing.T) {
			w, y := kindsWorld(t, servers)
			ctx, total, want := patiently(t), 0, map[string]int{}
			for i := range servers {
				want[fmt.Sprint(i)] = 12
			}
			even := func(what string, n *testNode, send func(c *client.Client, payload []byte) error) {
				c, got := attach(t, n, client.RoleClient), map[string]int{}
				n.steady(func(try int) {
					payload := fmt.Sprint(what, " ", try)
					for range 12 * servers {
						if err := send(c, []byte(payload)); err != nil {
							t.Fatal(err)
						}
					}
					total += 12 * servers
					y.await(total)
					got = y.of(payload)
				})
				if !maps.Equal(got, want) {
					t.Errorf("%s: got %v, want 12 each", what, got)
				}
			}
			random := func(c *client.Client, payload []byte) error { return c.SendRandom(ctx, payload) }
			even("random from slave", w.slave(), random)
			even("random from server", w.nodes[0], random)
			w.table.Random = true
			w.publish(nil)
			even("random mode", w.slave(), func(c *client.Client, payload []byte) error { return c.Send(ctx, 0, payload) })
		})
	}
}

// A message by hash reaches one server, a replicated one all owners of its hash,
// a broadcast one program of every server, and the sender learns to how many.
func TestBroadcastAndReplicate(t *testing.T) {
	w, y := kindsWorld(t, 3)
	y.taker(w.nodes[0], "0") // a second program there: one of the two is given it
	ctx := patiently(t)
	c := attach(t, w.slave(), client.RoleClient)
	if n, err := c.Broadcast(ctx, []byte("to all")); n != 3 || err != nil {
		t.Errorf("Broadcast: %d receivers, %v; want 3", n, err)
	}
	if n, err := c.Replicate(ctx, 1, []byte("to the owners of 1")); n != 2 || err != nil {
		t.Errorf("Replicate: %d receivers, %v; want 2", n, err)
	}
	if err := c.Send(ctx, 1, []byte("to the owner of 1")); err != nil {
		t.Error(err)
	}
	s := attach(t, w.nodes[2], client.RoleClient)
	if n, err := s.Broadcast(ctx, []byte("to the others"), client.WithoutSelf()); n != 2 || err != nil {
		t.Errorf("Broadcast without self: %d receivers, %v; want 2", n, err)
	}
	y.await(3 + 2 + 1 + 2)
	for payload, want := range map[string]map[string]int{
		"to all":             {"0": 1, "1": 1, "2": 1},
		"to the owners of 1": {"1": 1, "2": 1},
		"to the owner of 1":  {"1": 1},
		"to the others":      {"0": 1, "1": 1},
	} {
		if got := y.of(payload); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", payload, got, want)
		}
	}
	for _, from := range []*client.Client{c, s} {
		if err := from.Drain(ctx); err != nil {
			t.Errorf("Drain: %v", err)
		}
	}
}

// Each receiver of a broadcast request replies; one that is declared down is
// waited for no more.
func TestBroadcastRequestAndTheEndOfAReceiver(t *testing.T) {
	w := newWorld(t, 3)
	for _, n := range w.nodes[:3] {
		echo(t, n)
	}
	c := attach(t, w.slave(), client.RoleClient)
	ctx, replies := patiently(t), 0
	if n, err := c.BroadcastRequest(ctx, []byte("x"), func([]byte) { replies++ }); n != 3 || replies != 3 || err != nil {
		t.Fatalf("%d receivers, %d replies, %v; want 3, 3", n, replies, err)
	}
	w.nodes[1].stop()
	if n, err := c.Broadcast(ctx, []byte("y")); n != 3 || err != nil {
		t.Fatalf("Broadcast: %d receivers, %v; want 3", n, err)
	}
	drained := make(chan error, 1)
	go func() { drained <- c.Drain(ctx) }()
	asked := make(chan error, 1)
	go func() {
		_, err := c.BroadcastRequest(ctx, []byte("z"), func([]byte) {})
		asked <- err
	}()
	w.table.Servers[1].Status = ring.ServiceIn
	w.publish(nil)
	if err := <-drained; err != nil {
		t.Errorf("Drain: %v, want the copy for the server that ended to be given up", err)
	}
	if err := <-asked; ctx.Err() != nil {
		t.Errorf("the request waited for the server that ended: %v", err)
	}
}

// A kind that nobody knows is a corrupt record: its program is detached, and
// other programs go on.
func TestUnknownKindIsCorrupt(t *testing.T) {
	w := newWorld(t, 1)
	echo(t, w.nodes[0])
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{9})
	g.send(wire.OutRequest{Seq: 1, Kind: wire.KindBroadcast + 1}, []byte("x"))
	g.ring()
	g.cutOff()
	ask(t, attach(t, w.slave(), client.RoleClient), 0, "after it")
}
