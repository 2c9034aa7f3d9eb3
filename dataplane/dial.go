package dataplane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

const (
	dialTimeout    = time.Second
	redialMin      = 10 * time.Millisecond
	redialMax      = 200 * time.Millisecond
	inboundLinkMax = 4096
)

// dialer keeps this node's own link to one server.
type dialer struct {
	p       *Plane
	id      ring.ID
	name    string
	stop    context.CancelFunc
	moved   chan struct{} // the address changed: dial again at once, capacity 1
	ended   bool          // it was stopped: its end starts another if one is wanted; guarded by p.mu
	addr    string        // guarded by p.mu
	link    *link         // guarded by p.mu; nil while there is none
	state   ring.LinkState
	inc     ring.Incarnation // of the server, as it last said, or as it was called when it last refused
	told    ring.Incarnation // the one in the last evidence
	lastUp  time.Time        // guarded by p.mu
	greetNs int64            // since when hellos are exchanged, 0 = they are not; guarded by p.mu
	detour  detour           // guarded by p.mu
}

// syncDialers keeps one dialer for each server of the table, or of the
// configuration while there is no table; mu is held.
func (p *Plane) syncDialers() {
	if p.ctx == nil || p.ctx.Err() != nil || p.closed {
		return
	}
	want := map[ring.ID]Server{}
	for _, s := range p.cfg.Servers {
		want[s.ID] = s
	}
	if t := p.view.Table; t != nil {
		for i := range t.Servers {
			s := &t.Servers[i]
			want[s.ID] = Server{ID: s.ID, Name: s.Name, Addr: s.Addr}
		}
	}
	delete(want, p.self)
	for id, d := range p.dialers {
		if _, ok := want[id]; !ok {
			d.ended = true
			d.stop()
		}
	}
	for id, s := range want {
		d := p.dialers[id]
		if d == nil {
			ctx, stop := context.WithCancel(p.ctx)
			d = &dialer{p: p, id: id, name: s.Name, stop: stop, addr: s.Addr, moved: make(chan struct{}, 1)}
			p.dialers[id] = d
			d.seekTunnel(tunnelWait)
			p.spawn(func(context.Context) {
				d.run(ctx)
				p.dialerEnded(d)
			})
		}
		if d.addr != s.Addr {
			d.addr = s.Addr
			select {
			case d.moved <- struct{}{}:
			default:
			}
		}
	}
}

// dialerEnded forgets a dialer, and starts another if the server is in the
// table again meanwhile: two at once would take each other's link for their own.
func (p *Plane) dialerEnded(d *dialer) {
	p.mu.Lock()
	if t := d.detour.tunnel; t != nil {
		t.end(errShutdown)
	}
	delete(p.dialers, d.id)
	p.syncDialers()
	p.finishUnlock(&batch{})
}

// run dials, keeps the link while it lasts, and dials again, until it is stopped.
func (d *dialer) run(ctx context.Context) {
	defer d.stop()
	pause := redialMin
	silentSince := time.Now()
	told := false // that the server refuses us
	for ctx.Err() == nil {
		err := d.once(ctx, func() { pause, silentSince = redialMin, time.Now() })
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, syscall.ECONNREFUSED):
			d.report(ring.LinkRefused)
		case time.Since(silentSince) >= d.p.downAfter():
			d.report(ring.LinkSilent)
		}
		switch refused := errors.Is(err, errHello); {
		case refused && !told:
			d.p.log.Warn("no link to server", "server", d.name, "error", err)
			told = true
		default:
			told = told && refused
			d.p.log.Debug("link to server is down", "server", d.name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-d.moved:
		case <-time.After(pause):
		}
		pause = min(2*pause, redialMax)
	}
}

