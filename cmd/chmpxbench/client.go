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
}

var (
	errWrong   = errors.New("the reply differs from the request")
	errNoReply = errors.New("no reply in time")
)

// clientThread sends one message after the other.
type clientThread struct {
	settings
	c      carrier
	guard  *guard
	opts   []client.CallOption // of every call
	body   body
	out    io.Writer // for -pr; safe for several threads
	reply  []byte    // the newest, for -pr
	result result
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
		sendErr, replyErr := t.once(opCtx, uint64(i))
		took, cut := t.guard.end(start)
		if ctx.Err() != nil && (sendErr != nil || replyErr != nil) {
			return // stopped in the middle of it: neither sent nor an error
		}
		t.result.Sent++
		t.result.Busy += took
		record(t.result.latency, took)
		if err := errors.Join(sendErr, replyErr); err != nil {
			if cut {
				err = fmt.Errorf("%w: %w", errNoReply, err)
			}
			t.result.failed(err)
		}
		if t.print {
			t.printOnce(sendErr, replyErr)
		}
	}
}

// once sends one message and waits for its reply if it is to have one.
func (t *clientThread) once(ctx context.Context, hash uint64) (sendErr, replyErr error) {
	if !t.turnAround {
		return t.c.Send(ctx, hash, t.body.text, t.opts...), nil
	}
	r, err := t.c.Request(ctx, hash, t.body.text, t.opts...)
	t.reply = r.Payload
	switch {
	case errors.Is(err, client.ErrNotDelivered) || errors.Is(err, client.ErrTooLarge):
		return err, nil
	case err != nil:
		return nil, err
	case !answers(r.Payload, t.body.text):
		return nil, errWrong
	}
	return nil, nil
}

func (t *clientThread) printOnce(sendErr, replyErr error) {
	text := visible(t.body.text)
	if sendErr != nil {
		fmt.Fprintf(t.out, "Send : %s -> Failed\n", text)
		return
	}
	line := fmt.Sprintf("Send : %s -> Succeed(receiver count:1)\n", text)
	switch {
	case t.turnAround && replyErr == nil:
		line += fmt.Sprintf("Receive reply : -> 1 Succeed(%s)\n", visible(t.reply))
	case t.turnAround && errors.Is(replyErr, context.Canceled):
		line += fmt.Sprintf("Receive reply : -> 1 Failed(timeouted - %v)\n", t.timeout)
	case t.turnAround:
		line += fmt.Sprintf("Receive reply : -> 1 Failed(%v)\n", replyErr)
	}
	io.WriteString(t.out, line)
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
