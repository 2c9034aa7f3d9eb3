package main

import (
	"context"
	"sync/atomic"
	"time"
)

// guard limits the time of one operation after the other without a timer and a
// context for each: a watchdog looks at all guards a few times per limit and
// cancels the context of an operation that takes too long, which then ends
// between 1 and 1.1 limits after its begin. begin and end belong to one
// goroutine.
type guard struct {
	parent context.Context
	limit  time.Duration
	ctx    context.Context
	cancel context.CancelFunc
	// started is the begin of the operation in nanoseconds since base, 0 when
	// there is none, late once the watchdog has decided to cancel it.
	started atomic.Int64
	current atomic.Pointer[context.CancelFunc] // of ctx, for the watchdog
}

const late = -1

// base is what guards count time from.
var base = time.Now()

func newGuard(parent context.Context, limit time.Duration) *guard {
	g := &guard{parent: parent, limit: limit}
	g.renew()
	return g
}

func (g *guard) renew() {
	if g.cancel != nil {
		g.cancel()
	}
	g.ctx, g.cancel = context.WithCancel(g.parent)
	g.current.Store(&g.cancel)
}

// begin starts an operation and returns its begin and its context. It does not allocate.
func (g *guard) begin() (time.Duration, context.Context) {
	now := max(1, time.Since(base))
	g.started.Store(int64(now))
	return now, g.ctx
}

// end finishes the operation begun at start and returns how long it took and
// whether the watchdog has cut it off.
func (g *guard) end(start time.Duration) (took time.Duration, cut bool) {
	took = time.Since(base) - start
	if g.started.CompareAndSwap(int64(start), 0) {
		return took, false
	}
	<-g.ctx.Done() // the watchdog is about to cancel, or has
	g.started.Store(0)
	g.renew()
	return took, true
}

// close ends the guard's context.
func (g *guard) close() { g.cancel() }

// watch cancels the operations of guards that take longer than their limit.
// It returns when ctx ends. All guards must have the same limit.
func watch(ctx context.Context, guards []*guard, limit time.Duration) {
	tick := time.NewTicker(max(time.Millisecond, limit/10))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := int64(time.Since(base))
		for _, g := range guards {
			started := g.started.Load()
			if started > 0 && now-started > int64(limit) && g.started.CompareAndSwap(started, late) {
				(*g.current.Load())()
			}
		}
	}
}

// startWatch runs watch until the returned function is called, which waits for its end.
func startWatch(ctx context.Context, guards []*guard, limit time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); watch(ctx, guards, limit) }()
	return func() { cancel(); <-ended }
}
