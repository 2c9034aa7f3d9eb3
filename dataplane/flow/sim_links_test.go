package flow

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// simLink is one connection at a time from node a to server b. As in the data
// plane each side is a peer of its own: messages go out on a's, what answers
// them comes back on it.
type simLink struct {
	w    *sim
	a, b simEnd
	via  *simNode // relays this link, nil: it is direct
	cut_ bool     // broken: takes no more frames, both sides have yet to notice
}

type sideState uint8

const (
	sideClosed  sideState = iota
	sideOpening           // its hello has not arrived
	sideUp
)

// simEnd is one side of a link; queue holds what travels to it.
type simEnd struct {
	link  *simLink
	node  *simNode
	far   *simEnd
	peer  ring.ID // what node calls the other side
	state sideState
	queue []simFrame
	mid   []simFrame    // at the node that relays, on their way to queue
	full  bool          // the core was told that there is no room towards far
	old   []wire.Header // refusals that arrived over the present link
}

type frameKind uint8

const (
	frameData frameKind = iota
	frameHello
	frameEnd // the connection is gone
	frameTableRequest
	frameTable
	frameAsk   // to stand in for h.Hash
	frameAgree // it does
)

type simFrame struct {
	kind frameKind
	h    wire.Header
	msg  *simMsg
	inc  ring.Incarnation
	view int
}

func (l *simLink) loop() bool { return l.a.node == l.b.node }
func (l *simLink) idle() bool {
	return l.a.state == sideClosed && l.b.state == sideClosed && len(l.a.queue)+len(l.b.queue)+len(l.a.mid)+len(l.b.mid) == 0
}

// relay chooses a third server to go through, sometimes.
func (l *simLink) relay() {
	w := l.w
	l.via = nil
	if v := w.servers[w.one(len(w.servers))]; w.opt.cuts && !w.calm && v.alive && v != l.a.node && v != l.b.node && w.chance(.6) && !w.apart(v, l.a.node) {
		l.via = v
	}
}

// connect opens the link; both sides learn it when the other's hello arrives.
func (l *simLink) connect() {
	l.cut_ = false
	l.relay()
	for _, e := range []*simEnd{&l.a, &l.b} {
		e.state, e.full = sideOpening, false
		hello := simFrame{kind: frameHello, view: e.far.node.table}
		if e == &l.a {
			hello.inc = e.far.node.inc
		}
		e.push(hello)
	}
	l.w.logf("%v connects to %v via %v, incarnation %d", l.a.node, l.b.node, l.via, l.b.node.inc)
}

// push puts a frame on its way to this side.
func (e *simEnd) push(f simFrame) {
	if e.link.via != nil {
		e.mid = append(e.mid, f)
	} else {
		e.queue = append(e.queue, f)
	}
}

// pass moves frames on that the relaying node holds.
func (e *simEnd) pass(n int) {
	n = min(n, len(e.mid))
	e.queue, e.mid = append(e.queue, e.mid[:n]...), e.mid[n:]
}

// waiting is how much is on its way to this side.
func (e *simEnd) waiting() int { return len(e.queue) + len(e.mid) }

// cut breaks the link: some of what is in flight still arrives, the rest is lost.
func (l *simLink) cut() {
	if l.loop() || l.cut_ {
		return
	}
	l.cut_ = true
	l.w.logf("link %v-%v is cut", l.a.node, l.b.node)
	for _, e := range []*simEnd{&l.a, &l.b} {
		if e.state != sideClosed {
			e.queue = append(slices.Clip(e.queue[:l.w.one(len(e.queue)+1)]), simFrame{kind: frameEnd})
		}
		e.mid = nil
	}
	for _, o := range l.w.links {
		if o.via != nil && (o.via == l.a.node || o.via == l.b.node) && l.w.chance(.5) {
			o.cut()
		}
	}
}

// nodeGone is the end of a process at one side.
func (l *simLink) nodeGone(n *simNode) {
	l.cut()
	for _, e := range []*simEnd{&l.a, &l.b} {
		if e.node == n {
			e.state, e.queue, e.mid = sideClosed, nil, nil
		}
	}
}

