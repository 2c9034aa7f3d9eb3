package flow

import (
	"math/bits"

	"github.com/chmpx/chmpx/wire"
)

// replyAck gathers acknowledgements of one reply stream of a peer.
type replyAck struct {
	stream     uint32
	base, mask uint64
}

// replyAcksMax bounds the streams that gather on one peer before they are sent.
const replyAcksMax = 16

// pressedHoldNs is how long a reply may wait for a way to its asker while the
// window is full, so that every other asker waits with it.
const pressedHoldNs = 50e6

// submitReply takes over a reply of a program of this node.
func (c *Core) submitReply(nowNs int64, s *Session, r *Record) error {
	e, err := s.replies.push(r)
	if err != nil {
		return err
	}
	s.program.open.del(&r.ToSession, r.ToSeq, false)
	if s.replies.accepts() == 0 {
		c.due(&s.replies, nowNs) // those that wait have less time now
	}
	e.dest = c.peers[r.ToNode]
	c.forwardReply(nowNs, s, e)
	if e.state == settled { // expired
		c.release(s, Replies)
		c.reap()
	}
	return nil
}

// forwardReply transmits an unsent reply if it has a way to its asker, and
// drops it when it has waited too long; the caller looks at its state and
// calls release.
func (c *Core) forwardReply(nowNs int64, s *Session, e *entry) bool {
	w := &s.replies
	if e.dest == nil {
		e.dest = c.peers[e.rec.ToNode] // no node of this id was known before
	}
	p := e.dest
	if p != nil && p.up && !p.full && nowNs >= e.retryNs {
		c.header = wire.Header{
			Type: wire.TypeReply, Flags: e.rec.Flags, Session: e.rec.ToSession, Seq: e.rec.Seq, Hash: e.rec.ToSeq,
			Epoch: c.epoch, Attempt: s.stream, DeadlineMs: remaining(nowNs, e.rec.DeadlineNs),
		}
		if c.ports.TransmitRecord(p, &c.header, s, Replies, &e.rec) {
			c.stats.RepliesSent++
			w.sent(e)
			return true
		}
		p.full = true
	}
	if e.sinceNs == 0 {
		e.sinceNs = nowNs
	}
	if e.holdNs == 0 {
		e.holdNs = nowNs + c.cfg.ReplyHoldNs
		if at := e.rec.DeadlineNs; at != 0 {
			e.holdNs = min(e.holdNs, at)
		}
	}
	if w.accepts() == 0 {
		e.holdNs = min(e.holdNs, e.sinceNs+pressedHoldNs)
	}
	switch {
	case nowNs >= e.holdNs:
		c.stats.RepliesDropped++
		c.lose(request{node: e.rec.ToNode, session: e.rec.ToSession, seq: e.rec.ToSeq})
		w.settle(e)
	case nowNs < e.retryNs:
		c.due(w, min(e.retryNs, e.holdNs))
	default:
		c.due(w, e.holdNs)
	}
	return false
}

// scanReplies tries all unsent replies of a session.
func (c *Core) scanReplies(nowNs int64, s *Session) {
	w := &s.replies
	w.dueNs = never
	first, dropped := w.last+1, false
	seq := max(w.scanFrom, w.low)
	for left := w.waiting; left > 0 && seq <= w.last; seq++ {
		e := w.at(seq)
		if e == nil || !e.pending() {
			continue
		}
		left--
		switch sent := c.forwardReply(nowNs, s, e); {
		case sent:
		case e.state == settled:
			dropped = true
		default:
			first = min(first, seq)
		}
	}
	w.scanFrom = first
	if dropped {
		c.release(s, Replies)
	}
}

// replyAcknowledged handles TypeReplyAck: the asker's node has these replies.
func (c *Core) replyAcknowledged(p *Peer, h *wire.Header) {
	s := c.byStream[h.Attempt]
	if s == nil {
		return
	}
	for mask := h.Hash; mask != 0; mask &= mask - 1 {
		e := s.replies.at(h.Seq + uint64(bits.TrailingZeros64(mask)))
		if e != nil && e.state != settled && e.dest == p {
			s.replies.settle(e)
		}
	}
	c.release(s, Replies)
}

// replyRefused handles TypeReplyLater: the asker's in-ring is full.
func (c *Core) replyRefused(nowNs int64, p *Peer, h *wire.Header) {
	s := c.byStream[h.Attempt]
	if s == nil {
		return
	}
	e := s.replies.at(h.Seq)
	if e == nil || e.state != out || e.dest != p {
		c.stats.Stale++
		return
	}
	e.retryNs = nowNs + min(c.cfg.RetryMinNs<<min(e.attempt, 16), c.cfg.RetryMaxNs)
	e.attempt++
	if h.Flags&wire.FlagTooLarge != 0 {
		e.holdNs = nowNs // it will never be taken: dropped, and the asker hears so
	}
	s.replies.wait(e, unsent)
	if c.forwardReply(nowNs, s, e); e.state == settled {
		c.release(s, Replies)
	}
}

// reply handles TypeReply at the asker's node.
func (c *Core) reply(_ int64, p *Peer, h *wire.Header, payload []byte) {
	s := c.session(&h.Session)
	if s != nil && s.left || s == nil && c.gone.has(h.Session) {
		c.stats.RepliesStray++
		c.ackReply(p, h) // nobody will ever want it
		return
	}
	if s == nil || s.detached {
		// After a restart of this node, or when it was cut off, the asker's
		// program is about to attach again; the sender gives up by itself if not.
		c.stats.RepliesStray++
		c.answer(p, wire.Header{Type: wire.TypeReplyLater, Seq: h.Seq, Attempt: h.Attempt}, true)
		return
	}
	c.delivery = Delivery{
		Stream: Replies, From: p.id, Seq: h.Hash, Flags: h.Flags, DeadlineMs: h.DeadlineMs, Payload: payload,
	}
	_, ok := c.ports.Deliver(s, &c.delivery)
	c.delivery.Payload = nil
	if !ok {
		c.stats.RepliesRefused++
		no := wire.Header{Type: wire.TypeReplyLater, Seq: h.Seq, Attempt: h.Attempt}
		if c.delivery.TooLarge {
			no.Flags = wire.FlagTooLarge
		}
		c.answer(p, no, true)
		return
	}
	c.stats.RepliesDelivered++
	s.answered(h.Hash, p)
	c.ackReply(p, h)
}

// ackReply gathers the acknowledgement of a reply.
func (c *Core) ackReply(p *Peer, h *wire.Header) {
	if !p.answerQueued {
		p.answerQueued = true
		c.answers = append(c.answers, p)
	}
	for i := range p.replyAcks {
		if a := &p.replyAcks[i]; a.stream == h.Attempt {
			if !gather(&a.base, &a.mask, h.Seq) {
				c.answer(p, a.frame(), false)
				a.base, a.mask = h.Seq, 1
			}
			return
		}
	}
	if len(p.replyAcks) == replyAcksMax {
		c.sendReplyAcks(p)
	}
	p.replyAcks = append(p.replyAcks, replyAck{stream: h.Attempt, base: h.Seq, mask: 1})
}

func (a *replyAck) frame() wire.Header {
	return wire.Header{Type: wire.TypeReplyAck, Attempt: a.stream, Seq: a.base, Hash: a.mask}
}

// sendReplyAcks transmits what has gathered for a peer.
func (c *Core) sendReplyAcks(p *Peer) {
	for i := range p.replyAcks {
		c.answer(p, p.replyAcks[i].frame(), false)
	}
	p.replyAcks = p.replyAcks[:0]
}
