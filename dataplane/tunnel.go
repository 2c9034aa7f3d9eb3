package dataplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

const (
	// tunnelWait is how long a server may be without its link before another
	// one is asked to relay: most links are back at once.
	tunnelWait = 100 * time.Millisecond
	// tunnelHelloTimeout is how long a relay is waited for before the next is asked.
	tunnelHelloTimeout = 500 * time.Millisecond
	// tunnelPauseMin and Max bound the pause after all relays have been asked,
	// or after a tunnel has ended.
	tunnelPauseMin = 20 * time.Millisecond
	tunnelPauseMax = time.Second
	// tunnelsMax bounds the tunnels that others opened to this node, and those
	// that it opened.
	tunnelsMax = 256
	// tunnelBytesMax bounds the messages on their way through a tunnel: what
	// the other end has not said (Pong) to have got. At the bound the core is
	// told "no room".
	tunnelBytesMax = 256 << 10
	// greetingsMax bounds the openers that are being looked at.
	greetingsMax = 64
)

// Why a tunnel ends.
var (
	errBroken    = errors.New("it was broken off")
	errRelayGone = errors.New("the link to the relay is gone")
	errDirect    = errors.New("the direct link is back")
	errReplaced  = errors.New("the peer opened another")
)

// tunnel is a link through a third server: its frames travel in envelopes on
// two real links, there and back on the same ones, so that nothing overtakes
// anything. The number tells it from the ones before: late frames of those find
// no tunnel. All fields are guarded by p.mu.
type tunnel struct {
	p       *Plane
	id      ring.ID // of the node at the other end
	name    string
	number  uint32
	via     *link
	dialer  *dialer    // of the opener; nil at the other end
	peer    *flow.Peer // once it is up
	up      bool       // hellos were exchanged
	ended   bool
	sinceNs int64 // opened, then up

	heardNs  int64
	pulledNs int64
	sent     uint64 // bytes of messages, since it is up
	asked    uint64 // of these, named in the last ping
	passed   uint64 // of these, named in the last pong
	full     bool   // the core was told "no room"
}

// detour is a dialer's way to its server while it has no link of its own.
type detour struct {
	tunnel *tunnel // open or being opened, nil if none
	seekNs int64   // no relay is asked before
	pause  time.Duration
	tried  int     // relays asked in this round
	last   ring.ID // of these, the last
}

// put queues a frame; p.mu is held.
func (t *tunnel) put(h *wire.Header, payload []byte, urgent bool) {
	env := wire.Header{Type: wire.TypeRelay, Seq: uint64(t.p.self), Hash: uint64(t.id), Attempt: t.number}
	t.via.putEnvelope(&env, h, payload, urgent)
}

// hasRoom reports whether a message may be queued; p.mu is held. After false
// the core hears of room when the other end has got some.
func (t *tunnel) hasRoom() bool {
	if t.via.dead != nil || t.sent-t.passed > tunnelBytesMax {
		t.full = true
		return false
	}
	return true
}

// putMessage queues a message or a reply, and now and then asks how far the
// other end has got; p.mu is held.
func (t *tunnel) putMessage(h *wire.Header, payload []byte) {
	before := len(t.via.pending)
	t.put(h, payload, true)
	n := len(t.via.pending) - before
	t.via.relayed += n
	t.sent += uint64(n)
	if t.sent-t.asked >= tunnelBytesMax/4 {
		t.ping()
	}
}

// ping asks for a sign of life and how far the other end has got; p.mu is held.
func (t *tunnel) ping() {
	t.asked = t.sent
	t.put(&wire.Header{Type: wire.TypePing, Seq: t.sent, Epoch: t.p.epoch()}, nil, true)
}

// pull asks the peer for its table; p.mu is held.
func (t *tunnel) pull(now int64) { t.p.pull(now, t, &t.pulledNs) }

// handle acts on one frame out of the tunnel; p.mu is held.
func (t *tunnel) handle(now int64, h *wire.Header, payload []byte) {
	t.heardNs = now
	t.p.handle(now, t, t.peer, t.name, h, payload)
	if h.Type == wire.TypePong && h.Seq > t.passed && h.Seq <= t.sent {
		t.passed = h.Seq
		if t.full {
			t.full = false
			t.p.core.PeerRoom(now, t.peer)
		}
	}
}

// begin makes the tunnel the way to its peer; p.mu is held.
func (t *tunnel) begin(now int64, peer *flow.Peer, inc ring.Incarnation) {
	t.peer, t.up, t.sinceNs, t.heardNs = peer, true, now, now
	peer.Handle = t
	t.p.core.PeerUp(now, peer, inc)
	level := slog.LevelDebug
	if t.p.mayLog() {
		level = slog.LevelInfo
	}
	t.p.note(level, "a tunnel is up", "peer", t.name, "via", t.via.name, "accepted", t.dialer == nil)
}