// step delivers the next frame to a side.
func (e *simEnd) step() {
	n, f := e.node, e.queue[0]
	if n.w.opt.blocks && f.kind == frameData && n.anyFull() {
		return
	}
	e.queue = e.queue[1:]
	if e.far.full && e.far.state == sideUp && e.waiting() < n.w.linkCap {
		e.far.full = false
		e.far.node.core.PeerRoom(n.w.now, e.far.node.core.Peer(e.far.peer))
	}
	p := n.core.Peer(e.peer)
	switch f.kind {
	case frameHello:
		e.state, e.old = sideUp, nil
		n.w.opt.beforeUp(n, p, &f)
		n.core.PeerUp(n.w.now, p, f.inc)
		if f.view > n.table {
			e.send(simFrame{kind: frameTableRequest})
		}
	case frameEnd:
		if e.state == sideUp {
			n.core.PeerDown(p)
		}
		e.state = sideClosed
	case frameTableRequest:
		e.send(simFrame{kind: frameTable, view: n.table})
	case frameTable:
		if f.view > n.table {
			n.table = f.view
			n.setView()
		}
	case frameAsk:
		if n.core.StandInAsked(n.w.now, ring.ID(f.h.Hash), f.h.Epoch) {
			e.send(simFrame{kind: frameAgree, h: f.h})
		}
	case frameAgree:
		n.w.logf("%v stands in for %d, hears %v", e.far.node, f.h.Hash, n)
		n.core.StandInAgreed(n.w.now, p, ring.ID(f.h.Hash), f.h.Epoch)
	case frameData:
		n.w.logf("%v gets %s %v from %v: att %d low -%d pred -%d epoch %d base %d mask %x", n, typeName(f.h.Type), f.msg, e.far.node,
			f.h.Attempt, f.h.LowDelta, f.h.PredDelta, f.h.Epoch.Index, f.h.Seq, f.h.Hash)
		var payload []byte
		if f.msg != nil {
			payload = f.msg.payload()
		}
		if n.w.opt.frame(e, p, &f.h) {
			n.core.Frame(n.w.now, p, &f.h, payload)
		}
		e.replay(p, &f.h)
	}
}

// replay lets earlier refusals of the present link come a second time.
func (e *simEnd) replay(p *Peer, h *wire.Header) {
	n := e.node
	if !n.w.opt.replays {
		return
	}
	if h.Type == wire.TypeLater || h.Type == wire.TypeMoved {
		e.old = append(e.old, *h)
	}
	if len(e.old) > 0 && n.w.chance(.3) {
		again := e.old[n.w.one(len(e.old))]
		n.w.logf("%v gets an old %s of %d again, att %d", n, typeName(again.Type), again.Seq, again.Attempt)
		if n.w.opt.frame(e, p, &again) {
			n.core.Frame(n.w.now, p, &again, nil)
		}
	}
}

// send queues a frame towards the other side; on a broken link it is lost.
func (e *simEnd) send(f simFrame) {
	if e.state == sideUp && !e.link.cut_ {
		e.far.push(f)
	}
}

// anyFull reports whether a program's in-ring is full.
func (n *simNode) anyFull() bool {
	return slices.ContainsFunc(n.atts, func(a *simAtt) bool { return !a.gone && len(a.in) >= a.inCap })
}

// simPorts is a node as its core sees it.
type simPorts simNode

func (o *simPorts) Transmit(p *Peer, h *wire.Header, _ bool) {
	e := p.Handle.(*simEnd)
	if e.state != sideUp {
		o.w.fail("%v transmits type %d on a link that is down", (*simNode)(o), h.Type)
	}
	e.send(simFrame{h: *h})
}

func (o *simPorts) TransmitRecord(p *Peer, h *wire.Header, s *Session, st Stream, r *Record) bool {
	w, a, e := o.w, s.Handle.(*simAtt), p.Handle.(*simEnd)
	if e.state != sideUp {
		w.fail("%v transmits a record on a link that is down", (*simNode)(o))
	}
	if e.far.waiting() >= w.linkCap && (!w.calm || w.stuck) {
		e.full = true
		return false
	}
	i := slices.IndexFunc(a.out[st], func(x simRec) bool { return x.rec.End == r.End })
	if !a.live || i < 0 || a.out[st][i].rec.Seq != r.Seq {
		w.fail("%v transmits record %d of %v, which was released", (*simNode)(o), r.Seq, a.prog)
		return true
	}
	if h.Type == wire.TypeMessage && h.LowDelta >= Window {
		w.fail("%v transmits %d with low delta %d", (*simNode)(o), h.Seq, h.LowDelta)
	}
	e.send(simFrame{h: *h, msg: a.out[st][i].org})
	return true
}

