package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/internal/hotwait"
	"github.com/chmpx/chmpx/internal/rawio"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

const (
	// drainBatch is how many replies are handled before their room is given back.
	drainBatch = 64
	// standbyEvery is how often an idle client looks at its rings, so that
	// control records do not pile up.
	standbyEvery = time.Second
)

// reader says who reads from the node: one goroutine at a time, the leader,
// drains the reply and control rings and waits for the doorbell. A caller that
// waits alone leads itself: its reply wakes it and nobody else. In all other
// cases the standby goroutine leads, and callers wait on channels of their own.
type reader struct {
	lead sync.Mutex  // held by the leader; guards the fields up to wait
	at   *attachment // nil while detached
	err  error       // why the leader stopped early
	wait leaderWait  // what the leader waits for
	poll func() bool // Client.poll, made once so that leading does not allocate
	hot  hotwait.Governor

	leading atomic.Bool   // somebody leads; changed by the leader
	blocked atomic.Int64  // callers that wait: for a reply, a message, room or a server
	async   atomic.Int64  // asynchronous requests that are out
	standby chan struct{} // capacity 1: the standby goroutine should lead
	message chan struct{} // capacity 1: one of those who receive should look
}

// leaderWait is what a caller that leads waits for; the zero value belongs to
// the standby goroutine, which leads as long as anybody waits.
type leaderWait struct {
	ctx   context.Context
	call  *call // for the result of a request
	recv  bool  // for a message
	armed bool  // the end of ctx rings the doorbell already
}

// done reports whether the leader must stop.
func (r *reader) done() bool {
	w := &r.wait
	switch {
	case w.call != nil:
		return len(w.call.result) > 0 || w.ctx.Err() != nil
	case w.recv:
		return len(r.message) > 0 || w.ctx.Err() != nil
	}
	return r.blocked.Load() == 0 && r.async.Load() == 0
}

// unblock ends the wait of a caller that counted itself in blocked. Others may
// have relied on it as leader.
func (c *Client) unblock() {
	if c.in.blocked.Add(-1) > 0 || c.in.async.Load() > 0 {
		c.needLeader()
	}
}

// needLeader wakes the standby goroutine if nobody leads. The caller is
// counted in blocked or async before; whoever stops leading looks at these
// after it has stopped. So one of the two sees the other.
func (c *Client) needLeader() {
	if !c.in.leading.Load() {
		notify(c.in.standby)
	}
}

// notify puts a token into a channel of capacity 1 unless there is one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// kick makes the leader look at what it waits for.
func (c *Client) kick() {
	if at := c.current.Load(); at != nil {
		_ = at.bell.Ring() // fails only when the attachment has ended, which ends the wait, too
	}
}

// leadAlone makes the caller the leader if nobody else waits, until its wait
// is over, its context has ended, or the attachment has. The caller then looks
// for what it waited for and, if need be, waits as others do. It is counted in
// blocked.
func (c *Client) leadAlone(w leaderWait) {
	r := &c.in
	if r.blocked.Load() != 1 || r.async.Load() != 0 || !r.lead.TryLock() {
		return
	}
	r.leading.Store(true)
	if r.at != nil {
		r.wait = w
		if w.armed || w.ctx.Done() == nil {
			c.leadNow()
		} else {
			stop := context.AfterFunc(w.ctx, c.kickFunc)
			c.leadNow()
			stop()
		}
		r.wait = leaderWait{}
	}
	r.leading.Store(false)
	r.lead.Unlock()
}

// runStandby leads whenever somebody must and no caller does, until Close.
func (c *Client) runStandby() {
	r := &c.in
	t := time.NewTicker(standbyEvery)
	defer t.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-r.standby:
		case <-t.C:
		}
		if !r.lead.TryLock() {
			continue // who leads, or the keeper, calls needLeader after it
		}
		r.leading.Store(true)
		if r.at != nil {
			c.leadNow()
		}
		detached := r.at == nil // then the keeper will wake us
		r.leading.Store(false)
		r.lead.Unlock()
		if !detached && (r.blocked.Load() > 0 || r.async.Load() > 0) {
			notify(r.standby)
		}
	}
}

// leadNow drains and waits until the leader must stop or the attachment ends.
// lead is held and there is an attachment.
func (c *Client) leadNow() {
	r := &c.in
	at := r.at
	r.err = nil
	err := c.waitBell(at)
	if err == nil {
		err = r.err
	}
	if err != nil { // nobody reads this attachment again; the keeper replaces it
		r.at = nil
		if !errors.Is(err, os.ErrClosed) {
			at.fail(fmt.Errorf("read from node: %w", err))
		}
	}
}

func (c *Client) waitBell(at *attachment) (err error) {
	defer shm.Catch(shm.Arm(), &err)
	return at.bell.Wait(c.in.poll)
}

