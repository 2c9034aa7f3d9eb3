package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// Client is the attachment of this program to its node, through restarts of
// the node. All methods may be called from any goroutine at any time.
//
// Who may touch a segment: senders under the mutex of their ring, receivers
// under theirs, the leader (see reader) under lead. The keeper takes these one
// after the other to change the attachment, so that afterwards nobody uses the
// old one. Only the leader holds one of them (lead) while it takes another.
type Client struct {
	log             *slog.Logger
	system          shm.System
	paths           []string
	request         wire.AttachRequest // how to attach again
	messageBytesMax int
	ringBytes       int
	hotWait         bool
	start           time.Time // of nowNs

	current  atomic.Pointer[attachment] // nil while detached; to ring bells and close only
	node     atomic.Uint64              // ring.ID of the newest node
	requests sender
	replies  sender
	received receiver
	pending  pending
	in       reader
	serving  serving
	gathers  gathers
	reports  chan Undelivered // capacity reportsMax; nil without Options.Undelivered
	kickFunc func()           // kick, made once

	answered, failed, unanswered, roomWaits, reattached, resumed atomic.Uint64
	undelivered, undeliveredMissed, undeliveredTold              atomic.Uint64

	lost     chan struct{} // capacity 1: lostUpTo was set
	lostUpTo atomic.Uint64 // newest request from before the present attachment

	closeOnce sync.Once
	closing   chan struct{}      // closed by Close
	cancel    context.CancelFunc // ends what the keeper does
	work      sync.WaitGroup     // all goroutines
}

// Back-off between attempts to attach.
const (
	attachBackoffMin = 10 * time.Millisecond
	attachBackoffMax = 250 * time.Millisecond
)

// Attach attaches to the node that o names. It waits until ctx ends for the
// node to be there (ErrNoNode); a refusal is final (ErrRefused, ErrNoRoom).
func Attach(ctx context.Context, o Options) (*Client, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	paths, err := socketPaths(&o)
	if err != nil {
		return nil, err
	}
	c := &Client{log: o.Logger, system: o.System, paths: paths, closing: make(chan struct{}),
		hotWait: !o.ColdWait, start: time.Now(),
		request: wire.AttachRequest{Role: o.Role, PID: uint32(os.Getpid()), Name: o.Name}}
	c.requests.room, c.replies.room = make(chan struct{}, 1), make(chan struct{}, 1)
	c.in.standby, c.in.message, c.lost = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	c.in.poll, c.kickFunc = c.pollRings, c.kick
	c.serving.n = -1
	if o.AckOnDone && o.Role == RoleServer {
		c.request.Flags, c.received.ackOnDone = wire.AttachAckOnDone, true
	}
	if o.Undelivered != nil {
		c.reports = make(chan Undelivered, reportsMax)
	}

	at, err := c.firstAttach(ctx)
	if err != nil {
		return nil, err
	}
	c.request.Session = at.reply.Session
	c.ringBytes = int(at.reply.RingBytes)
	c.messageBytesMax = wire.MessageBytesMax(c.ringBytes)
	run, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.install(at, newProducers(at))
	c.work.Go(func() { c.keep(run, at) })
	c.work.Go(func() { c.runExpirer(o.lostReplyWait) })
	c.work.Go(c.runStandby)
	if o.Undelivered != nil {
		c.work.Go(func() { c.runReports(o.Undelivered) })
	}
	return c, nil
}

func (c *Client) firstAttach(ctx context.Context) (*attachment, error) {
	pause := attachBackoffMin
	for {
		at, err := dial(ctx, c.system, c.paths, &c.request, nil)
		var refused *refusal
		switch {
		case err == nil:
			return at, nil
		case errors.As(err, &refused) && refused.code == wire.AttachRefusedStopping: // another may come
		case errors.Is(err, ErrRefused), errors.Is(err, ErrNoRoom):
			return nil, err
		}
		if !wait(ctx, pause) {
			return nil, fmt.Errorf("%w: %w: %w", ErrNoNode, err, ctx.Err())
		}
		pause = min(2*pause, attachBackoffMax)
	}
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Close detaches and returns when all goroutines of the Client have ended.
// Calls that wait return ErrClosed. Messages that were accepted stay with the
// node, which still delivers them; outcomes of requests that are out are
// unknown (ErrMaybeDelivered). Idempotent. Not to be called from a callback.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		for _, s := range []*sender{&c.requests, &c.replies} {
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
		}
		close(c.closing)
		c.cancel()
		c.received.close() // what is taken after the socket's end would be a repeat without mark
		if at := c.current.Load(); at != nil {
			at.fail(ErrClosed)
		}
	})
	c.work.Wait()
	return nil
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// Node returns the id of the node that the Client is, or was last, attached to.
func (c *Client) Node() ring.ID { return ring.ID(c.node.Load()) }

// Session returns the id of this attachment. It stays the same through
// restarts of the node.
func (c *Client) Session() wire.SessionID { return c.request.Session }

// MessageBytesMax returns the largest payload of a message or reply.
func (c *Client) MessageBytesMax() int { return c.messageBytesMax }

// Serving returns how many servers are in service as the node last told, 0
// while it has not told or there is no node. It may be up to a second old.
func (c *Client) Serving() int {
	n, _ := c.serving.get()
	return int(max(n, 0))
}

// Stats are the counters of a Client since Attach.
type Stats struct {
	Attached   bool   // there is a node now; false after a loss when nothing of the lost one can be taken any more
	Sent       uint64 // messages and requests accepted
	Answered   uint64 // requests that got their reply
	Failed     uint64 // requests that were accepted and got none
	Received   uint64 // messages taken
	Replied    uint64 // replies accepted
	Unanswered uint64 // messages taken by Serve that got no reply because of an error
	RoomWaits  uint64 // sends that had to wait for room or for a node
	Reattached uint64 // times that the Client attached again
	Resumed    uint64 // of these, those that went on in the segment that it had

	Undelivered       uint64 // messages given up that Options.Undelivered is for
	UndeliveredMissed uint64 // of these, those it was not called for
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	s := Stats{Answered: c.answered.Load(), Failed: c.failed.Load(),
		Unanswered: c.unanswered.Load(), RoomWaits: c.roomWaits.Load(), Reattached: c.reattached.Load(), Resumed: c.resumed.Load(),
		Undelivered: c.undelivered.Load(), UndeliveredMissed: c.undeliveredMissed.Load()}
	c.requests.mu.Lock()
	s.Sent = c.requests.seq
	c.requests.mu.Unlock()
	c.replies.mu.Lock()
	s.Replied = c.replies.seq
	c.replies.mu.Unlock()
	c.received.mu.Lock()
	s.Received = c.received.taken
	s.Attached = c.received.at != nil // the last that a client is done with, and the last that is there again
	c.received.mu.Unlock()
	return s
}
