//go:build faults

package dataplane_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// The trace tells the way of a message through its node, in order.
func TestFaultTrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	restore := fault.Use(fault.Env{Trace: file})
	w := newWorld(t, 1)
	n := w.nodes[0]
	server := attach(t, n, client.RoleServer)
	c := attach(t, n, client.RoleClient)
	ctx := patiently(t)
	if err := c.Send(ctx, 5, []byte("traced")); err != nil {
		t.Fatal(err)
	}
	m, err := server.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n.awaitStatus("the first message is settled", func(s *dataplane.Status) bool { return s.Counters.Acked == 1 })
	if err := c.Send(ctx, 5, nil); err != nil {
		t.Fatal(err)
	}
	n.awaitStatus("the second message is delivered", func(s *dataplane.Status) bool { return s.Counters.Accepted == 2 })
	_ = server.Close()
	n.awaitStatus("the server program is gone", gone(1))
	restore()

	events, err := fault.ReadTrace(file)
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		What fault.What
		Type wire.Type
		Seq  uint64
	}
	var got []step
	for _, e := range events {
		switch {
		case e.What == fault.TableInstalled && (e.Seq != 11 || e.Index != 11 || e.Era != 1 || e.Hash != 7):
			t.Errorf("another table than there is: %+v", e)
		case e.Session != m.Session || e.What == fault.Attached || e.What == fault.Detached:
			continue
		case e.What != fault.Settled && e.What != fault.GivenUp && (e.Hash != 5 && wire.Type(e.Type) == wire.TypeMessage || e.Peer != uint64(n.id)):
			t.Errorf("another message than was sent: %+v", e)
		case e.Incarnation != 3 || e.Index != 11 || e.AtNs == 0:
			t.Errorf("not this node: %+v", e)
		}
		got = append(got, step{e.What, wire.Type(e.Type), e.Seq})
	}
	message := func(w fault.What, seq uint64) step { return step{w, wire.TypeMessage, seq} }
	want := []step{
		message(fault.FrameSent, 1), message(fault.FrameReceived, 1), message(fault.Delivered, 1), message(fault.Taken, 1),
		{fault.FrameSent, wire.TypeAck, 1}, {fault.FrameReceived, wire.TypeAck, 1}, {fault.Settled, 0, 1},
		message(fault.FrameSent, 2), message(fault.FrameReceived, 2), message(fault.Delivered, 2),
		message(fault.Withdrawn, 2), {fault.FrameSent, wire.TypeLater, 2}, {fault.FrameReceived, wire.TypeLater, 2},
	}
	got = got[:min(len(got), len(want))] // then it is tried again, now and then
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("the way of the messages (-got +want):\n%s", d)
	}
}
