package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/chmpx/chmpx/wire"
)

// Broadcast sends a message to the server programs of all servers in service,
// one on each, and returns to how many as soon as the node has told. It is kept
// for each of them like a message of Send; no order is promised. The error is
// ErrNotDelivered if the message was not sent, else ErrMaybeDelivered.
func (c *Client) Broadcast(ctx context.Context, payload []byte, opts ...CallOption) (receivers int, err error) {
	return c.sendMany(ctx, wire.KindBroadcast, 0, payload, opts)
}

// Replicate is Broadcast to all servers in service that own hash: its owner and
// the replicas.
func (c *Client) Replicate(ctx context.Context, hash uint64, payload []byte, opts ...CallOption) (receivers int, err error) {
	return c.sendMany(ctx, wire.KindReplicate, hash, payload, opts)
}

func (c *Client) sendMany(ctx context.Context, kind wire.Kind, hash uint64, payload []byte, opts []CallOption) (int, error) {
	o := combine(opts)
	if o.needOwner {
		if err := c.waitOwner(ctx, o.ownerWait); err != nil {
			return 0, err
		}
	}
	r, err := c.call(ctx, &message{kind: kind, hash: hash, payload: payload, flags: o.flags(), deadlineMs: o.deadlineMs(), want: wantReceivers})
	return r.n, err
}

// BroadcastRequest is Broadcast that wants a reply of each receiver. It calls
// each with every reply, on the caller's goroutine, and returns when as many
// have come as there are receivers; the payload is each's. The error says that
// fewer came: ctx or the deadline ended, receivers or the node ended
// (ErrMaybeDelivered), or nothing was sent (ErrNotDelivered). receivers is 0
// when the node has not told. Without receivers it returns 0 and nil.
func (c *Client) BroadcastRequest(ctx context.Context, payload []byte, each func(reply []byte), opts ...CallOption) (receivers int, err error) {
	return c.requestMany(ctx, wire.KindBroadcast, 0, payload, each, opts)
}

// ReplicateRequest is BroadcastRequest to all servers in service that own hash.
func (c *Client) ReplicateRequest(ctx context.Context, hash uint64, payload []byte, each func(reply []byte), opts ...CallOption) (receivers int, err error) {
	return c.requestMany(ctx, wire.KindReplicate, hash, payload, each, opts)
}

func (c *Client) requestMany(ctx context.Context, kind wire.Kind, hash uint64, payload []byte, each func([]byte), opts []CallOption) (int, error) {
	o := combine(opts)
	if o.needOwner {
		if err := c.waitOwner(ctx, o.ownerWait); err != nil {
			return 0, err
		}
	}
	g := &gather{receivers: -1, changed: make(chan struct{}, 1)}
	m := message{kind: kind, hash: hash, payload: payload, flags: o.flags() | wire.FlagWantsReply, deadlineMs: earliestMs(ctx, &o), gather: g}
	seq, err := c.send(ctx, &m, true)
	if err != nil {
		return 0, err
	}
	c.in.blocked.Add(1)
	defer c.unblock()
	defer c.gathers.take(seq)
	c.needLeader()
	for replies := 0; ; {
		got, receivers, left, err := g.take()
		for _, p := range got {
			replies++
			each(p)
		}
		switch {
		case receivers >= 0 && replies >= receivers:
			c.answered.Add(1)
			return receivers, nil
		case err == nil && receivers >= 0 && replies+left >= receivers:
			err = errServerEnded
		case err == nil && len(got) > 0:
			continue // more may have come while each ran
		case err == nil:
			select {
			case <-g.changed:
				continue
			case <-ctx.Done():
				err = fmt.Errorf("%w: %w", ErrMaybeDelivered, ctx.Err())
			case <-c.closing:
				err = fmt.Errorf("%w: %w", ErrMaybeDelivered, ErrClosed)
			}
		}
		c.failed.Add(1)
		if replies > 0 && !errors.Is(err, ErrMaybeDelivered) {
			err = fmt.Errorf("%w: %s", ErrMaybeDelivered, err)
		}
		return max(receivers, 0), fmt.Errorf("%w (%d replies)", err, replies)
	}
}

// gather collects what comes for one request to many.
type gather struct {
	changed chan struct{} // capacity 1: look again

	mu        sync.Mutex // guards what follows; nothing is called under it
	receivers int        // -1: not told yet
	ended     int        // receivers that ended before they replied
	got       int        // replies that came
	replies   [][]byte   // of these, those not handed out
	err       error
}

func (g *gather) change(f func()) {
	g.mu.Lock()
	f()
	g.mu.Unlock()
	notify(g.changed)
}

func (g *gather) fail(err error) { g.change(func() { g.err = err }) }

// take hands out the replies that have come.
func (g *gather) take() (replies [][]byte, receivers, ended int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	replies, g.replies = g.replies, nil
	return replies, g.receivers, g.ended, g.err
}

// gathers holds the requests to many that are out, by sequence. They are few:
// who looks for one first looks whether there are any.
type gathers struct {
	n    atomic.Int64
	mu   sync.Mutex // guards all; nothing is called under it
	open map[uint64]*gather
}

func (gs *gathers) put(seq uint64, g *gather) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.open == nil {
		gs.open = map[uint64]*gather{}
	}
	gs.open[seq] = g
	gs.n.Add(1)
}

// get returns the request seq, nil if there is none.
func (gs *gathers) get(seq uint64) *gather {
	if gs.n.Load() == 0 {
		return nil
	}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.open[seq]
}

func (gs *gathers) take(seq uint64) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.open[seq] != nil {
		delete(gs.open, seq)
		gs.n.Add(-1)
	}
}

// failAll ends the requests up to last: the node that counted their replies is gone.
func (gs *gathers) failAll(last uint64, err error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for seq, g := range gs.open {
		if seq <= last {
			g.fail(err)
		}
	}
}

// gathered adds a reply to a request to many.
func (c *Client) gathered(seq uint64, payload []byte) {
	if g := c.gathers.get(seq); g != nil {
		g.change(func() {
			if g.receivers < 0 || g.got < g.receivers { // who replies twice does not fill the memory
				g.got++
				g.replies = append(g.replies, bytes.Clone(payload))
			}
		})
	}
}