// once dials, exchanges hellos and runs the link to its end. heard is called
// when the server answered.
func (d *dialer) once(ctx context.Context, heard func()) error {
	p := d.p
	p.mu.Lock()
	addr, admitted := d.addr, d.admitted()
	p.mu.Unlock()
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.cfg.Dial(dctx, addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		d.inc = max(d.inc, admitted)
	}
	if err != nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	d.greeting(p.nowNs())
	h, err := p.greet(ctx, conn, d.id)
	d.greeting(0)
	if err != nil {
		_ = conn.Close()
		return err
	}
	l, err := p.newLink(conn, d.id, d.name, false)
	if err != nil {
		_ = conn.Close()
		return err
	}
	heard()
	p.mu.Lock()
	if p.closed || ctx.Err() != nil {
		p.mu.Unlock()
		_ = l.sock.close()
		return errShutdown
	}
	if t := d.detour.tunnel; t != nil {
		t.end(errDirect)
	}
	l.peer, l.inc = p.core.Peer(d.id), h.Incarnation
	l.peer.Handle = l
	p.links[l] = struct{}{}
	d.link, d.lastUp = l, time.Now()
	now := p.nowNs()
	p.core.PeerUp(now, l.peer, h.Incarnation)
	p.comparePeerEpoch(now, l, h.Epoch)
	p.finishUnlock(&batch{})
	d.inc = h.Incarnation
	d.report(ring.LinkAlive)
	stopKill := context.AfterFunc(ctx, func() { p.killLink(l, errShutdown) })
	defer stopKill()

	err = l.run(ctx)
	p.mu.Lock()
	delete(p.links, l)
	d.link = nil
	p.core.PeerDown(l.peer)
	l.peer.Handle = nil
	p.linkGone(l)
	d.seekTunnel(tunnelWait)
	p.finishUnlock(&batch{})
	heard()
	if errors.Is(err, errSilent) {
		d.report(ring.LinkSilent)
	}
	return err
}

// admitted returns the incarnation under which the table shows the server. It
// was reached at its address before it was admitted, so a dial that begins
// afterwards and is refused is evidence against that very start, even if it ended
// before there was a link to it. mu is held.
func (d *dialer) admitted() ring.Incarnation {
	t := d.p.view.Table
	if i := t.Index(d.id); i >= 0 {
		return t.Servers[i].Incarnation
	}
	return 0
}

// greeting notes since when hellos are exchanged, 0 for not any more.
func (d *dialer) greeting(sinceNs int64) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.greetNs = sinceNs
}

// report gives evidence when the state changed, or of whom it is.
func (d *dialer) report(s ring.LinkState) {
	d.p.mu.Lock()
	changed := d.state != s || d.told != d.inc || s == ring.LinkAlive
	d.state, d.told = s, d.inc
	d.p.mu.Unlock()
	if changed {
		d.p.cfg.Reporter.Link(ring.Evidence{Peer: d.id, Incarnation: d.inc, State: s})
	}
}

// errHello is wrapped by errors about the exchange of hellos.
var errHello = errors.New("dataplane: hello refused")

// limitHello bounds the exchange of hellos by time and by ctx, until stop.
func (p *Plane) limitHello(ctx context.Context, conn net.Conn) (stop func() bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(p.cfg.HelloWithin)); err != nil {
		return nil, fmt.Errorf("set deadline of hello: %w", err)
	}
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }), nil
}

// greet sends this node's hello and reads the server's.
func (p *Plane) greet(ctx context.Context, conn net.Conn, want ring.ID) (*wire.Hello, error) {
	stop, err := p.limitHello(ctx, conn)
	if err != nil {
		return nil, err
	}
	defer stop()
	if _, err := p.sendHello(conn, ""); err != nil {
		return nil, err
	}
	h, _, err := readHello(conn)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	err = p.checkServer(h, want)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return h, conn.SetDeadline(time.Time{})
}

// checkServer says why the hello with which a server answered is not what this
// node wants; mu is held.
func (p *Plane) checkServer(h *wire.Hello, want ring.ID) error {
	switch {
	case h.Refused != "":
		return fmt.Errorf("%w by the server: %s", errHello, h.Refused)
	case h.Group != p.cfg.Group:
		return fmt.Errorf("%w: the server belongs to group %q, this node to %q", errHello, h.Group, p.cfg.Group)
	case h.ID != want:
		return fmt.Errorf("%w: expected server %v, found %v (%s)", errHello, want, h.ID, h.Name)
	case p.strange(h.RingID):
		return fmt.Errorf("%w: the server has a table of another ring (%016x)", errHello, h.RingID)
	}
	return nil
}

