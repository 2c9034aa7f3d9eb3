package flow

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// rig is a core whose ports write down what they are asked, one line each.
// Servers have the ids 100, 101 ...; slot i of 4 belongs to server i mod n
// unless a test says otherwise; their incarnations are 1, 2 ...
type rig struct {
	t      *testing.T
	c      *Core
	log    []string
	noLink map[*Peer]bool    // links without room
	noRoom map[*Session]bool // in-rings without room
	small  map[*Session]bool // in-rings that are too small for what is sent
	end    uint64
	now    int64
	epoch  uint64
	owners [4]int
	incs   []ring.Incarnation // 0 = DOWN
	held   bool               // who is DOWN restarts and is waited for
	width  int                // owners of a slot: its own, and those behind it, all in sync
}

const ms = int64(1e6)

// newRig returns a core with the given id in a ring of three servers.
func newRig(t *testing.T, self ring.ID) *rig {
	r := &rig{t: t, noLink: map[*Peer]bool{}, noRoom: map[*Session]bool{}, owners: [4]int{0, 1, 2, 0}, incs: []ring.Incarnation{1, 2, 3}}
	r.c = New(Config{Self: self, Slave: self < 100}, r)
	r.view()
	return r
}

// table returns the next table of the ring.
func (r *rig) table() *ring.Table {
	r.epoch++
	t := ring.Table{Epoch: ring.Epoch{Era: 1, Index: r.epoch}, Base: ring.NewAssignment(len(r.owners), max(r.width, 1))}
	for i, inc := range r.incs {
		s := ring.Server{ID: ring.ID(100 + i), Number: uint16(i), Status: ring.ServiceIn, Incarnation: inc, Held: r.held && inc == 0}
		if inc != 0 {
			s.Status |= ring.Up
		}
		t.Servers = append(t.Servers, s)
	}
	for slot, n := range r.owners {
		for k := range t.Base.Width {
			t.Base.Owners[slot*t.Base.Width+k] = uint16((n + k) % len(r.incs))
			t.Base.InSync[slot] |= 1 << k
		}
	}
	table, err := ring.NewTable(t)
	if err != nil {
		r.t.Fatal(err)
	}
	return table
}

// view installs the next table, sealing the given slots.
func (r *rig) view(sealed ...int) {
	r.t.Helper()
	var self ring.Incarnation
	if i := int(r.c.cfg.Self) - 100; i >= 0 && i < len(r.incs) {
		self = r.incs[i]
	}
	var seal *ring.SlotSet
	for _, slot := range sealed {
		if seal == nil {
			seal = ring.NewSlotSet(len(r.owners))
		}
		seal.Add(slot)
	}
	r.c.SetView(r.now, r.table(), self, seal)
}

// up establishes a link; servers by number name their present incarnation.
func (r *rig) up(id ring.ID) *Peer {
	p := r.c.Peer(id)
	inc := ring.Incarnation(0)
	if i := int(id) - 100; i >= 0 && i < len(r.incs) {
		inc = r.incs[i]
	}
	r.c.PeerUp(r.now, p, inc)
	return p
}

func (r *rig) attach(n byte, server bool) *Session {
	return r.c.Attach(r.now, wire.SessionID{n}, server)
}

// send submits a message; its cursors are its sequence.
func (r *rig) send(s *Session, seq, hash uint64, flags ...wire.Flags) {
	r.t.Helper()
	rec := Record{Seq: seq, Position: seq - 1, End: seq, Hash: hash}
	for _, f := range flags {
		rec.Flags |= f
	}
	if err := r.c.Submit(r.now, s, Requests, &rec); err != nil {
		r.t.Fatalf("Submit %d: %v", seq, err)
	}
}

// gets hands a frame from p to the core and ends the batch.
func (r *rig) gets(p *Peer, h wire.Header) {
	if h.Session == (wire.SessionID{}) {
		h.Session = wire.SessionID{1}
	}
	r.c.Frame(r.now, p, &h, []byte("x"))
	r.c.Flush()
}

// message is a frame of session 1 as the present table's sender would send it.
func (r *rig) message(seq, hash uint64, low, pred uint64) wire.Header {
	h := wire.Header{
		Type: wire.TypeMessage, Seq: seq, Hash: hash, Epoch: ring.Epoch{Era: 1, Index: r.epoch}, Attempt: 1, LowDelta: uint16(seq - low),
	}
	if pred != 0 {
		h.PredDelta = uint16(seq - pred)
	}
	return h
}

