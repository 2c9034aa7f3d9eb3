package dataplane_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
)

// A request fails at once when the program that took it ends before it has
// replied, whether its asker is on the same node or on another one; what the
// program had replied arrives.
func TestRequestOfEndedProgram(t *testing.T) {
	w := newWorld(t, 1)
	for _, asker := range []*testNode{w.nodes[0], w.slave()} {
		c := attach(t, asker, client.RoleClient)
		server := attach(t, w.nodes[0], client.RoleServer)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		type answer struct {
			reply []byte
			err   error
		}
		answers := [2]chan answer{make(chan answer, 1), make(chan answer, 1)}
		for i, ch := range answers {
			go func() {
				reply, err := c.Request(ctx, uint64(i), []byte{byte(i)})
				ch <- answer{reply.Payload, err}
			}()
		}
		for range answers {
			m, err := server.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload[0] == 1 {
				if err := server.Reply(ctx, m, []byte("done")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if a := <-answers[0]; !errors.Is(a.err, client.ErrMaybeDelivered) || ctx.Err() != nil {
			t.Errorf("asked from %v, not answered: %q, %v, want ErrMaybeDelivered before the deadline", asker.id, a.reply, a.err)
		}
		if a := <-answers[1]; a.err != nil || string(a.reply) != "done" {
			t.Errorf("asked from %v, answered: %q, %v", asker.id, a.reply, a.err)
		}
	}
}
