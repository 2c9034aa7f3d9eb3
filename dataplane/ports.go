package dataplane

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

var _ flow.Ports = (*ports)(nil)

// ports is the Plane as the core sees it. All methods run with mu held.
type ports Plane

func (o *ports) Transmit(peer *flow.Peer, h *wire.Header, urgent bool) {
	switch to := peer.Handle.(type) {
	case *link:
		to.put(h, nil, urgent)
	case *tunnel:
		to.put(h, nil, urgent)
	case *loop:
		to.put(h, nil)
	}
}

func (o *ports) TransmitRecord(peer *flow.Peer, h *wire.Header, s *flow.Session, st flow.Stream, r *flow.Record) bool {
	a := s.Handle.(*attachment)
	switch to := peer.Handle.(type) {
	case *link:
		if !to.hasRoom() {
			return false
		}
		before := len(to.pending)
		if body, ok := a.payload(st, r); ok {
			to.put(h, body, true)
		}
		to.queued += len(to.pending) - before
		return true
	case *tunnel:
		if !to.hasRoom() {
			return false
		}
		if body, ok := a.payload(st, r); ok {
			to.putMessage(h, body)
		}
		return true
	case *loop:
		if len(to.buf) > linkQueueBytesMax {
			to.full = true
			return false
		}
		if body, ok := a.payload(st, r); ok {
			to.put(h, body)
		}
		return true
	}
	return false
}

// payload reads a record again; a program that changed it meanwhile is detached.
func (a *attachment) payload(st flow.Stream, r *flow.Record) ([]byte, bool) {
	c, head := a.fromReq, wire.OutRequestBytes
	if st == flow.Replies {
		c, head = a.fromRep, wire.OutReplyBytes
	}
	rec, err := c.At(r.Position)
	if err == nil && len(rec) != head+int(r.Size) {
		err = fmt.Errorf("%w: a record changed its length", shm.ErrCorrupt)
	}
	if err != nil {
		a.lost = true
		a.corrupt(err)
		a.resume()
		return nil, false
	}
	return rec[head:], true
}

func (o *ports) Deliver(s *flow.Session, d *flow.Delivery) (end uint64, ok bool) {
	a := s.Handle.(*attachment)
	if a.ended || a.dead != nil {
		return 0, false
	}
	from := inboundID(d.From)
	var deadline int64
	if d.DeadlineMs != 0 {
		deadline = time.Now().UnixMilli() + int64(d.DeadlineMs)
	}
	to, head := a.toReq, wire.InRequestBytes
	if d.Stream == flow.Replies {
		to, head = a.toRep, wire.InReplyBytes
	}
	rec, ok, err := to.Reserve(head + len(d.Payload))
	if errors.Is(err, shm.ErrTooLarge) { // the sender's node has larger rings: not this program's fault
		if p := (*Plane)(o); p.mayLog() {
			p.note(slog.LevelWarn, "a message does not fit the rings of this node (key RINGBYTES) and waits at its sender",
				"from", d.From, "session", d.Session, "seq", d.Seq, "payload_bytes", len(d.Payload))
		}
		return 0, false
	}
	if err != nil {
		a.corrupt(err)
		return 0, false
	}
	if !ok {
		a.seg.WantRoom(shm.NodeSide)
		return 0, false
	}
	if d.Stream == flow.Replies {
		wire.PutInReply(rec, d.Seq)
	} else {
		(&wire.InRequest{Seq: d.Seq, Hash: d.Hash, From: from, Session: d.Session, DeadlineUnixMs: deadline, Flags: d.Flags, Kind: d.Kind}).Put(rec)
	}
	copy(rec[head:], d.Payload)
	a.wrote, o.moved = true, true
	a.touch()
	return to.Commit(), true
}

func (o *ports) Settled(s *flow.Session, st flow.Stream, end uint64) {
	a := s.Handle.(*attachment)
	a.settled[st], a.released = end, true // publish gives the room back, after the control records
	a.touch()
	if a.stalled[st] || a.ended && !a.detached {
		a.resume()
	}
}

func (o *ports) Outcome(s *flow.Session, seq uint64, delivered, maybe bool) {
	c := wire.Control{Type: wire.ControlSettled, Value: seq}
	if !delivered {
		c.Type = wire.ControlUndelivered
		if maybe {
			c.Detail = 1
		}
	}
	s.Handle.(*attachment).control(c)
}

func (o *ports) Receivers(s *flow.Session, seq uint64, n int) {
	s.Handle.(*attachment).control(wire.Control{Type: wire.ControlReceivers, Detail: uint32(n), Value: seq})
}

func (o *ports) RequestFailed(s *flow.Session, seq uint64) {
	s.Handle.(*attachment).control(wire.Control{Type: wire.ControlRequestFailed, Value: seq})
}

func (o *ports) PullTable(peer *flow.Peer) {
	if c, ok := peer.Handle.(carrier); ok {
		c.pull((*Plane)(o).nowNs())
	}
}

func (o *ports) SessionEnded(s *flow.Session) {
	a, ok := s.Handle.(*attachment)
	if !ok { // another session has taken its place
		return
	}
	if a.p.attached[a.id] == a {
		delete(a.p.attached, a.id)
	}
	a.free()
}