func ack(base, mask uint64) wire.Header {
	return wire.Header{Type: wire.TypeAck, Seq: base, Hash: mask}
}

func later(seq uint64, attempt uint32) wire.Header {
	return wire.Header{Type: wire.TypeLater, Seq: seq, Attempt: attempt}
}

func moved(seq uint64, attempt uint32, epoch uint64) wire.Header {
	return wire.Header{Type: wire.TypeMoved, Seq: seq, Attempt: attempt, Epoch: ring.Epoch{Era: 1, Index: epoch}}
}

// pass lets time go by, with a Tick at the end.
func (r *rig) pass(ns int64) {
	r.now += ns
	r.c.Tick(r.now)
	r.c.Flush()
}

// expect compares what the core has done since the last call.
func (r *rig) expect(what string, want ...string) {
	r.t.Helper()
	if !slices.Equal(r.log, want) {
		r.t.Errorf("%s: got\n\t%s\nwant\n\t%s", what, strings.Join(r.log, "\n\t"), strings.Join(want, "\n\t"))
	}
	r.log = nil
}

func (r *rig) notef(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

func markOf(f wire.Flags) string {
	if f&wire.FlagTooLarge != 0 {
		return markOf(f&^wire.FlagTooLarge) + " too large"
	}
	if f&wire.FlagStandIn != 0 {
		return markOf(f&^wire.FlagStandIn) + " stand-in"
	}
	if f&wire.FlagMaybeRepeat != 0 {
		return " maybe-repeat"
	}
	return ""
}

func (r *rig) Transmit(p *Peer, h *wire.Header, _ bool) {
	switch h.Type {
	case wire.TypeAck:
		r.notef("ACK %d mask %x to %d", h.Seq, h.Hash, p.ID())
	case wire.TypeReplyAck:
		r.notef("REPLYACK stream %d %d mask %x to %d", h.Attempt, h.Seq, h.Hash, p.ID())
	case wire.TypeMoved:
		r.notef("MOVED %d attempt %d epoch %d to %d%s", h.Seq, h.Attempt, h.Epoch.Index, p.ID(), markOf(h.Flags))
	case wire.TypeRequestLost:
		r.notef("LOST %d to %d", h.Seq, p.ID())
	case wire.TypeRoom, wire.TypeBye:
		r.notef("%s to %d", typeName(h.Type), p.ID())
	default:
		r.notef("%s %d attempt %d to %d%s", typeName(h.Type), h.Seq, h.Attempt, p.ID(), markOf(h.Flags))
	}
}

func (r *rig) TransmitRecord(p *Peer, h *wire.Header, _ *Session, st Stream, _ *Record) bool {
	if r.noLink[p] {
		return false
	}
	if st == Replies {
		r.notef("REPLY %d stream %d to request %d at %d", h.Seq, h.Attempt, h.Hash, p.ID())
		return true
	}
	r.notef("MSG %d attempt %d low %d pred %d to %d%s", h.Seq, h.Attempt, h.Low(), h.Pred(), p.ID(), markOf(h.Flags))
	return true
}

func (r *rig) Deliver(s *Session, d *Delivery) (uint64, bool) {
	if d.TooLarge = r.small[s]; d.TooLarge || r.noRoom[s] {
		return 0, false
	}
	r.end++
	r.notef("session %d is given %d%s", s.ID()[0], d.Seq, markOf(d.Flags))
	return r.end, true
}

func (r *rig) Settled(_ *Session, st Stream, end uint64) {
	r.notef("%s settled up to %d", [...]string{"messages", "replies"}[st], end)
}
func (r *rig) Outcome(_ *Session, rec *Record, delivered, maybe bool) {
	r.notef("message %d delivered %v maybe %v", rec.Seq, delivered, maybe)
}
func (r *rig) Receivers(_ *Session, seq uint64, n int) { r.notef("message %d goes to %d", seq, n) }
func (r *rig) RequestFailed(_ *Session, seq uint64)    { r.notef("request %d failed", seq) }
func (r *rig) StandIn(p *Peer, inc ring.Incarnation) {
	r.notef("note that it stands in for %d, incarnation %d", p.ID(), inc)
}
func (r *rig) AskStandIn(d, p *Peer)   { r.notef("ask %d to stand in for %d", d.ID(), p.ID()) }
func (r *rig) StandInEnded(p *Peer)    { r.notef("no longer in the place of %d", p.ID()) }
func (r *rig) PullTable(p *Peer)       { r.notef("pull the table of %d", p.ID()) }
func (r *rig) SessionEnded(s *Session) { r.notef("session %d ended", s.ID()[0]) }
