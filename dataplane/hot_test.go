package dataplane_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
)

// hotWorld is a world whose slave waits hot: the test is the hot waiter, and the
// slave's program and its link are left to it.
type hotWorld struct {
	w        *world
	p        *dataplane.Plane // of the slave
	c        *client.Client   // the slave's program
	stopEcho func()           // the server's program
}

func newHotWorld(t *testing.T) *hotWorld {
	t.Helper()
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cables: newCables()}).begin(1)
	h := &hotWorld{w: w, stopEcho: echo(t, w.nodes[0]), p: w.slave().plane, c: attach(t, w.slave(), client.RoleClient)}
	h.p.BeginHot()
	leave(t, h.p, h.c)
	return h
}

// request sends a request whose answer is told through the channel.
func request(t *testing.T, c *client.Client) <-chan error {
	t.Helper()
	answered := make(chan error, 1)
	err := c.RequestAsync(t.Context(), 1, []byte("hot"), func(_ []byte, err error) { answered <- err })
	if err != nil {
		t.Fatal(err)
	}
	return answered
}

// finds looks until the answer is there and returns how often there was something.
func finds(t *testing.T, p *dataplane.Plane, answered <-chan error) (n int) {
	t.Helper()
	for stop := time.Now().Add(patience); ; runtime.Gosched() {
		select {
		case err := <-answered:
			if err != nil {
				t.Fatal(err)
			}
			return n
		default:
		}
		if p.Look() {
			n++
		}
		if time.Now().After(stop) {
			t.Fatal("no answer")
		}
	}
}

// leave makes requests until program and link are left to the hot waiter.
func leave(t *testing.T, p *dataplane.Plane, c *client.Client) {
	t.Helper()
	for stop := time.Now().Add(patience); ; {
		if links, programs := p.LeftToHot(); links == 1 && programs == 1 {
			return
		}
		if time.Now().After(stop) {
			t.Fatal("neither is left to the hot waiter")
		}
		finds(t, p, request(t, c))
	}
}

// What is left to the hot waiter is brought by it and by nobody else, there and
// back: no pump wakes.
func TestHotWaiterBringsAll(t *testing.T) {
	h := newHotWorld(t)
	p, c := h.p, h.c
	h.stopEcho()
	server := attach(t, h.w.nodes[0], client.RoleServer)
	for i := range 200 {
		answered := request(t, c)
		if !p.Look() {
			t.Fatalf("request %d was taken by somebody else", i)
		}
		m, err := server.Receive(t.Context())
		if err == nil {
			err = server.Reply(t.Context(), m, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := finds(t, p, answered); n < 1 {
			t.Fatalf("the answer to request %d was taken by somebody else", i)
		}
	}
	p.Cool()
}

// What comes just before the end of a hot wait is not lost, neither in a ring
// nor on a socket: the pumps find it.
func TestHotWaitEnds(t *testing.T) {
	h := newHotWorld(t)
	p, c := h.p, h.c
	for i := range 200 {
		answered := request(t, c)
		if i%2 == 0 && !p.Look() { // then the answer is what comes
			t.Fatal("the request was taken by somebody else")
		}
		p.Cool()
		select {
		case err := <-answered:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatalf("nothing came after the end of hot wait %d", i)
		}
		p.BeginHot()
		leave(t, p, c)
	}
	p.Cool()
}

// A program and a link that end are the hot waiter's no more, and those that
// come after them are served.
func TestHotPartsEnd(t *testing.T) {
	h := newHotWorld(t)
	w, p, c := h.w, h.p, h.c
	await := func(what string, cond func(links, programs int) bool) {
		t.Helper()
		for stop := time.Now().Add(patience); !cond(p.LeftToHot()); runtime.Gosched() {
			p.Look()
			if time.Now().After(stop) {
				t.Fatalf("%s did not happen", what)
			}
		}
	}
	for range 10 {
		p.Cut(w.nodes[0].id)
		await("the end of the link", func(links, _ int) bool { return links == 0 })
		w.slave().awaitStatus("a link", linked)
		leave(t, p, c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		await("the end of the program", func(_, programs int) bool { return programs == 0 })
		c = attach(t, w.slave(), client.RoleClient)
		leave(t, p, c)
	}
	w.slave().stop() // with all of it in the hot waiter's care
	p.Look()
	p.Cool()
}

// While somebody waits hot no program rings, also those that were left to the
// waiter before; when the wait ends, they ring again.
func TestHotWaiterIsNotRung(t *testing.T) {
	h := newHotWorld(t)
	for i := range 10 {
		h.p.Cool()
		if n := h.p.BellsWanted(); n != 1 {
			t.Fatalf("%d: %d programs ring when nobody waits hot, want 1", i, n)
		}
		h.p.BeginHot()
		if n := h.p.BellsWanted(); n != 0 {
			t.Fatalf("%d: %d programs ring for the hot waiter", i, n)
		}
		leave(t, h.p, h.c)
	}
	h.p.Cool()
}

// Where the hot wait is off no pump waits hot, and messages go as ever; where it
// is on, it is asked for.
func TestColdPlane(t *testing.T) {
	for _, cold := range []bool{true, false} {
		w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cold: cold}).begin(1)
		echo(t, w.nodes[0])
		c := attach(t, w.slave(), client.RoleClient)
		for range 20 {
			if err := <-request(t, c); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range w.nodes {
			if n.plane.WaitedHot() == cold {
				t.Errorf("HotWait %v: a node waited hot: %v", !cold, cold)
			}
		}
	}
}