// strange reports whether both sides have a table and theirs is of another
// ring: one of the two has outlived its ring and must hear from the log first.
// mu is held.
func (p *Plane) strange(ringID uint64) bool {
	t := p.view.Table
	return t != nil && t.RingID != 0 && ringID != 0 && t.RingID != ringID
}

// sendHello introduces this node and returns the incarnation it named.
func (p *Plane) sendHello(conn net.Conn, refused string) (ring.Incarnation, error) {
	p.mu.Lock()
	h, opened := p.hello(refused), p.tunnelLast
	p.mu.Unlock()
	body, err := h.Encode()
	if err != nil {
		return 0, fmt.Errorf("encode hello: %w", err)
	}
	head := wire.Header{Type: wire.TypeHello, Length: uint32(len(body)), Attempt: opened}
	b := make([]byte, wire.HeaderBytes, wire.HeaderBytes+len(body))
	head.Put(b)
	if _, err := conn.Write(append(b, body...)); err != nil {
		return 0, fmt.Errorf("send hello: %w", err)
	}
	return h.Incarnation, nil
}

// hello introduces this node; mu is held.
func (p *Plane) hello(refused string) wire.Hello {
	h := wire.Hello{Version: wire.HelloVersion, Group: p.cfg.Group, ID: p.self, Role: wire.NodeServer, Name: p.cfg.Name,
		Incarnation: p.incarnation, Epoch: p.epoch(), Refused: refused}
	if p.view.Table != nil {
		h.RingID = p.view.Table.RingID
	}
	if p.cfg.Slave {
		h.Role = wire.NodeSlave
	}
	return h
}

// readHello reads exactly the first frame of a link. opened is the number of
// the last tunnel that its sender had opened to anybody.
func readHello(conn net.Conn) (h *wire.Hello, opened uint32, err error) {
	var b [wire.HeaderBytes]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return nil, 0, fmt.Errorf("read hello: %w", err)
	}
	if n := binary.LittleEndian.Uint32(b[:]); n > wire.HelloBytesMax {
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d allowed", errHello, n, wire.HelloBytesMax)
	}
	var head wire.Header
	if err := head.Get(b[:]); err != nil {
		return nil, 0, fmt.Errorf("read hello: %w", err)
	}
	if head.Type != wire.TypeHello {
		return nil, 0, fmt.Errorf("%w: the link begins with frame type %d", errHello, head.Type)
	}
	body := make([]byte, head.Length)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, 0, fmt.Errorf("read hello: %w", err)
	}
	h, err = wire.DecodeHello(body)
	return h, head.Attempt, err
}

