package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/chmpx/chmpx/wire"
)

// Reply is the answer to a Request.
type Reply struct {
	Payload []byte // the caller's
	// MaybeRepeat says that the request was sent more than once (Repeatable),
	// so server programs may have seen it more than once.
	MaybeRepeat bool
}

// errServerEnded says that ControlRequestFailed came.
var errServerEnded = fmt.Errorf("%w: the server that took the request ended before it replied", ErrMaybeDelivered)

// Send hands a message for the owner of hash to the node and returns nil when
// it is accepted: from then on it is kept until a server program has taken it.
// It waits for room, and while there is no node, until ctx ends; then the
// message was not sent (ErrBackpressure, ErrNotDelivered). With a ctx that has
// ended already nothing is sent (ErrNotDelivered). payload may be reused at once.
func (c *Client) Send(ctx context.Context, hash uint64, payload []byte, opts ...CallOption) error {
	if o := combine(opts); o.needOwner {
		if err := c.waitOwner(ctx, o.ownerWait); err != nil {
			return err
		}
	}
	_, err := c.send(ctx, &message{hash: hash, payload: payload}, true)
	return err
}

// Request sends a message to the owner of hash and waits for the reply. An
// error is ErrNotDelivered if the message was not sent, and ErrMaybeDelivered
// if it was: ctx ended, the Client was closed, or the server ended before it
// replied. The deadline of ctx travels along: after it nobody keeps the
// request or its reply.
func (c *Client) Request(ctx context.Context, hash uint64, payload []byte, opts ...CallOption) (Reply, error) {
	o := combine(opts)
	m := message{hash: hash, payload: payload, flags: wire.FlagWantsReply, deadlineMs: deadlineMs(ctx)}
	repeated := false
	for {
		if o.needOwner {
			if err := c.waitOwner(ctx, o.ownerWait); err != nil {
				return Reply{}, notFirst(err, repeated)
			}
		}
		p, err := c.requestOnce(ctx, &m)
		if err == nil {
			return Reply{Payload: p, MaybeRepeat: repeated}, nil
		}
		if !o.repeatable || !errors.Is(err, errServerEnded) && !errors.Is(err, errNodeEnded) || ctx.Err() != nil {
			return Reply{}, notFirst(err, repeated)
		}
		repeated = true
		m.flags |= wire.FlagMaybeRepeat
	}
}

// notFirst corrects the error of a repeat: that it was not sent says nothing
// about the first time.
func notFirst(err error, repeated bool) error {
	if repeated && errors.Is(err, ErrNotDelivered) {
		return fmt.Errorf("%w, and was not sent again: %s", errServerEnded, err)
	}
	return err
}

func (c *Client) requestOnce(ctx context.Context, m *message) ([]byte, error) {
	cl := calls.Get().(*call)
	m.answer = answer{call: cl}
	seq, err := c.send(ctx, m, true)
	if err != nil {
		calls.Put(cl)
		return nil, err
	}
	c.in.blocked.Add(1)
	c.leadAlone(leaderWait{ctx: ctx, call: cl})
	r := c.awaitResult(ctx, cl, seq)
	c.unblock()
	calls.Put(cl) // its result was taken, so nobody else has it
	return r.payload, r.err
}

// awaitResult waits for the outcome of a request that was sent.
func (c *Client) awaitResult(ctx context.Context, cl *call, seq uint64) result {
	select {
	case r := <-cl.result:
		return r
	default:
	}
	c.needLeader()
	select {
	case r := <-cl.result:
		return r
	case <-ctx.Done():
	}
	if _, ok := c.pending.take(seq); ok {
		c.failed.Add(1)
		return result{err: fmt.Errorf("%w: no reply: %w", ErrMaybeDelivered, ctx.Err())}
	}
	return <-cl.result // whoever took it is about to give it
}

// RequestAsync sends a message to the owner of hash and returns when it is
// accepted; it waits for that like Send. Then done is called exactly once, with
// the reply, which is valid only during the call, or with an error as from
// Request. ctx bounds the sending only. done runs on the goroutine that reads
// from the node: one of the Client, or a caller that waits. It must not wait
// for anything, in particular not call a method of the Client that does;
// TryRequestAsync does not.
func (c *Client) RequestAsync(ctx context.Context, hash uint64, payload []byte, done func(reply []byte, err error)) error {
	return c.requestAsync(ctx, hash, payload, done, true)
}

// TryRequestAsync is RequestAsync that does not wait: without room, or without
// a node, it returns ErrBackpressure at once. It may be called from done.
func (c *Client) TryRequestAsync(hash uint64, payload []byte, done func(reply []byte, err error)) error {
	return c.requestAsync(context.Background(), hash, payload, done, false)
}

func (c *Client) requestAsync(ctx context.Context, hash uint64, payload []byte, done func([]byte, error), wait bool) error {
	m := message{hash: hash, payload: payload, flags: wire.FlagWantsReply, answer: answer{done: done}}
	c.in.async.Add(1)
	if _, err := c.send(ctx, &m, wait); err != nil {
		c.in.async.Add(-1)
		return err
	}
	c.needLeader()
	return nil
}

func deadlineMs(ctx context.Context) int64 {
	if t, ok := ctx.Deadline(); ok {
		return max(t.UnixMilli(), 1)
	}
	return 0
}
