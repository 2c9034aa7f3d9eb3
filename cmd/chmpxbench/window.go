package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// stalledFor is how long a thread with a window waits for any reply before it
// gives up what is in flight.
const stalledFor = 10 * time.Second

// timeEvery is how many requests share one latency: with many in flight the
// clock and the histogram would cost as much as the rest of this program.
const timeEvery = 8

// slot is one place of a window: the body of the request that occupies it and
// the function that takes its reply, made once.
type slot struct {
	body  body
	start time.Duration // since base; 0: this request is not timed
	done  func(payload []byte, err error)
}

// windowThread keeps a number of requests in flight: one goroutine sends, the
// client's reader takes the replies and frees their slots.
type windowThread struct {
	clientThread
	local []*slot       // the sender's own: free slots that it has taken over
	freed chan struct{} // one place: the sender sleeps, and there are free slots
	timer *time.Timer   // the sender's, for its waits

	mu      sync.Mutex // guards what follows and result; nothing is called under it
	free    []*slot    // freed by the reader, at most the window
	waiting bool       // the sender is to be told of the next one
}

func newWindowThread(t clientThread, thread uint64) *windowThread {
	w := &windowThread{clientThread: t, freed: make(chan struct{}, 1), timer: time.NewTimer(stalledFor)}
	for range t.window {
		s := &slot{body: newBody(thread, t.bodyBytes)}
		s.done = func(payload []byte, err error) { w.replied(s, payload, err) }
		w.local = append(w.local, s)
	}
	return w
}

// replied runs on the client's reader.
func (w *windowThread) replied(s *slot, payload []byte, err error) {
	if err == nil && !answers(payload, s.body.text) {
		err = wrong(payload)
	}
	var took time.Duration
	if s.start != 0 {
		took = time.Since(base) - s.start
	}
	w.mu.Lock()
	if err != nil {
		w.result.failed(err)
	}
	if took != 0 {
		record(w.result.latency, took)
	}
	w.free = append(w.free, s)
	wake := w.waiting
	w.waiting = false
	w.mu.Unlock()
	if wake {
		select {
		case w.freed <- struct{}{}:
		default: // a sender that gave up waiting has left one there
		}
	}
}

// run sends until all loops are done or ctx ends, and waits for what is in flight.
func (w *windowThread) run(ctx context.Context) {
	begin := time.Now()
	defer w.timer.Stop()
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
		s.start = 0
		if sent%timeEvery == 0 {
			s.start = time.Since(base)
		}
		if err := w.c.RequestAsync(opCtx, uint64(sent), s.body.text, s.done); err != nil {
			w.local = append(w.local, s)
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
	if len(w.local) == 0 && !w.refill() && !w.wait(ctx) {
		return nil
	}
	last := len(w.local) - 1
	s := w.local[last]
	w.local = w.local[:last]
	return s
}

// refill takes over all slots that were freed; if there is none, the reader
// will tell of the next one.
func (w *windowThread) refill() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.local, w.free = append(w.local, w.free...), w.free[:0]
	w.waiting = len(w.local) == 0
	return !w.waiting
}

// wait returns when slots were freed and taken over, or false when ctx ends or
// nothing moves for too long.
func (w *windowThread) wait(ctx context.Context) bool {
	w.timer.Reset(stalledFor)
	select {
	case <-w.freed:
		return w.refill() // there are some: only this goroutine takes them over
	case <-ctx.Done():
	case <-w.timer.C:
	}
	return false
}

// collect waits until all slots are free again and returns how many are not.
func (w *windowThread) collect() (missing int64) {
	ctx, cancel := context.WithTimeout(context.Background(), w.grace())
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		w.mu.Lock()
		missing = int64(w.window - len(w.free) - len(w.local))
		w.mu.Unlock()
		if missing == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return missing
		case <-tick.C:
		}
	}
}
