package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/chmpx/chmpx/internal/fault"
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
	o := combine(opts)
	return c.sendMessage(ctx, &message{hash: hash, payload: payload, deadlineMs: o.deadlineMs()}, &o)
}

// SendRandom is Send to the server program of any server in service; each
// message goes to another one, in no order.
func (c *Client) SendRandom(ctx context.Context, payload []byte, opts ...CallOption) error {
	o := combine(opts)
	return c.sendMessage(ctx, &message{kind: wire.KindRandom, payload: payload, flags: o.flags(), deadlineMs: o.deadlineMs()}, &o)
}

// sendMessage sends a message for which nobody waits.
func (c *Client) sendMessage(ctx context.Context, m *message, o *CallOption) error {
	if o.needOwner {
		if err := c.waitOwner(ctx, o.ownerWait); err != nil {
			return err
		}
	}
	_, err := c.send(ctx, m, true)
	return err
}

// Request sends a message to the owner of hash and waits for the reply. An
// error is ErrNotDelivered if the message was not sent, and ErrMaybeDelivered
// if it was: ctx ended, the Client was closed, or the server ended before it
// replied. The deadline of ctx travels along: after it nobody keeps the
// request or its reply.
func (c *Client) Request(ctx context.Context, hash uint64, payload []byte, opts ...CallOption) (Reply, error) {
	o := combine(opts)
	m := message{hash: hash, payload: payload, flags: wire.FlagWantsReply, deadlineMs: earliestMs(ctx, &o)}
	repeated := false
	for {
		if o.needOwner {
			if err := c.waitOwner(ctx, o.ownerWait); err != nil {
				return Reply{}, notFirst(err, repeated)
			}
		}
		r, err := c.call(ctx, &m)
		if err == nil {
			return Reply{Payload: r.payload, MaybeRepeat: repeated}, nil
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

// call sends a message and waits for what it wants.
func (c *Client) call(ctx context.Context, m *message) (result, error) {
	cl := calls.Get().(*call)
	m.answer = answer{call: cl}
	seq, err := c.send(ctx, m, true)
	if err != nil {
		calls.Put(cl)
		return result{}, err
	}
	c.in.blocked.Add(1)
	c.leadAlone(leaderWait{ctx: ctx, call: cl})
	r := c.awaitResult(ctx, cl, seq, m.want)
	c.unblock()
	calls.Put(cl) // its result was taken, so nobody else has it
	return r, r.err
}

// awaitResult waits for the outcome of a message that was sent.
func (c *Client) awaitResult(ctx context.Context, cl *call, seq uint64, want outcome) result {
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
	if _, ok := c.pending.take(seq, want); ok {
		if want == wantReply {
			c.failed.Add(1)
		}
		return result{err: fmt.Errorf("%w: %s: %w", ErrMaybeDelivered, missing[want], ctx.Err())}
	}
	return <-cl.result // whoever took it is about to give it
}

// missing says what did not come.
var missing = [outcomes]string{"no reply", "not settled yet", "receivers not known yet"}

// RequestAsync sends a message to the owner of hash and returns when it is
// accepted; it waits for that like Send. Then done is called exactly once, with
// the reply, which is valid only during the call, or with an error as from
// Request; without Deadline it may wait for ever. ctx bounds the sending only. done runs on the goroutine that reads
// from the node: one of the Client, or a caller that waits. It must not wait
// for anything, in particular not call a method of the Client that does;
// TryRequestAsync does not.
func (c *Client) RequestAsync(ctx context.Context, hash uint64, payload []byte, done func(reply []byte, err error), opts ...CallOption) error {
	o := combine(opts)
	if o.needOwner {
		if err := c.waitOwner(ctx, o.ownerWait); err != nil {
			return err
		}
	}
	return c.requestAsync(ctx, hash, payload, done, &o, true)
}

// TryRequestAsync is RequestAsync that does not wait: without room, or without
// a node, it returns ErrBackpressure at once. It may be called from done.
func (c *Client) TryRequestAsync(hash uint64, payload []byte, done func(reply []byte, err error), opts ...CallOption) error {
	o := combine(opts)
	return c.requestAsync(context.Background(), hash, payload, done, &o, false)
}

func (c *Client) requestAsync(ctx context.Context, hash uint64, payload []byte, done func([]byte, error), o *CallOption, wait bool) error {
	m := message{hash: hash, payload: payload, flags: wire.FlagWantsReply, deadlineMs: o.deadlineMs(), answer: answer{done: done}}
	c.in.async.Add(1)
	if _, err := c.send(ctx, &m, wait); err != nil {
		c.in.async.Add(-1)
		return err
	}
	c.needLeader()
	return nil
}

// earliestMs returns the deadline of a request: that of ctx or of o, 0 for none.
func earliestMs(ctx context.Context, o *CallOption) int64 {
	if t, ok := ctx.Deadline(); ok && (o.deadline.IsZero() || t.Before(o.deadline)) {
		return max(fault.Wall(t).UnixMilli(), 1)
	}
	return o.deadlineMs()
}
