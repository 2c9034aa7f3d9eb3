package dataplane

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Here is what the data plane tells the trace of package fault. In builds
// without faults nothing of it is left. mu is held.

// traced is what the trace needs to know of an attachment's records.
type traced struct {
	number    uint32           // of the attachment
	delivered []tracedRecord   // in the request in-ring, untaken, oldest first
	submitted [2][]tracedSends // per stream: in the out-ring, unsettled, oldest first
}

type tracedRecord struct {
	end   uint64 // cursor behind it
	event fault.Event
}

type tracedSends struct{ end, seq uint64 }

// trace adds an event under this node's incarnation and, unless it has one, epoch.
func (p *Plane) trace(e fault.Event) {
	if fault.Enabled {
		e.Incarnation = uint64(p.incarnation)
		if e.Era == 0 && e.Index == 0 {
			epoch := p.epoch()
			e.Era, e.Index = epoch.Era, epoch.Index
		}
		fault.Trace(&e)
	}
}

// traceFrame tells of a frame to or from a carrier.
func (p *Plane) traceFrame(what fault.What, carrier any, h *wire.Header) {
	if fault.Enabled {
		e := fault.Event{
			What: what, Type: uint8(h.Type), Kind: uint8(h.Kind), Flags: uint16(h.Flags), Session: h.Session, Seq: h.Seq, Hash: h.Hash,
			Attempt: h.Attempt, Era: h.Epoch.Era, Index: h.Epoch.Index, LowDelta: h.LowDelta, PredDelta: h.PredDelta,
		}
		switch to := carrier.(type) {
		case *link:
			e.Peer = uint64(to.id)
		case *tunnel:
			e.Peer = uint64(to.id)
		case *loop:
			e.Peer = uint64(p.self)
		default: // there is no way, so nothing is sent
			return
		}
		p.trace(e)
	}
}

// traceDelivered tells of a record in an in-ring that ends at a cursor.
func (a *attachment) traceDelivered(what fault.What, d *flow.Delivery, end uint64) {
	if fault.Enabled {
		e := fault.Event{
			What: what, Type: uint8(wire.TypeMessage), Kind: uint8(d.Kind), Flags: uint16(d.Flags), Peer: uint64(inboundID(d.From)),
			Session: d.Session, Seq: d.Seq, Hash: d.Hash, Attempt: a.traced.number,
		}
		if d.Stream == flow.Replies {
			e.Type, e.Peer, e.Session = uint8(wire.TypeReply), 0, a.id
		} else if what != fault.Struck {
			a.traced.delivered = append(a.traced.delivered, tracedRecord{end, e})
		}
		a.p.trace(e)
	}
}

// traceInPlace tells of a message that was delivered and is another server's.
func (a *attachment) traceInPlace(d *flow.Delivery) {
	if t := a.p.view.Table; fault.Enabled && d.Stream == flow.Requests && d.Kind == wire.KindHash && t != nil {
		if i := t.Acting(d.Hash); i >= 0 && t.Servers[i].ID != a.p.self {
			a.p.trace(fault.Event{What: fault.InPlace, Type: uint8(wire.TypeMessage), Kind: uint8(d.Kind), Flags: uint16(d.Flags), Peer: uint64(t.Servers[i].ID),
				Session: d.Session, Seq: d.Seq, Hash: d.Hash, Attempt: a.traced.number})
		}
	}
}

// traceHandedBack tells what becomes of the untaken records of a segment that is handed back.
func (a *attachment) traceHandedBack(untaken []flow.Handed, keep []bool) {
	if fault.Enabled {
		for i, r := range untaken {
			what := fault.Struck
			if keep[i] {
				what = fault.Restored
			}
			a.traceDelivered(what, &flow.Delivery{From: r.From, Session: r.Session, Seq: r.Seq, Hash: r.Hash, Kind: r.Kind, Flags: r.Flags}, r.End)
		}
	}
}

// traceTaken tells of the records that the head has passed.
func (a *attachment) traceTaken(head uint64) {
	if fault.Enabled {
		for t := &a.traced; len(t.delivered) > 0 && int64(head-t.delivered[0].end) >= 0; t.delivered = t.delivered[1:] {
			a.traceAgain(fault.Taken, t.delivered[0].event)
		}
	}
}

// traceWithdrawn tells of the records that a program has not taken.
func (a *attachment) traceWithdrawn() {
	if fault.Enabled {
		for _, r := range a.traced.delivered {
			a.traceAgain(fault.Withdrawn, r.event)
		}
		a.traced.delivered = nil
	}
}

// traceAgain tells of a record that was told about before.
func (a *attachment) traceAgain(what fault.What, e fault.Event) {
	e.What, e.AtNs, e.Era, e.Index = what, 0, 0, 0
	a.p.trace(e)
}

// traceSubmitted notes where a record of an out-ring ends.
func (a *attachment) traceSubmitted(st flow.Stream, seq, end uint64) {
	if fault.Enabled {
		a.traced.submitted[st] = append(a.traced.submitted[st], tracedSends{end, seq})
	}
}

// traceSettled tells up to which sequence the room of an out-ring is given back.
func (a *attachment) traceSettled(st flow.Stream, end uint64) {
	if fault.Enabled {
		e := fault.Event{What: fault.Settled, Session: a.id, Kind: uint8(st)}
		s := &a.traced.submitted[st]
		for ; len(*s) > 0 && int64(end-(*s)[0].end) >= 0; *s = (*s)[1:] {
			e.Seq = (*s)[0].seq
		}
		a.p.trace(e)
	}
}

// traceGivenUp tells that a message was given up.
func (a *attachment) traceGivenUp(seq uint64, maybe bool) {
	if fault.Enabled {
		e := fault.Event{What: fault.GivenUp, Session: a.id, Seq: seq}
		if maybe {
			e.Flags = uint16(wire.FlagMaybeRepeat)
		}
		a.p.trace(e)
	}
}

// traceAttached tells that a program has come or gone.
func (a *attachment) traceAttached(what fault.What) {
	if fault.Enabled {
		if what == fault.Attached {
			a.p.attachments++
			a.traced.number = a.p.attachments
		}
		e := fault.Event{What: what, Session: a.id, Attempt: a.traced.number}
		for i, is := range []bool{a.server, a.handed != nil, a.onDone} {
			if is {
				e.Flags |= 1 << i
			}
		}
		a.p.trace(e)
	}
}

// traceTable tells that another table is about to count.
func (p *Plane) traceTable(t *ring.Table) {
	if fault.Enabled && t != nil {
		e := fault.Event{What: fault.TableInstalled, Seq: t.Version, Hash: t.RingID, Era: t.Epoch.Era, Index: t.Epoch.Index}
		e.Flags, e.Attempt = p.traceOwned(t)
		p.trace(e)
	}
}

// traceOwned returns what a table says about this node, and a checksum of who owns what.
func (p *Plane) traceOwned(t *ring.Table) (flags uint16, sum uint32) {
	const lacks, nothing = 1, 2 // as fault.TableInstalled says
	flags = nothing
	i := t.Index(p.self)
	if t.Base == nil || i < 0 {
		return flags, 0
	}
	var owners []byte
	for slot := range t.Base.Slots() {
		for k, n := range t.Base.Of(slot) {
			owners = binary.LittleEndian.AppendUint16(owners, n)
			if n == t.Servers[i].Number {
				flags &^= nothing
				if t.Base.InSync[slot]&(1<<k) == 0 {
					flags |= lacks
				}
			}
		}
	}
	return flags, crc32.ChecksumIEEE(owners)
}