func (o *simPorts) Deliver(s *Session, d *Delivery) (uint64, bool) {
	w, a, n := o.w, s.Handle.(*simAtt), (*simNode)(o)
	if !a.live || a.gone {
		return 0, false
	}
	if d.Stream == Replies {
		if !w.calm && w.chance(.1) {
			return 0, false
		}
		w.judge.replied(a, d)
		return 0, true
	}
	if len(a.in) >= a.inCap {
		return 0, false
	}
	m := w.judge.find(d.Payload)
	if d.Flags&^travelling != 0 {
		w.fail("PROTOCOL: %v was given %v with flags %x", a.prog, m, d.Flags)
	}
	if m.seq != d.Seq || m.hash != d.Hash || m.kind != d.Kind || m.prog.id != d.Session {
		w.fail("%v was given the payload of %v as %d/h%d", a.prog, m, d.Seq, d.Hash)
	}
	w.logf("%v on %v is given %v", a.prog, n, m)
	if w.opt.noStandInMark && w.views[n.table].table.Acting(d.Hash) != n.idx {
		d.Flags &^= wire.FlagMaybeRepeat
	}
	a.inEnd++
	a.in = append(a.in, simIn{msg: m, d: *d, inc: n.inc, view: n.table, end: a.inEnd})
	w.opt.delivered(n, d)
	return a.inEnd, true
}

func (o *simPorts) Settled(s *Session, st Stream, end uint64) {
	a := s.Handle.(*simAtt)
	if !a.live {
		o.w.fail("Settled for a segment that is gone")
	}
	if end > a.end[st] || len(a.out[st]) == 0 || end < a.out[st][0].rec.End {
		o.w.fail("%v: Settled goes from %v back to %d", a.prog, a.out[st], end)
		return
	}
	for len(a.out[st]) > 0 && a.out[st][0].rec.End <= end {
		if st == Requests {
			o.w.judge.settled(a.out[st][0].org)
		}
		a.out[st] = a.out[st][1:]
		if p := a.prog; p.att == a || p.att == nil { // else the library has copied it already
			a.submitted[st]--
			if st == Requests {
				p.out = p.out[1:]
			} else {
				p.rep = p.rep[1:]
			}
		}
	}
}

func (o *simPorts) Outcome(s *Session, r *Record, delivered, maybe bool) {
	a := s.Handle.(*simAtt)
	if !delivered && !o.w.opt.noGivenUp {
		a.prog.giveUp(r.Seq, maybe)
	}
	if o.w.opt.outcome(&maybe) {
		o.w.judge.outcome(a, a.message(r.Seq), delivered, maybe)
	}
}

func (o *simPorts) Receivers(s *Session, seq uint64, n int) {
	o.w.judge.chosen((*simNode)(o), s.Handle.(*simAtt).message(seq), n)
}

func (o *simPorts) RequestFailed(s *Session, seq uint64) {
	a := s.Handle.(*simAtt)
	ask := a.prog.asked[seq]
	if ask == nil {
		o.w.fail("RequestFailed for %v:%d, which asked nothing", a.prog, seq)
		return
	}
	o.w.logf("%v:%d will not be answered", a.prog, seq)
	o.w.judge.failed(a, seq, ask)
}

func (o *simPorts) PullTable(p *Peer) {
	e := p.Handle.(*simEnd)
	e.send(simFrame{kind: frameTableRequest})
}

func (o *simPorts) SessionEnded(s *Session) {
	a := s.Handle.(*simAtt)
	if !a.live {
		o.w.fail("SessionEnded twice for %v", a.prog)
	}
	o.w.logf("session of %v ended", a.prog)
	a.live = false
	n := (*simNode)(o)
	n.atts = slices.DeleteFunc(n.atts, func(x *simAtt) bool { return x == a })
}

func typeName(t wire.Type) string {
	if t == wire.TypeRequestLost {
		return "LOST"
	}
	return [...]string{"", "MSG", "ACK", "LATER", "MOVED", "ROOM", "BYE", "REPLY", "REPLYACK", "REPLYLATER"}[t]
}
