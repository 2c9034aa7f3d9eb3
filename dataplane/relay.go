package dataplane

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

const (
	// relaysMax bounds the tunnels of others through this node. Beyond it the
	// one that was used least recently ends.
	relaysMax = 1024
	// relayBytesMax bounds the frames of others that wait in a link's send
	// buffer: several tunnels with the largest messages, or dozens full of
	// small ones. At the bound the tunnel ends: its ends send again on the next.
	relayBytesMax = 16 << 20
)

// RelayStats count what this node did with envelopes since its start.
type RelayStats struct {
	Opened   uint64 `json:"opened"`   // tunnels of this node that came up
	Accepted uint64 `json:"accepted"` // tunnels that others opened to this node
	Ended    uint64 `json:"ended"`    // of both, ended
	Passed   uint64 `json:"passed"`   // frames passed on between others
	Broken   uint64 `json:"broken"`   // envelopes of others that could not be passed on
	Refused  uint64 `json:"refused"`  // envelopes against the rules
}

// relayID names a tunnel of others: who opened it, and to which server. There
// is one at a time.
type relayID struct{ opener, target ring.ID }

// relay is a tunnel of others that goes through this node: two links, from one
// to the other and back. It ends with either.
type relay struct {
	number uint32
	in     *link // accepted from the opener
	out    *link // this node's own, to the target
	usedNs int64
}

// relayOf names the tunnel that an envelope belongs to which the node at the
// other end of l sent: who opens one has dialled, its target is dialled.
func relayOf(l *link, from, to ring.ID) relayID {
	if l.accepted {
		return relayID{opener: from, target: to}
	}
	return relayID{opener: to, target: from}
}

// far returns the link at the other side of l, nil if l is none of the two.
func (r *relay) far(l *link) *link {
	switch l {
	case r.in:
		return r.out
	case r.out:
		return r.in
	}
	return nil
}

// errEnvelope is wrapped by errors about envelopes against the rules.
var errEnvelope = errors.New("bad envelope")

// unwrap reads the header of the frame in an envelope.
func unwrap(in *wire.Header, envelope []byte) error {
	if err := in.Get(envelope); err != nil {
		return fmt.Errorf("%w: %w", errEnvelope, err)
	}
	switch {
	case in.Type == wire.TypeRelay || in.Type == wire.TypeRelayBroken:
		return fmt.Errorf("%w: an envelope within", errEnvelope)
	case int(in.Length) != len(envelope)-wire.HeaderBytes:
		return fmt.Errorf("%w: a frame of %d bytes in %d", errEnvelope, wire.HeaderBytes+int(in.Length), len(envelope))
	}
	return nil
}

// envelope acts on a TypeRelay frame: it is for this node, or to be passed on;
// mu is held.
func (p *Plane) envelope(now int64, l *link, h *wire.Header, payload []byte) {
	var in wire.Header
	from, to := ring.ID(h.Seq), ring.ID(h.Hash)
	err := unwrap(&in, payload)
	switch {
	case err != nil:
	case to == p.self && (from == p.self || from == l.id || from == 0):
		err = fmt.Errorf("%w: from %v to this node", errEnvelope, from)
	case to != p.self && from != l.id:
		err = fmt.Errorf("%w: in the name of %v", errEnvelope, from)
	case to == p.self:
		p.arrived(now, l, from, h.Attempt, &in, payload[wire.HeaderBytes:])
		return
	default:
		p.passOn(now, l, relayOf(l, from, to), h, &in, payload)
		return
	}
	p.foul(l, err)
	if from != l.id || to == p.self {
		return
	}
	id := relayOf(l, from, to)
	if r := p.relays[id]; r != nil && r.number == h.Attempt && r.far(l) != nil {
		p.breakRelay(id, r)
	}
}

// foul counts, and logs now and then, what a peer did against the rules; mu is held.
func (p *Plane) foul(l *link, err error) {
	p.relayStats.Refused++
	if p.mayLog() {
		p.note(slog.LevelWarn, "ignored a relayed frame", "from", l.name, "error", err)
	}
}

