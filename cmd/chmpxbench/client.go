package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/chmpx/chmpx/client"
)

// carrier is what a client thread needs of client.Client.
type carrier interface {
	Send(ctx context.Context, hash uint64, payload []byte, opts ...client.CallOption) error
	Request(ctx context.Context, hash uint64, payload []byte, opts ...client.CallOption) (client.Reply, error)
	RequestAsync(ctx context.Context, hash uint64, payload []byte, done func([]byte, error), opts ...client.CallOption) error
	Broadcast(ctx context.Context, payload []byte, opts ...client.CallOption) (receivers int, err error)
	BroadcastRequest(ctx context.Context, payload []byte, each func(reply []byte), opts ...client.CallOption) (receivers int, err error)
}

var (
	errWrong   = errors.New("the reply differs from the request")
	errEmpty   = errors.New("the reply is empty: does the server program run with -ta?")
	errNoReply = errors.New("no reply in time")
	errNobody  = errors.New("no server in service takes broadcasts")
)

// clientThread sends one message after the other.
type clientThread struct {
	settings
	c       carrier
	guard   *guard
	opts    []client.CallOption // of every call
	body    body
	out     io.Writer // for -pr; safe for several threads
	replies [][]byte  // to the newest message, for -pr
	result  result
}

// outcome is what became of one message.
type outcome struct {
	receivers int // that it went to
	sendErr   error
	replyErr  error // of the first reply that is missing or wrong
}

// more reports whether loop i is to be done.
func (t *clientThread) more(ctx context.Context, i int64) bool {
	return (t.loops == 0 || i < t.loops) && ctx.Err() == nil
}

// run sends until all loops are done or ctx ends.
func (t *clientThread) run(ctx context.Context) {
	for i := int64(0); t.more(ctx, i); i++ {
		t.body.set(uint64(i))
		start, opCtx := t.guard.begin()
		o := t.once(opCtx, uint64(i))
		took, cut := t.guard.end(start)
		if ctx.Err() != nil && (o.sendErr != nil || o.replyErr != nil) {
			return // stopped in the middle of it: neither sent nor an error
		}
		t.result.Sent++
		t.result.Busy += took
		record(t.result.latency, took)
		if err := errors.Join(o.sendErr, o.replyErr); err != nil {
			if cut {
				err = fmt.Errorf("%w: %w", errNoReply, err)
			}
			t.result.failed(err)
		}
		if missing := o.receivers - len(t.replies); o.replyErr != nil && missing > 1 {
			t.result.Errors += int64(missing - 1) // each reply that is missing is an error
		}
		if t.print {
			t.printOnce(o)
		}
	}
}

// once sends one message and waits for its replies if it is to have any.
func (t *clientThread) once(ctx context.Context, hash uint64) outcome {
	t.replies = t.replies[:0]
	switch {
	case t.broadcast && t.turnAround:
		n, err := t.c.BroadcastRequest(ctx, t.body.text, func(reply []byte) { t.replies = append(t.replies, reply) }, t.opts...)
		return t.settled(n, err)
	case t.broadcast:
		n, err := t.c.Broadcast(ctx, t.body.text, t.opts...)
		if err == nil && n == 0 {
			err = errNobody
		}
		return outcome{receivers: n, sendErr: err}
	case t.turnAround:
		r, err := t.c.Request(ctx, hash, t.body.text, t.opts...)
		if err == nil {
			t.replies = append(t.replies, r.Payload)
		}
		return t.settled(1, err)
	}
	return outcome{receivers: 1, sendErr: t.c.Send(ctx, hash, t.body.text, t.opts...)}
}

// settled says what became of a message to n receivers whose replies are in
// t.replies. Whether an error is one of sending or of the replies shows in it.
func (t *clientThread) settled(n int, err error) outcome {
	switch {
	case errors.Is(err, client.ErrNotDelivered) || errors.Is(err, client.ErrTooLarge):
		return outcome{receivers: n, sendErr: err}
	case err == nil && n == 0:
		return outcome{sendErr: errNobody}
	case err != nil:
		return outcome{receivers: max(n, 1), replyErr: err}
	}
	for _, reply := range t.replies {
		if !answers(reply, t.body.text) {
			return outcome{receivers: n, replyErr: wrong(reply)}
		}
	}
	return outcome{receivers: n}
}

// wrong says what is the matter with a reply that is not the message.
func wrong(reply []byte) error {
	if len(reply) == 0 {
		return errEmpty
	}
	return errWrong
}

// printOnce writes one line for the message and one for each reply, also for
// those that did not come.
func (t *clientThread) printOnce(o outcome) {
	text := visible(t.body.text)
	if o.sendErr != nil {
		fmt.Fprintf(t.out, "Send : %s -> Failed\n", text)
		return
	}
	lines := fmt.Appendf(nil, "Send : %s -> Succeed(receiver count:%d)\n", text, o.receivers)
	if !t.turnAround {
		_, _ = t.out.Write(lines)
		return
	}
	for _, reply := range t.replies {
		if answers(reply, t.body.text) {
			lines = fmt.Appendf(lines, "Receive reply : -> 1 Succeed(%s)\n", visible(reply))
		} else {
			lines = fmt.Appendf(lines, "Receive reply : -> 1 Failed(%v)\n", wrong(reply))
		}
	}
	for range o.receivers - len(t.replies) {
		if errors.Is(o.replyErr, context.Canceled) {
			lines = fmt.Appendf(lines, "Receive reply : -> 1 Failed(timeouted - %v)\n", t.timeout)
		} else {
			lines = fmt.Appendf(lines, "Receive reply : -> 1 Failed(%v)\n", o.replyErr)
		}
	}
	_, _ = t.out.Write(lines)
}

// lockedWriter lets several threads write whole lines.
type lockedWriter struct {
	mu sync.Mutex // guards w; held while writing
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
