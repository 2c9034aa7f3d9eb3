package dataplane_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
)

// Hot waits that begin and end at any moment lose nothing: all requests of more
// programs than one looks at are answered, while programs and links come and go.
func TestHotWaitsComeAndGo(t *testing.T) {
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cables: newCables()}).begin(2)
	for _, n := range w.nodes[:2] {
		echo(t, n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var done atomic.Bool
	var waiters, programs sync.WaitGroup
	for _, n := range w.nodes {
		p := n.plane
		waiters.Go(func() {
			for !done.Load() {
				p.BeginHot()
				for range rand.IntN(4) {
					runtime.Gosched()
					p.Look()
				}
				p.Cool()
				runtime.Gosched()
			}
		})
	}
	var answered atomic.Int64
	program := func(hash uint64) error {
		for range 2 {
			c, err := client.Attach(ctx, client.Options{Socket: w.slave().socket(), ColdWait: hash%2 == 0})
			if err != nil {
				return err
			}
			defer c.Close()
			for range 30 {
				if _, err := c.Request(ctx, hash, nil); err != nil {
					return err
				}
				if answered.Add(1)%100 == 0 {
					w.slave().plane.Cut(w.nodes[rand.IntN(2)].id)
				}
			}
			if err := c.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range 12 {
		programs.Go(func() {
			if err := program(uint64(i)); err != nil {
				t.Errorf("program %d: %v", i, err)
			}
		})
	}
	programs.Wait()
	done.Store(true)
	waiters.Wait()
}
