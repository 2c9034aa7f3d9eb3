package dataplane

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

var _ flow.Ports = (*ports)(nil)

// ports is the Plane as the core sees it. All methods run with mu held.
type ports Plane

func (o *ports) Transmit(peer *flow.Peer, h *wire.Header, urgent bool) {
	(*Plane)(o).traceFrame(fault.FrameSent, peer.Handle, h)
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
	var buf *[]byte // where the frame goes
	switch to := peer.Handle.(type) {
	case *link:
		if !to.hasRoom() {
			return false
		}
		buf = &to.pending
	case *tunnel:
		if !to.hasRoom() {
			return false
		}
		buf = &to.via.pending
	case *loop:
		if len(to.buf) > linkQueueBytesMax {
			to.full = true
			return false
		}
		buf = &to.buf
	default:
		return false
	}
	before := len(*buf)
	a.p.traceFrame(fault.FrameSent, peer.Handle, h)
	if err := a.transmit(peer.Handle, h, st, r); err != nil {
		*buf = (*buf)[:before] // a fault may have left half a frame
		a.lost = true
		a.corrupt(err)
		a.resume()
		return true
	}
	o.history.sent(peer.Handle, int(r.Size))
	return true
}

// transmit copies a record into the buffer of a link. An error says that the
// program has changed the record meanwhile, or that its memory is gone.
func (a *attachment) transmit(to any, h *wire.Header, st flow.Stream, r *flow.Record) (err error) {
	defer shm.Catch(shm.Arm(), &err)
	c, head := a.fromReq, wire.OutRequestBytes
	if st == flow.Replies {
		c, head = a.fromRep, wire.OutReplyBytes
	}
	rec, err := c.At(r.Position)
	if err != nil {
		return err
	}
	if len(rec) != head+int(r.Size) {
		return fmt.Errorf("%w: a record changed its length", shm.ErrCorrupt)
	}
	switch to := to.(type) {
	case *link:
		before := len(to.pending)
		to.put(h, rec[head:], true)
		to.queued += len(to.pending) - before
	case *tunnel:
		to.putMessage(h, rec[head:])
	case *loop:
		to.put(h, rec[head:])
	}
	return nil
}

func (o *ports) Deliver(s *flow.Session, d *flow.Delivery) (end uint64, ok bool) {
	a := s.Handle.(*attachment)
	if a.ended || a.dead != nil {
		return 0, false
	}
	end, ok, err := a.deliver(d)
	switch {
	case errors.Is(err, shm.ErrTooLarge): // the sender's node has larger rings: not this program's fault
		d.TooLarge = true
		if p := (*Plane)(o); p.mayLog() {
			p.note(slog.LevelWarn, "refused for good what does not fit the rings of this node (key RINGBYTES)",
				"from", d.From, "session", d.Session, "seq", d.Seq, "payload_bytes", len(d.Payload), "reply", d.Stream == flow.Replies)
		}
	case err != nil:
		a.corrupt(err)
	case ok:
		a.traceDelivered(fault.Delivered, d, end)
		a.traceInPlace(d)
		o.history.pass(true, true, len(d.Payload))
		a.wrote, o.moved = true, true
		a.touch()
	}
	return end, ok && err == nil
}

// deliver writes a message or reply into an in-ring, if there is room.
func (a *attachment) deliver(d *flow.Delivery) (end uint64, ok bool, err error) {
	defer shm.Catch(shm.Arm(), &err)
	to, head := a.toReq, wire.InRequestBytes
	if d.Stream == flow.Replies {
		to, head = a.toRep, wire.InReplyBytes
	}
	rec, ok, err := to.Reserve(head + len(d.Payload))
	if err != nil {
		return 0, false, err
	}
	if !ok {
		a.seg.WantRoom(shm.NodeSide)
		return 0, false, nil
	}
	fault.Crash(fault.NodeDeliverReserved)
	if d.Stream == flow.Replies {
		wire.PutInReply(rec, d.Seq)
	} else {
		q := wire.InRequest{Seq: d.Seq, Hash: d.Hash, From: inboundID(d.From), Session: d.Session, Flags: d.Flags, Kind: d.Kind}
		if d.DeadlineMs != 0 {
			q.DeadlineUnixMs = fault.Now().UnixMilli() + int64(d.DeadlineMs)
		}
		q.Put(rec)
	}
	copy(rec[head:], d.Payload)
	end = to.Commit()
	fault.Crash(fault.NodeDelivered)
	return end, true, nil
}

func (o *ports) Settled(s *flow.Session, st flow.Stream, end uint64) {
	a := s.Handle.(*attachment)
	fault.Crash(fault.NodeSettled)
	a.traceSettled(st, end)
	a.settled[st], a.released = end, true // publish gives the room back, after the control records
	a.touch()
	if a.stalled[st] || a.ended && !a.detached {
		a.resume()
	}
}

func (o *ports) Outcome(s *flow.Session, r *flow.Record, delivered, maybe bool) {
	a := s.Handle.(*attachment)
	c := wire.Control{Type: wire.ControlSettled, Value: r.Seq}
	if !delivered {
		a.traceGivenUp(r.Seq, maybe)
		if err := a.giveUp(r, maybe); err != nil {
			a.corrupt(err)
		}
		c.Type = wire.ControlUndelivered
		if maybe {
			c.Detail = 1
		}
	}
	a.control(c)
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
