package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
)

// stalledFor is how long a thread with a window waits for any reply before it
// gives up what is in flight.
const stalledFor = 10 * time.Second

// slot is one place of a window: the body of the request that occupies it and
// the function that takes its reply, made once.
type slot struct {
	body  body
	start time.Duration // since base
	done  func(payload []byte, err error)
}

// windowThread keeps a number of requests in flight: one goroutine sends, the
// client's reader takes the replies and frees their slots.
type windowThread struct {
	clientThread
	free chan *slot // the slots that nothing is in flight for; bounded by the window
	mu   sync.Mutex // guards result: a late reply may come while the thread ends
}

func newWindowThread(t clientThread, thread uint64) *windowThread {
	w := &windowThread{clientThread: t, free: make(chan *slot, t.window)}
	for range t.window {
		s := &slot{body: newBody(thread, t.bodyBytes)}
		s.done = func(payload []byte, err error) { w.replied(s, payload, err) }
		w.free <- s
	}
	return w
}

// replied runs on the client's reader.
func (w *windowThread) replied(s *slot, payload []byte, err error) {
	if err == nil && !bytes.Equal(payload, s.body.text) {
		err = errWrong
	}
	w.mu.Lock()
	if err != nil {
		w.result.failed(err)
	}
	record(w.result.latency, time.Since(base)-s.start)
	w.mu.Unlock()
	w.free <- s
}

// run sends until all loops are done or ctx ends, and waits for what is in flight.
func (w *windowThread) run(ctx context.Context) {
	begin := time.Now()
	// Requests outlive ctx for a moment, so that those in flight when it ends are no errors.
	opCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(w.grace(), cancel) })()
	var sent, refused int64
	var why error
	for ; w.more(ctx, sent); sent++ {
		s := w.take(ctx)
		if s == nil {
			break
		}
		s.body.set(uint64(sent))
		s.start = time.Since(base)
		if err := w.c.RequestAsync(opCtx, uint64(sent), s.body.text, s.done); err != nil {
			w.free <- s
			refused, why = refused+1, err
		}
	}
	missing := w.collect()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Sent, w.result.Busy = sent, time.Since(begin)
	if refused > 0 {
		w.result.failed(why)
		w.result.Errors += refused - 1
	}
	if missing > 0 {
		w.result.failed(fmt.Errorf("%w: %d requests", errNoReply, missing))
		w.result.Errors += missing - 1
	}
}

// grace is how long replies may take once nothing more is sent.
func (w *windowThread) grace() time.Duration { return max(w.timeout, time.Second) }

// take returns a free slot, nil when ctx ends or nothing moves for too long.
func (w *windowThread) take(ctx context.Context) *slot {
	select {
	case s := <-w.free:
		return s
	default:
	}
	timer := time.NewTimer(stalledFor)
	defer timer.Stop()
	select {
	case s := <-w.free:
		return s
	case <-ctx.Done():
	case <-timer.C:
	}
	return nil
}

// collect waits until all slots are free again and returns how many are not.
func (w *windowThread) collect() (missing int64) {
	timer := time.NewTimer(w.grace())
	defer timer.Stop()
	for n := w.window; n > 0; n-- {
		select {
		case <-w.free:
		case <-timer.C:
			return int64(n)
		}
	}
	return 0
}
