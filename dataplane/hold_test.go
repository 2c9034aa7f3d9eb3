package dataplane_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
)

// Proves that a server without program holds when it is asked to, gives nothing
// to the program that comes until it is released, then all of it, and that one
// with a program does not hold.
func TestHold(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	for range 2 {
		if !n.plane.Hold() {
			t.Fatal("a server without program does not hold")
		}
	}
	server := attach(t, n, client.RoleServer)
	n.await("the program's report", func() bool { return n.programs == 1 })
	if n.plane.Hold() {
		t.Error("a server with a program holds")
	}
	c := attach(t, w.slave(), client.RoleClient)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Send(ctx, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	n.awaitStatus("refusal", func(s *dataplane.Status) bool { return s.Counters.Later > 0 })
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if m, err := server.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while it held a program was given %v, %v", m, err)
	}
	n.plane.Release()
	if m, err := server.Receive(ctx); err != nil || m.MaybeRepeat {
		t.Errorf("after the release: %v, %v", m, err)
	}
}

// Proves that a server whose lease has lapsed takes back what its program was
// given and has not taken, gives it nothing more once it has attached anew, also
// where Hold and Release come in between, and goes on when the lease is good
// again, with a mark: the program could have taken until it saw that it was cut off.
func TestLapse(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	server := attach(t, n, client.RoleServer)
	n.await("the program's report", func() bool { return n.programs == 1 })
	c := attach(t, w.slave(), client.RoleClient)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Send(ctx, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	n.awaitStatus("delivery", func(s *dataplane.Status) bool { return s.Counters.Accepted > 0 })
	before := n.plane.Status().Counters.Later
	n.plane.Lapse(true)
	n.awaitStatus("refusal", func(s *dataplane.Status) bool { return s.Holding && s.Counters.Later > before })
	n.await("the program again", func() bool { return n.programs == 1 && n.reports == 3 })
	n.plane.Release()
	if s := n.plane.Status(); !s.Holding {
		t.Error("Release ended the lapse")
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if m, err := server.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("after the lease had lapsed a program was given %v, %v", m, err)
	}
	n.plane.Lapse(false)
	if m, err := server.Receive(ctx); err != nil || string(m.Payload) != "x" || !m.MaybeRepeat {
		t.Errorf("when it is good again: %v, %v", m, err)
	}
}
