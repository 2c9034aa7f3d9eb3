package dataplane_test

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// A request fails at once when the program that took it ends before it has
// replied, whether its asker is on the same node or on another one; what the
// program had replied arrives.
func TestRequestOfEndedProgram(t *testing.T) {
	w := newWorld(t, 1)
	for _, asker := range []*testNode{w.nodes[0], w.slave()} {
		c := attach(t, asker, client.RoleClient)
		server := attach(t, w.nodes[0], client.RoleServer)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// A program that does not read its control ring is not cut off for what it
// sends: its node reads no more than it can report about. When the program
// reads, every report arrives, once, in order and before its room is given back.
func TestReportsWaitForTheirReader(t *testing.T) {
	w := newWorld(t, 1)
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	control := g.seg.Consumer(shm.ToProgram, shm.Control)
	const messages = 16_000 // some 10,000 more than the control ring and what the node keeps for it hold
	past := time.Now().Add(-time.Second).UnixMilli()
	for range messages {
		g.seq++
		g.send(wire.OutRequest{Seq: g.seq, DeadlineUnixMs: past}, nil)
	}
	g.ring()
	w.slave().awaitStatus("many messages are given up", func(s *dataplane.Status) bool { return s.Counters.Expired > 2000 })
	_, head := g.cursors(shm.ToNode, shm.Request)
	next, stop := uint64(1), time.Now().Add(patience)
	for next <= messages {
		released := binary.NativeEndian.Uint64(head) // before the reports are looked at
		rec, _, end, ok, err := control.Next()
		switch {
		case err != nil || time.Now().After(stop):
			t.Fatalf("%d reports came: %v", next-1, err)
		case !ok:
			if given := released / (wire.OutRequestBytes + 8); given > next-1 {
				t.Fatalf("the room of %d messages is given back after %d reports", given, next-1)
			}
			g.ring()
			runtime.Gosched()
			continue
		}
		var c wire.Control
		if err := c.Get(rec); err != nil {
			t.Fatal(err)
		}
		control.Release(end)
		if c.Type != wire.ControlUndelivered {
			continue
		}
		if c.Value != next || c.Detail != 0 {
			t.Fatalf("report %+v, want number %d", c, next)
		}
		next++
	}
}
