package dataplane_test

import (
	"context"
	"testing"

	"github.com/chmpx/chmpx/client"
)

// A server program that ends with more in its out-ring than the window takes,
// all of it for itself, leaves at once: the next program gets what it sent and
// what others send.
func TestEndedProgramLeavesAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	s := attach(t, w.nodes[0], client.RoleServer)
	for range 3000 {
		if err := s.Send(context.Background(), 0, []byte("to itself")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	echo(t, w.nodes[0])
	ask(t, attach(t, w.slave(), client.RoleClient), 0, "to the next program")
}