// passOn copies an envelope from the link it came on to that of its receiver;
// mu is held. Where that cannot be, its sender hears so: what was sent before
// and after must not arrive without it.
func (p *Plane) passOn(now int64, l *link, id relayID, h, in *wire.Header, payload []byte) {
	r := p.relays[id]
	if l.accepted && in.Type == wire.TypeHello && (r == nil || r.number != h.Attempt || r.in != l) {
		r = p.openRelay(now, l, id, h.Attempt)
	}
	var to *link
	if r != nil && r.number == h.Attempt {
		to = r.far(l)
	}
	switch {
	case to == nil: // ended before
		p.relayStats.Broken++
		breakTo(l, ring.ID(h.Seq), ring.ID(h.Hash), h.Attempt)
		return
	case to.dead != nil || to.relayed > relayBytesMax:
		p.relayStats.Broken++
		p.breakRelay(id, r)
		return
	}
	r.usedNs = now
	p.relayStats.Passed++
	before := len(to.pending)
	to.put(h, payload, true)
	to.relayed += len(to.pending) - before
}

// openRelay begins a tunnel of others; nil if this node has no link to the
// target. mu is held. An earlier one of the two ends without a word: its opener
// has given it up, and its target sees the new one come.
func (p *Plane) openRelay(now int64, in *link, id relayID, number uint32) *relay {
	delete(p.relays, id)
	d := p.dialers[id.target]
	if d == nil || d.link == nil || p.cfg.Slave {
		return nil
	}
	if len(p.relays) >= relaysMax {
		p.evictRelay()
	}
	r := &relay{number: number, in: in, out: d.link, usedNs: now}
	p.relays[id] = r
	return r
}

// evictRelay ends the tunnel of others that was used least recently; mu is held.
func (p *Plane) evictRelay() {
	var oldest relayID
	var found *relay
	for id, r := range p.relays {
		if found == nil || r.usedNs < found.usedNs {
			oldest, found = id, r
		}
	}
	p.breakRelay(oldest, found)
}

// breakRelay ends a tunnel of others and tells both ends; mu is held.
func (p *Plane) breakRelay(id relayID, r *relay) {
	delete(p.relays, id)
	breakTo(r.in, id.opener, id.target, r.number)
	breakTo(r.out, id.target, id.opener, r.number)
}

// breakTo says that the tunnel between from and to has ended. Both ends and the
// node between use it; the ids are as in the envelopes that are answered, or
// given up. p.mu is held.
func breakTo(l *link, from, to ring.ID, number uint32) {
	l.put(&wire.Header{Type: wire.TypeRelayBroken, Seq: uint64(from), Hash: uint64(to), Attempt: number}, nil, true)
}

// broken acts on a TypeRelayBroken frame: a tunnel of this node has ended, or
// an end of one through this node has given it up; mu is held.
func (p *Plane) broken(l *link, h *wire.Header) {
	from, to := ring.ID(h.Seq), ring.ID(h.Hash)
	switch from {
	case p.self:
		if t := p.tunnelAt(l, to, h.Attempt); t != nil {
			t.end(errBroken)
		}
	case l.id:
		id := relayOf(l, from, to)
		if r := p.relays[id]; r != nil && r.number == h.Attempt {
			if far := r.far(l); far != nil {
				delete(p.relays, id)
				breakTo(far, to, from, h.Attempt)
			}
		}
	default:
		p.foul(l, fmt.Errorf("%w: broken, in the name of %v", errEnvelope, from))
	}
}

// linkGone ends all tunnels over a link, those of this node and those of
// others; mu is held.
func (p *Plane) linkGone(l *link) {
	for id, r := range p.relays {
		if r.far(l) != nil {
			p.breakRelay(id, r)
		}
	}
	p.eachTunnel(func(t *tunnel) {
		if t.via == l {
			t.end(errRelayGone)
		}
	})
}
