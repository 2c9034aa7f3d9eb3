package traffic

import (
	"context"
	"errors"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/wire"
)

// way is one way to send a message.
type way int

const (
	oneWay way = iota
	request
	sendWait
	random
	broadcast
	replicate
	broadcastRequest
	replicateRequest
	ways
)

// kinds are the kinds of the messages of each way.
var kinds = [ways]wire.Kind{random: wire.KindRandom, broadcast: wire.KindBroadcast, replicate: wire.KindReplicate,
	broadcastRequest: wire.KindBroadcast, replicateRequest: wire.KindReplicate}

// mix is what one session sends.
type mix struct {
	weights  [ways]int
	keys     int
	deadline int // of 100 messages so many have a short deadline
	large    int // of 1,000 messages so many are large
}

// mixes are given to sessions in turns. What can hold up a session, messages
// for all, is kept apart from what must go fast.
var mixes = []mix{
	{keys: 4, weights: [ways]int{oneWay: 1}},
	{keys: 16, weights: [ways]int{oneWay: 1, request: 3}, large: 2},
	{keys: 8, weights: [ways]int{oneWay: 2, sendWait: 1}, deadline: 10},
	{keys: 8, weights: [ways]int{random: 6, broadcast: 2, replicate: 2, broadcastRequest: 1, replicateRequest: 1}, deadline: 30},
	{keys: 32, weights: [ways]int{oneWay: 4, request: 2, random: 1}, deadline: 60},
	{keys: 64, weights: [ways]int{oneWay: 8, request: 4, sendWait: 1, random: 4, broadcast: 1, replicate: 1, broadcastRequest: 1, replicateRequest: 1}, deadline: 5, large: 10},
}

// How long one call may take, messages without a short deadline are kept, and
// what a short deadline is.
const (
	callWait     = 3 * time.Second
	manyDeadline = 10 * time.Second // a receiver that takes nothing holds up the session
	askDeadline  = 20 * time.Second
	shortMost    = 2 * time.Second
)

func (s *session) drawWay() way {
	total := 0
	for _, n := range s.mix.weights {
		total += n
	}
	n := s.random.IntN(total)
	for w, weight := range s.mix.weights {
		if n -= weight; n < 0 {
			return way(w)
		}
	}
	return oneWay
}

// drawn is a message that is about to be sent.
type drawn struct {
	way
	hash    uint64
	payload []byte
	within  time.Duration // until its deadline, 0: none
	opts    []client.CallOption
}

// draw draws the next message.
func (s *session) draw(seq uint64) (d drawn) {
	d.way = s.drawWay()
	kind := kinds[d.way]
	if kind == wire.KindHash || kind == wire.KindReplicate {
		d.hash = s.hashes[s.random.IntN(len(s.hashes))]
	}
	size := payloadHead + s.random.IntN(1<<s.random.IntN(11))
	if s.random.IntN(1000) < s.mix.large {
		size = payloadHead + s.random.IntN(len(s.buf)-payloadHead)
	}
	d.payload = s.buf[:size]
	putPayload(d.payload, seq, s.random)
	switch short := time.Millisecond + time.Duration(s.random.Int64N(int64(shortMost))); {
	case s.random.IntN(100) < s.mix.deadline:
		d.within = short
	case d.way == request:
		d.within = askDeadline
	case kind == wire.KindBroadcast, kind == wire.KindReplicate:
		d.within = manyDeadline
	}
	if d.within > 0 {
		d.opts = append(d.opts, client.Deadline(fault.Now().Add(d.within)))
	}
	if kind != wire.KindHash && s.random.IntN(4) == 0 {
		d.opts = append(d.opts, client.WithoutSelf())
	}
	return d
}

// one sends one message and writes down what is known when the call returns.
func (s *session) one(ctx context.Context) error {
	before := s.c.Stats().Sent
	seq := before + 1
	d := s.draw(seq)
	e := check.Event{Kind: kinds[d.way], Seq: seq, Hash: d.hash}
	sending := e
	sending.What, sending.Count = check.Sending, uint32(d.within.Milliseconds())
	if d.way == broadcastRequest || d.way == replicateRequest {
		sending.Count = uint32(callWait.Milliseconds()) // the deadline of the call is that of the message
	}
	s.add(sending)
	callCtx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	receivers, err := s.call(callCtx, &d, &e)
	if s.c.Stats().Sent == before { // it used no sequence
		e.What = check.Refused
		s.add(e)
		if err == nil || errors.Is(err, client.ErrMaybeDelivered) {
			return errors.Join(errors.New("traffic: a message that was not accepted did not end as not delivered"), err)
		}
		return nil
	}
	e.What = check.Accepted
	s.add(e)
	s.ended(callCtx, &d, e, receivers, err)
	return nil
}

// call makes the call that sends.
func (s *session) call(ctx context.Context, d *drawn, e *check.Event) (receivers int, err error) {
	each := func(reply []byte) { s.replied(*e, reply) }
	switch payload, opts := d.payload, d.opts; d.way {
	case oneWay:
		return 0, s.c.Send(ctx, e.Hash, payload, opts...)
	case request:
		return 0, s.ask(ctx, *e, payload, opts)
	case sendWait:
		return 0, s.c.SendWait(ctx, e.Hash, payload, opts...)
	case random:
		return 0, s.c.SendRandom(ctx, payload, opts...)
	case broadcast:
		return s.c.Broadcast(ctx, payload, opts...)
	case replicate:
		return s.c.Replicate(ctx, e.Hash, payload, opts...)
	case broadcastRequest:
		return s.c.BroadcastRequest(ctx, payload, each, opts...)
	}
	return s.c.ReplicateRequest(ctx, e.Hash, d.payload, each, d.opts...)
}

// ask sends a request whose outcome comes later.
func (s *session) ask(ctx context.Context, e check.Event, payload []byte, opts []client.CallOption) error {
	count := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open += n
	}
	count(1)
	err := s.c.RequestAsync(ctx, e.Hash, payload, func(reply []byte, err error) {
		if err != nil {
			s.outcome(e, err)
		} else {
			s.replied(e, reply)
		}
		count(-1)
	}, opts...)
	if err != nil {
		count(-1)
	}
	return err
}

// ended writes down what the call said about an accepted message.
func (s *session) ended(ctx context.Context, d *drawn, e check.Event, receivers int, err error) {
	w := d.way
	many := w == broadcast || w == replicate || w == broadcastRequest || w == replicateRequest
	if many && (err == nil || receivers > 0) {
		e.What, e.Count = check.Receivers, uint32(receivers)
		s.add(e)
		e.Count = 0
	}
	switch {
	case err == nil && w == sendWait:
		e.What = check.Settled
		s.add(e)
	case err == nil:
	case ctx.Err() != nil && w == sendWait && d.within > 0:
		s.outcome(e, err) // nobody is told of its deadline any more
	case ctx.Err() != nil && (w == sendWait || w == broadcast || w == replicate):
		// The call ended, not the message.
	default:
		s.outcome(e, err)
	}
}
