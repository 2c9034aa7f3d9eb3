package dataplane_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
)

// answering attaches a server program that answers with the payload. It
// allocates nothing per message.
func answering(t testing.TB, n *testNode) {
	c := attach(n.w.t, n, client.RoleServer)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Serve(ctx, 1, func(_ context.Context, m *client.Message) ([]byte, error) { return m.Payload, nil }); err != nil {
			t.Error(err)
		}
	})
	n.w.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// pump keeps requests in flight until n are answered.
func pump(t testing.TB, c *client.Client, n, flying, size int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // a machine may be busy
	defer cancel()
	slots := make(chan struct{}, flying)
	payload := make([]byte, size)
	var bad atomic.Int64
	done := func(p []byte, err error) {
		if err != nil || len(p) != size {
			bad.Add(1)
		}
		<-slots
	}
	for i := range n {
		slots <- struct{}{}
		if err := c.RequestAsync(ctx, uint64(i), payload, done); err != nil {
			t.Error(err)
			return
		}
	}
	for range flying {
		slots <- struct{}{}
	}
	if b := bad.Load(); b > 0 {
		t.Errorf("%d of %d requests failed", b, n)
	}
}

// In steady state nothing is allocated per message, neither in the two nodes
// of a request nor in the library, with one request in flight and with many,
// nor with many while the history is kept.
func TestNoAllocationPerMessage(t *testing.T) {
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, history: 1000}).begin(1)
	answering(t, w.nodes[0])
	c := attach(t, w.slave(), client.RoleClient)
	for i, flying := range []int{1, 64, 64} {
		n := 20_000
		switch i {
		case 0:
			n = 5000
		case 2:
			w.nodes[0].plane.SetHistory(true)
			w.slave().plane.SetHistory(true)
		}
		pump(t, c, n/10, flying, 128) // buffers grow
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		pump(t, c, n, flying, 128)
		runtime.ReadMemStats(&after)
		per := float64(after.Mallocs-before.Mallocs) / float64(n)
		t.Logf("%d in flight: %.4f allocations per request", flying, per)
		if per > 0.02 {
			t.Errorf("%d in flight: %.3f allocations per request, want none", flying, per)
		}
	}
}

// Eight client programs at once, small and large payloads: none is stuck, and
// none is served long before the others.
func TestManyProgramsAtOnce(t *testing.T) {
	for _, load := range []struct{ size, each int }{{128, 5000}, {64 << 10, 250}} {
		t.Run(fmt.Sprint(load.size), func(t *testing.T) {
			w := newWorld(t, 3)
			for _, n := range w.nodes[:3] {
				answering(t, n)
			}
			start := time.Now()
			var mu sync.Mutex
			var ends []time.Duration
			var wg sync.WaitGroup
			for range 8 {
				c := attach(t, w.slave(), client.RoleClient)
				wg.Go(func() {
					pump(t, c, load.each, 64, load.size)
					mu.Lock()
					defer mu.Unlock()
					ends = append(ends, time.Since(start))
				})
			}
			wg.Wait()
			t.Logf("%.0f requests per second, programs ended after %v", float64(8*load.each)/time.Since(start).Seconds(), ends)
		})
	}
}
