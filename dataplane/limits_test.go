package dataplane_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
)

// What programs may take together may change: those that have more keep it, and
// nobody else gets any.
func TestShmBytesMaxChanged(t *testing.T) {
	w := newWorld(t, 1)
	p := w.slave().plane
	refused := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := client.Attach(ctx, client.Options{Socket: w.slave().socket(), Role: client.RoleClient})
		if err == nil {
			_ = c.Close()
		} else if !errors.Is(err, client.ErrNoRoom) {
			t.Fatal(err)
		}
		return err != nil
	}
	c := attach(t, w.slave(), client.RoleClient)
	if refused() {
		t.Fatal("no second program")
	}
	p.SetLimits(dataplane.Limits{ShmBytesMax: 1})
	if !refused() {
		t.Error("a second program beyond the limit")
	}
	if err := c.Send(t.Context(), 1, []byte("x")); err != nil {
		t.Errorf("who has what it has: %v", err)
	}
	p.SetLimits(dataplane.Limits{})
	if refused() {
		t.Error("no second program with room again")
	}
}

// What makes a link silent may become a shorter time while the node runs. Links are
// pinged often enough for it: those without messages are not taken for silent.
func TestDownAfterChanged(t *testing.T) {
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cables: newCables(), downAfter: time.Hour}).begin(2)
	n, s0, s1 := w.slave(), w.nodes[0].id, w.nodes[1].id
	n.await("both links", func() bool {
		return n.evidence[s0].State == ring.LinkAlive && n.evidence[s1].State == ring.LinkAlive
	})
	for _, each := range w.nodes {
		each.plane.SetLimits(dataplane.Limits{DownAfter: 400 * time.Millisecond})
	}
	for range 3 {
		w.cables.cut(n.id, s0)
		n.await("evidence of silence", func() bool { return n.evidence[s0].State == ring.LinkSilent })
		w.cables.mend(n.id, s0)
		n.await("evidence of life", func() bool { return n.evidence[s0].State == ring.LinkAlive })
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent[s1] > 0 {
		t.Errorf("a link that was idle was taken for silent %d times", n.silent[s1])
	}
}

// A server that ends before its links have met its new start is known to be dead by the name of
// that start: whoever dials it after it was admitted, and is refused, says so.
func TestRefusedBeforeItWasMet(t *testing.T) {
	w := newWorld(t, 2)
	n, s0 := w.nodes[1], w.nodes[0]
	n.await("a link", func() bool { return n.evidence[s0.id].State == ring.LinkAlive })
	s0.stop()
	for _, inc := range []ring.Incarnation{3, 9, 11} {
		w.table.Servers[0].Incarnation = inc
		w.publish(nil)
		n.await("evidence of its end", func() bool {
			return n.evidence[s0.id] == ring.Evidence{Peer: s0.id, Incarnation: inc, State: ring.LinkRefused}
		})
	}
}