// end takes the tunnel down at this end and tells the relay, which tells the
// other; p.mu is held. Nothing of it reaches the core afterwards.
func (t *tunnel) end(why error) {
	if t.ended {
		return
	}
	t.ended = true
	p := t.p
	if t.dialer != nil {
		t.dialer.tunnelEnded(t)
	} else {
		delete(p.tunnelsIn, t.id)
	}
	breakTo(t.via, p.self, t.id, t.number)
	level := slog.LevelDebug
	if t.up {
		p.relayStats.Ended++
		p.core.PeerDown(t.peer)
		t.peer.Handle = nil
		if p.mayLog() {
			level = slog.LevelInfo
		}
	}
	p.note(level, "a tunnel ended", "peer", t.name, "via", t.via.name, "accepted", t.dialer == nil, "reason", why)
}

// tunnelAt returns the tunnel of this node with the given other end, number
// and link, nil if there is none; mu is held.
func (p *Plane) tunnelAt(l *link, other ring.ID, number uint32) *tunnel {
	t := p.tunnelsIn[other]
	if !l.accepted {
		t = nil
		if d := p.dialers[other]; d != nil {
			t = d.detour.tunnel
		}
	}
	if t == nil || t.via != l || t.number != number {
		return nil
	}
	return t
}

// eachTunnel calls f, which may end them, for all tunnels of this node, open or
// being opened; mu is held.
func (p *Plane) eachTunnel(f func(*tunnel)) {
	for _, d := range p.dialers {
		if t := d.detour.tunnel; t != nil {
			f(t)
		}
	}
	for _, t := range p.tunnelsIn {
		f(t)
	}
}

// arrived acts on a frame for this node that came in an envelope; mu is held.
func (p *Plane) arrived(now int64, l *link, from ring.ID, number uint32, in *wire.Header, body []byte) {
	t := p.tunnelAt(l, from, number)
	switch {
	case t == nil && l.accepted && in.Type == wire.TypeHello:
		p.greetOpener(now, l, from, number, body)
	case t == nil: // of an earlier tunnel
		breakTo(l, p.self, from, number)
	case t.up:
		t.handle(now, in, body)
	case in.Type == wire.TypeHello:
		t.answered(now, body)
	default:
		t.end(errHello)
	}
}

// greetOpener looks at a node that opens a tunnel to this one, on a goroutine
// of its own: Admit may take its time. mu is held.
func (p *Plane) greetOpener(now int64, l *link, from ring.ID, number uint32, body []byte) {
	h, err := wire.DecodeHello(body)
	if err == nil && h.ID != from {
		err = fmt.Errorf("%w: a hello of %v in the name of %v", errEnvelope, h.ID, from)
	}
	if err != nil {
		p.foul(l, err)
	}
	if err != nil || p.greeting >= greetingsMax || p.tunnelsIn[from] == nil && len(p.tunnelsIn) >= tunnelsMax {
		breakTo(l, p.self, from, number)
		return
	}
	started := p.spawn(func(context.Context) {
		refused := p.refuse(h, l.conn.RemoteAddr())
		p.mu.Lock()
		p.greeting--
		p.welcomeOpener(now, l, h, number, refused)
		p.finishUnlock(&batch{})
	})
	if started {
		p.greeting++
	}
}

// overtaken reports whether a node has a newer way to this one than the tunnel
// whose hello arrived at a time: hellos through a busy relay come late. One
// whose link has just come lost none before, it would have waited for
// tunnelWait. mu is held.
func (p *Plane) overtaken(arrivedNs int64, opener ring.ID, number uint32) bool {
	t, l := p.tunnelsIn[opener], p.inbound[opener]
	return t != nil && t.sinceNs > arrivedNs || l != nil && (number <= l.newerThan || l.upNs > arrivedNs-int64(tunnelWait))
}

// welcomeOpener answers a node that opens a tunnel to this one, whose hello
// arrived at a time, and takes the tunnel for its newest link; mu is held.
func (p *Plane) welcomeOpener(arrivedNs int64, l *link, h *wire.Hello, number uint32, refused string) {
	if p.closed || p.inbound[l.id] != l { // the link to the relay has gone meanwhile
		return
	}
	if p.overtaken(arrivedNs, h.ID, number) {
		breakTo(l, p.self, h.ID, number) // if it is wanted it comes again
		return
	}
	answer := p.hello(refused)
	body, err := answer.Encode()
	if err != nil || refused != "" && p.mayLog() {
		p.note(slog.LevelWarn, "refused a tunnel", "from", h.Name, "via", l.name, "reason", refused, "error", err)
	}
	if err != nil {
		return
	}
	now := p.nowNs()
	t := &tunnel{p: p, id: h.ID, name: h.Name, number: number, via: l}
	if refused == "" {
		if old := p.tunnelsIn[t.id]; old != nil {
			old.end(errReplaced)
		}
		if old := p.inbound[t.id]; old != nil {
			p.dropInbound(old, errReplaced)
		}
	}
	t.put(&wire.Header{Type: wire.TypeHello}, body, true)
	if refused == "" {
		p.tunnelsIn[t.id] = t
		p.relayStats.Accepted++
		t.begin(now, p.core.Peer(inboundID(t.id)), 0)
	}
}