// hostOf returns an address without its port, which is another one each time.
func hostOf(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// HandleConn serves a connection that another node opened for data, until it
// ends or Run's context does. It owns the connection.
func (p *Plane) HandleConn(conn net.Conn) {
	p.mu.Lock()
	ctx := p.ctx
	p.mu.Unlock()
	if ctx == nil {
		_ = conn.Close() // the peer comes back
		return
	}
	l, h, err := p.welcome(ctx, conn)
	if err != nil {
		p.logRefusal("refused a data link", hostOf(conn.RemoteAddr()), err)
		_ = conn.Close()
		return
	}
	p.mu.Lock()
	if p.closed || len(p.inbound) >= inboundLinkMax || h.Incarnation != p.incarnation {
		p.mu.Unlock()
		_ = l.sock.close()
		return
	}
	if old := p.inbound[l.id]; old != nil {
		p.dropInbound(old, errors.New("the peer opened another link"))
	}
	if t := p.tunnelsIn[l.id]; t != nil {
		t.end(errDirect)
	}
	l.peer, l.upNs = p.core.Peer(inboundID(l.id)), p.nowNs()
	l.peer.Handle = l
	p.links[l] = struct{}{}
	p.inbound[l.id] = l
	p.work.Add(1)
	defer p.work.Done()
	p.core.PeerUp(l.upNs, l.peer, 0)
	p.finishUnlock(&batch{})

	err = l.run(ctx)
	p.mu.Lock()
	p.dropInbound(l, err)
	p.finishUnlock(&batch{})
	p.log.Debug("data link ended", "from", l.name, "error", err)
}

// dropInbound forgets an accepted link; mu is held.
func (p *Plane) dropInbound(l *link, why error) {
	delete(p.links, l)
	l.kill(why)
	if p.inbound[l.id] == l {
		delete(p.inbound, l.id)
		p.core.PeerDown(l.peer)
		l.peer.Handle = nil
		p.linkGone(l)
	}
}

// welcome exchanges hellos on an accepted connection. The returned hello holds
// the incarnation that was announced to the peer.
func (p *Plane) welcome(ctx context.Context, conn net.Conn) (*link, *wire.Hello, error) {
	stop, err := p.limitHello(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	h, opened, err := readHello(conn)
	if err != nil {
		return nil, nil, err
	}
	refused := p.refuse(h, conn.RemoteAddr())
	inc, err := p.sendHello(conn, refused)
	if err != nil {
		return nil, nil, err
	}
	if refused != "" {
		return nil, nil, fmt.Errorf("%w: %s", errHello, refused)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("clear deadline of hello: %w", err)
	}
	l, err := p.newLink(conn, h.ID, h.Name, true)
	if err != nil {
		return nil, nil, err
	}
	l.newerThan, h.Incarnation = opened, inc
	return l, h, nil
}

// refuse says why a node that introduces itself gets no link; empty: it does.
func (p *Plane) refuse(h *wire.Hello, from net.Addr) string {
	p.mu.Lock()
	strange := p.strange(h.RingID)
	p.mu.Unlock()
	switch {
	case h.Version != wire.HelloVersion:
		return fmt.Sprintf("protocol version %d is not %d", h.Version, wire.HelloVersion)
	case h.Group != p.cfg.Group:
		return fmt.Sprintf("this ring is group %q, not %q", p.cfg.Group, h.Group)
	case h.ID == 0 || h.ID == p.self:
		return fmt.Sprintf("node id %v is not yours to use", h.ID)
	case strange:
		return fmt.Sprintf("this node has a table of another ring than %016x", h.RingID)
	case p.cfg.Admit != nil:
		if err := p.cfg.Admit(h, from); err != nil {
			return err.Error()
		}
	}
	return ""
}

var errSilent = errors.New("the peer is silent")

// runPinger pings idle links and cuts silent ones, until ctx ends.
func (p *Plane) runPinger(ctx context.Context) {
	p.mu.Lock()
	every := p.pingEvery()
	p.mu.Unlock()
	t := time.NewTicker(every)
	defer t.Stop()
	b := &batch{}
	last := p.nowNs()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		p.mu.Lock()
		now := p.nowNs()
		paused := time.Duration(now-last) > every+p.cfg.DownAfter/2
		if next := p.pingEvery(); next != every {
			every, paused = next, true // what was no silence so far is none now
			t.Reset(every)
		}
		last = now
		for l := range p.links {
			if paused { // it was this process that was silent
				l.heardNs.Store(now)
			}
			quiet := time.Duration(now - l.heardNs.Load())
			switch {
			case quiet >= p.cfg.DownAfter:
				l.kill(errSilent)
			case quiet >= every/2 && !l.writing:
				l.put(&wire.Header{Type: wire.TypePing, Epoch: p.epoch()}, nil, true)
			}
		}
		p.pingTunnels(now, paused)
		if fault.Bug(fault.StaleEpoch) && p.raftView.Table.Newer(p.view.Table) {
			p.applyView(p.raftView)
		}
		p.finishUnlock(b)
	}
}