// pollRings is what the leader does at each ring of the doorbell: drain, and
// say that it sleeps before it does. It reports whether the leader must stop.
func (c *Client) pollRings() bool {
	r := &c.in
	at := r.at
	at.seg.Awake(shm.ProgramSide)
	waited := !c.hotWait
	for {
		worked, err := c.drain(at)
		if err == nil && !worked && !waited && !r.done() {
			waited = true
			worked, err = c.waitHot(at)
		}
		if err != nil {
			r.err = err
			return true
		}
		if r.done() {
			return true
		}
		if worked {
			waited = !c.hotWait
			continue
		}
		at.seg.Sleep(shm.ProgramSide)
		if at.control.Empty() && at.replies.Empty() && at.requests.Tail() == at.requestsSeen {
			return false
		}
		at.seg.Awake(shm.ProgramSide)
	}
}

// waitHot looks at the rings some more before the leader sleeps, if that pays.
// It returns when something was there and is handled.
func (c *Client) waitHot(at *attachment) (worked bool, err error) {
	g := &c.in.hot
	for goOn := g.Begin(c.nowNs()); goOn; {
		if c.in.wait == (leaderWait{}) {
			runtime.Gosched() // others of this program may be what is waited for
		}
		rawio.Yield()
		now := c.nowNs()
		if worked, err = c.drain(at); err != nil {
			return worked, err
		}
		goOn = g.Looked(now, worked)
		if worked || c.in.done() {
			g.Worked(now)
			return worked, nil
		}
	}
	return false, nil
}

// nowNs is the clock of the hot wait.
func (c *Client) nowNs() int64 { return int64(time.Since(c.start)) }

// drain handles what is in the control ring and a batch of replies, and tells
// those who wait for messages or room. It reports whether there was anything.
func (c *Client) drain(at *attachment) (worked bool, err error) {
	control, err := c.drainControl(at)
	if err != nil {
		return false, err
	}
	replies, err := c.drainReplies(at)
	if err != nil {
		return false, err
	}
	tail := at.requests.Tail()
	messages := tail != at.requestsSeen
	if messages {
		at.requestsSeen = tail
		notify(c.in.message)
	}
	c.requests.look()
	c.replies.look()
	return control || replies || messages, nil
}

func (c *Client) drainControl(at *attachment) (worked bool, err error) {
	released := c.releasedTo() // first: what the node wrote before it released is there now
	for {
		rec, _, end, ok, err := at.control.Next()
		if err != nil {
			return worked, err
		}
		if !ok {
			break
		}
		var m wire.Control
		if err := m.Get(rec); err != nil {
			return worked, err
		}
		fault.Crash(fault.ControlRead)
		at.release(at.control, end)
		worked = true
		c.told(m)
	}
	if released > 0 {
		c.forgetWatched(func(m *watchedSend) bool { return m.end <= released })
	}
	return worked, nil
}

// told handles one control record.
func (c *Client) told(m wire.Control) {
	switch m.Type {
	case wire.ControlRequestFailed:
		if g := c.gathers.get(m.Value); g != nil {
			g.change(func() { g.ended++ })
			return
		}
		c.finish(m.Value, wantReply, result{err: errServerEnded})
	case wire.ControlServing:
		c.serving.set(int64(min(m.Value, 1<<31)))
	case wire.ControlSettled:
		c.finish(m.Value, wantSettled, result{})
	case wire.ControlReceivers:
		if g := c.gathers.get(m.Value); g != nil {
			g.change(func() { g.receivers = int(m.Detail) })
			return
		}
		c.finish(m.Value, wantReceivers, result{n: int(m.Detail)})
	case wire.ControlUndelivered:
		c.givenUp(m.Value, m.Detail != 0)
	case wire.ControlBye: // what counts is that the socket closes
	}
}

// drainReplies hands a batch of replies to those who wait for them, straight
// from the ring, and releases the batch.
func (c *Client) drainReplies(at *attachment) (worked bool, err error) {
	var last uint64
	for range drainBatch {
		rec, _, end, ok, err := at.replies.Next()
		if err != nil {
			return worked, err
		}
		if !ok {
			break
		}
		seq, payload, err := wire.GetInReply(rec)
		if err != nil {
			return worked, err
		}
		c.finish(seq, wantReply, result{payload: payload})
		last, worked = end, true
	}
	if worked {
		at.release(at.replies, last)
	}
	return worked, nil
}

// release gives room back to the node and rings it if it waits for room.
func (at *attachment) release(ring *shm.Consumer, end uint64) {
	ring.Release(end)
	if at.seg.RoomWanted(shm.NodeSide) {
		_ = at.nodeBell.Ring()
	}
}

// finish gives a message its outcome, unless it was given up. A payload is
// copied for a caller that waits and lent to a callback.
func (c *Client) finish(seq uint64, want outcome, r result) {
	a, ok := c.pending.take(seq, want)
	if ok {
		c.end(a, want, r)
	} else if want == wantReply && r.err == nil {
		c.gathered(seq, r.payload)
	}
}

// end gives the outcome to who waits for it.
func (c *Client) end(a answer, want outcome, r result) {
	if want == wantReply {
		c.count(r.err)
	}
	a.give(r)
	if a.done != nil {
		c.in.async.Add(-1)
	}
}

func (a *answer) give(r result) {
	if a.done != nil {
		a.done(r.payload, r.err)
		return
	}
	r.payload = bytes.Clone(r.payload)
	a.call.result <- r // capacity 1, and only this one
}

func (c *Client) count(err error) {
	if err == nil {
		c.answered.Add(1)
	} else {
		c.failed.Add(1)
	}
}
