package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// SendWait is Send that returns nil when a server program has taken the
// message, also through restarts of the node. ErrNotDelivered says that the
// message was not sent, or given up at its Deadline before any program was
// given it; ErrMaybeDelivered that ctx ended or the Client was closed first, in
// which case the message is still kept, or that it was given up when a program
// may have taken it. ctx bounds the waiting, Deadline the message.
func (c *Client) SendWait(ctx context.Context, hash uint64, payload []byte, opts ...CallOption) error {
	o := combine(opts)
	if o.needOwner {
		if err := c.waitOwner(ctx, o.ownerWait); err != nil {
			return err
		}
	}
	m := message{hash: hash, payload: payload, flags: wire.FlagWantsSettled, deadlineMs: o.deadlineMs(), want: wantSettled}
	_, err := c.call(ctx, &m)
	return err
}

// Drain returns nil when everything that this Client had accepted before, its
// replies included, is settled: taken, or given up at its deadline and told to
// Options.Undelivered, so Close may follow without a report being lost. Else the
// error is that of ctx, or ErrClosed. Others may go on sending meanwhile. Not to
// be called from Options.Undelivered.
func (c *Client) Drain(ctx context.Context) error {
	sent := c.requests.sent()
	for _, s := range []*sender{&c.requests, &c.replies} {
		if err := c.drainRing(ctx, s); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if err := c.drainReports(ctx, sent); err != nil {
		return fmt.Errorf("drain: wait for reports: %w", err)
	}
	return nil
}

func (c *Client) drainRing(ctx context.Context, s *sender) error {
	var to uint64 // cursor that the node's head must reach
	var of *shm.Segment
	look := func() (err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		defer shm.Catch(shm.Arm(), &err)
		switch {
		case s.closed:
			return ErrClosed
		case s.prod == nil:
			return errNoRoom
		}
		if of != s.at.seg { // the first look, or a node has come since
			of, to = s.at.seg, s.prod.Tail()
		}
		if s.prod.Head() < to {
			s.at.seg.WantRoom(shm.ProgramSide)
		}
		if s.prod.Head() >= to {
			return nil
		}
		if err := s.prod.Err(); err != nil {
			return err
		}
		return errNoRoom
	}
	err := look()
	if err == nil {
		return nil
	}
	s.drains.Add(1) // before the next look: a release after it finds somebody to wake
	c.in.blocked.Add(1)
	c.needLeader()
	defer func() {
		s.drains.Add(-1)
		c.unblock()
	}()
	for {
		again := s.looked()
		switch err := look(); {
		case err == nil, errors.Is(err, ErrClosed):
			return err
		case !errors.Is(err, errNoRoom):
			s.abandon(err)
		}
		select {
		case <-again:
		case <-c.closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitRoom repeats a try that failed with err, whenever the node may have given
// room back, until it succeeds. Else the error is ErrClosed or that of ctx.
func (c *Client) awaitRoom(ctx context.Context, s *sender, err error, try func() error) error {
	// Counted before the next try: a release after that try finds somebody to wake.
	s.waiting.Add(1)
	c.in.blocked.Add(1)
	c.needLeader()
	defer func() {
		s.waiting.Add(-1)
		c.unblock()
		s.look() // there may be room for one more, or a token that this goroutine did not use
	}()
	for {
		switch {
		case errors.Is(err, ErrClosed):
			return ErrClosed
		case !errors.Is(err, errNoRoom):
			s.abandon(err)
		}
		if err = try(); err == nil {
			return nil
		}
		select {
		case <-s.room:
		case <-c.closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