// answered takes the hello of the server to which this node opened a tunnel;
// p.mu is held.
func (t *tunnel) answered(now int64, body []byte) {
	p := t.p
	h, err := wire.DecodeHello(body)
	if err == nil {
		err = p.checkServer(h, t.id)
	}
	if err != nil {
		t.end(err)
		return
	}
	p.relayStats.Opened++
	t.begin(now, p.core.Peer(t.id), h.Incarnation)
	p.comparePeerEpoch(now, t, h.Epoch)
}

// seek wakes who opens tunnels.
func (p *Plane) seek() {
	select {
	case p.seekC <- struct{}{}:
	default:
	}
}

// runDetours opens tunnels to servers that have no link, until ctx ends.
func (p *Plane) runDetours(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	b := &batch{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.seekC:
		case <-t.C:
		}
		p.mu.Lock()
		next := time.Hour // else it is woken
		now := p.nowNs()
		for _, d := range p.dialers {
			if due := d.lookForWay(now); due > 0 {
				next = min(next, due)
			}
		}
		p.finishUnlock(b)
		t.Reset(next)
	}
}

// seekTunnel begins to look for a relay after a while; p.mu is held.
func (d *dialer) seekTunnel(after time.Duration) {
	d.detour.seekNs, d.detour.pause, d.detour.tried = d.p.nowNs()+int64(after), tunnelPauseMin, 0
	d.p.seek()
}

// lookForWay asks the next relay if it is time, and returns when to look
// again, 0 for never; p.mu is held.
func (d *dialer) lookForWay(now int64) time.Duration {
	p, w := d.p, &d.detour
	if d.ended && w.tunnel != nil {
		w.tunnel.end(errShutdown)
	}
	if d.ended || p.closed || d.link != nil || w.tunnel != nil && w.tunnel.up || !p.shownUp(d.id) {
		return 0
	}
	if t := w.tunnel; t != nil {
		if left := t.sinceNs + int64(tunnelHelloTimeout) - now; left > 0 {
			return time.Duration(left)
		}
		t.end(errSilent)
	}
	if left := w.seekNs - now; left > 0 {
		return time.Duration(left)
	}
	if left := d.greetNs + int64(tunnelHelloTimeout) - now; d.greetNs != 0 && left > 0 {
		return time.Duration(left) // its own link is about to come
	}
	via := d.nextRelay()
	if via == nil {
		return d.rest(now)
	}
	p.tunnelLast++
	t := &tunnel{p: p, id: d.id, name: d.name, number: p.tunnelLast, via: via, dialer: d, sinceNs: now}
	w.tunnel = t
	h := p.hello("")
	body, err := h.Encode()
	if err != nil {
		t.end(err)
		return d.rest(now)
	}
	t.put(&wire.Header{Type: wire.TypeHello}, body, true)
	return tunnelHelloTimeout
}

// rest ends a round in which no relay had a way.
func (d *dialer) rest(now int64) time.Duration {
	w := &d.detour
	pause := w.pause
	w.tried, w.seekNs, w.pause = 0, now+int64(pause), min(2*pause, tunnelPauseMax)
	return pause
}

// shownUp reports whether the table shows a server as UP; mu is held.
func (p *Plane) shownUp(id ring.ID) bool {
	t := p.view.Table
	if t == nil {
		return false
	}
	i := t.Index(id)
	return i >= 0 && t.Servers[i].Status.Live() == ring.Up
}

// nextRelay returns the link to the next server to ask, nil when all that this
// node has a link to were asked; p.mu is held. Each server begins elsewhere, so
// that not all of its peers burden the same relay.
func (d *dialer) nextRelay() *link {
	w, open := &d.detour, 0
	var links []*link
	for _, o := range d.p.dialers {
		if o.link != nil && o.link.dead == nil {
			links = append(links, o.link)
		}
		if o.detour.tunnel != nil {
			open++
		}
	}
	if w.tried >= len(links) || open >= tunnelsMax {
		return nil
	}
	slices.SortFunc(links, func(a, b *link) int { return cmp.Compare(a.id, b.id) })
	if w.last == 0 {
		w.last = links[uint64(d.p.self^d.id)%uint64(len(links))].id
	}
	at := slices.IndexFunc(links, func(l *link) bool { return l.id > w.last })
	via := links[max(at, 0)]
	w.last, w.tried = via.id, w.tried+1
	return via
}

// tunnelEnded looks for another way: at once when a relay had none, after a
// pause when a tunnel was up, a longer one if it did not last. p.mu is held.
func (d *dialer) tunnelEnded(t *tunnel) {
	w := &d.detour
	w.tunnel = nil
	if now := d.p.nowNs(); t.up {
		if now-t.sinceNs > int64(tunnelPauseMax) {
			w.pause = tunnelPauseMin
		}
		d.rest(now)
	}
	d.p.seek()
}

// pingTunnels pings idle tunnels and ends silent ones; mu is held.
func (p *Plane) pingTunnels(now int64, paused bool) {
	p.eachTunnel(func(t *tunnel) {
		if paused {
			t.heardNs = now
		}
		quiet := time.Duration(now - t.heardNs)
		switch {
		case !t.up:
		case quiet >= p.cfg.DownAfter:
			t.end(errSilent)
		case quiet >= p.pingEvery()/2:
			t.ping()
		}
	})
}
