package dataplane_test

import (
	"bufio"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// enveloped returns a frame in an envelope.
func enveloped(from, to ring.ID, number uint32, h wire.Header, payload []byte) []byte {
	return frame(wire.Header{Type: wire.TypeRelay, Seq: uint64(from), Hash: uint64(to), Attempt: number}, frame(h, payload))
}

func helloFrame(t *testing.T, h wire.Hello) []byte {
	t.Helper()
	body, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// opens sends the hello of a tunnel to server-0 and returns the answer, nil if
// it was broken off.
func (p *peer) opens(from ring.ID, number uint32, h wire.Hello) *wire.Hello {
	p.t.Helper()
	p.write(enveloped(from, 0x100, number, wire.Header{Type: wire.TypeHello}, helloFrame(p.t, h)))
	in, payload := p.unwraps(number)
	if in == nil {
		return nil
	}
	if in.Type != wire.TypeHello {
		p.t.Fatalf("a tunnel begins with %+v", in)
	}
	got, err := wire.DecodeHello(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// unwraps returns the next frame out of a tunnel, nil if it was broken off.
func (p *peer) unwraps(number uint32) (in *wire.Header, payload []byte) {
	p.t.Helper()
	for {
		h, body, err := p.read()
		if err != nil {
			p.t.Fatalf("nothing came through the tunnel: %v", err)
		}
		switch {
		case h.Attempt != number:
		case h.Type == wire.TypeRelayBroken && h.Seq == 5:
			return nil, nil
		case h.Type == wire.TypeRelay && h.Seq == 0x100 && h.Hash == 5:
			in = new(wire.Header)
			if err := in.Get(body); err != nil {
				p.t.Fatal(err)
			}
			if in.Type == wire.TypePing {
				continue
			}
			return in, body[wire.HeaderBytes:]
		}
	}
}

// pings asks server-0 for a pong through the tunnel, and reports whether it came.
func (p *peer) pings(number uint32) bool {
	p.t.Helper()
	p.write(enveloped(5, 0x100, number, wire.Header{Type: wire.TypePing, Seq: 77}, nil))
	in, _ := p.unwraps(number)
	return in != nil && in.Type == wire.TypePong && in.Seq == 77
}

// relayed returns a peer with a link to server-1, which relays to server-0.
func relayed(t *testing.T) (w *world, p *peer, relay, target *testNode) {
	w = newWorld(t, 2)
	target, relay = w.nodes[0], w.nodes[1]
	echo(t, target)
	ask(t, attach(t, relay, client.RoleClient), 0, "over the link to the target")
	p = connect(t, relay)
	p.greet(helloOf(5))
	return w, p, relay, target
}

// A relay passes on what its peers send in their own name and nothing else;
// whatever else they write reaches nobody and ends at most their own tunnel.
func TestRelayRefusesNonsense(t *testing.T) {
	w, p, relay, target := relayed(t)
	ping := wire.Header{Type: wire.TypePing}
	long := frame(ping, nil)
	long[0] = 9
	number := uint32(0)
	for _, c := range []struct {
		name   string
		write  []byte
		broken bool // the tunnel of the peer ends
	}{
		{"in the name of another", enveloped(0x999, 0x100, 1, ping, nil), false},
		{"in no name", enveloped(0, 0x100, 1, ping, nil), false},
		{"to the relay itself", enveloped(5, 0x101, 1, ping, nil), false},
		{"in the name of the relay, to itself", enveloped(0x101, 0x101, 1, ping, nil), false},
		{"broken, in the name of another", frame(wire.Header{Type: wire.TypeRelayBroken, Seq: 0x999, Hash: 0x100, Attempt: 1}, nil), false},
		{"nested", enveloped(5, 0x100, 0, wire.Header{Type: wire.TypeRelay, Seq: 5, Hash: 0x100}, frame(ping, nil)), true},
		{"nested broken", enveloped(5, 0x100, 0, wire.Header{Type: wire.TypeRelayBroken, Seq: 5, Hash: 0x100}, nil), true},
		{"empty", frame(wire.Header{Type: wire.TypeRelay, Seq: 5, Hash: 0x100}, nil), true},
		{"half a header", frame(wire.Header{Type: wire.TypeRelay, Seq: 5, Hash: 0x100}, make([]byte, 30)), true},
		{"unknown type", enveloped(5, 0x100, 0, wire.Header{Type: 200}, nil), true},
		{"wrong length", frame(wire.Header{Type: wire.TypeRelay, Seq: 5, Hash: 0x100}, long), true},
	} {
		number++
		if h := p.opens(5, number, helloOf(5)); h == nil || h.Refused != "" || !p.pings(number) {
			t.Fatalf("%s: no tunnel: %+v", c.name, h)
		}
		refused := relay.plane.Status().Relay.Refused
		if c.broken {
			c.write[52] = byte(number)
		}
		p.write(c.write)
		if goesOn := p.pings(number); goesOn == c.broken {
			t.Errorf("%s: the tunnel goes on: %v", c.name, goesOn)
		}
		if got := relay.plane.Status().Relay.Refused; got != refused+1 {
			t.Errorf("%s: %d frames refused, want 1", c.name, got-refused)
		}
	}
	if s := target.plane.Status(); s.Relay.Accepted != uint64(number) || s.Counters.Violations != 0 {
		t.Errorf("the target accepted %d tunnels, want %d: %+v", s.Relay.Accepted, number, s.Counters)
	}
	p.pong()
	ask(t, attach(t, w.slave(), client.RoleClient), 0, "as before")
}

// Tunnels end where there is no way, with their hello, with a newer one, with
// their links and when one end gives them up; frames of ended ones reach nobody.
func TestTunnelsEnd(t *testing.T) {
	_, p, relay, target := relayed(t)
	// What the relay has no link to, or knows of no tunnel to.
	for _, to := range []ring.ID{0x999, 0x777} {
		p.write(enveloped(5, to, 1, wire.Header{Type: wire.TypeHello}, helloFrame(t, helloOf(5))))
		if in, _ := p.unwraps(1); in != nil {
			t.Errorf("a tunnel to %v begins with %+v", to, in)
		}
	}
	if p.pings(2) {
		t.Error("a tunnel that was never opened answers")
	}
	// What the target does not want.
	other, strange := helloOf(5), helloOf(6)
	other.Group = "other"
	if h := p.opens(5, 3, other); h == nil || h.Refused == "" {
		t.Errorf("a node of another group is welcome: %+v", h)
	}
	if h := p.opens(5, 4, strange); h != nil {
		t.Errorf("a node in the name of another is welcome: %+v", h)
	}
	if r := target.plane.Status().Relay; r.Accepted != 0 {
		t.Fatalf("the target accepted: %+v", r)
	}
	// A newer one ends the one before, whose late frames reach nobody.
	for number := uint32(5); number < 7; number++ {
		if h := p.opens(5, number, helloOf(5)); h == nil || h.Refused != "" {
			t.Fatalf("no tunnel: %+v", h)
		}
	}
	if p.pings(5) || !p.pings(6) {
		t.Error("the earlier tunnel answers, or the newer does not")
	}
	// The opener gives it up.
	p.write(frame(wire.Header{Type: wire.TypeRelayBroken, Seq: 5, Hash: 0x100, Attempt: 6}, nil))
	target.awaitStatus("both ended", func(s *dataplane.Status) bool { return s.Relay.Accepted == 2 && s.Relay.Ended == 2 })
	relay.awaitStatus("nothing relayed", func(s *dataplane.Status) bool { return s.Relays == 0 })
	// Its link to the relay ends.
	if p.opens(5, 7, helloOf(5)) == nil {
		t.Fatal("no tunnel")
	}
	_ = p.conn.Close()
	target.awaitStatus("ended with its link", func(s *dataplane.Status) bool { return s.Relay.Ended == 3 })
	// The direct link comes.
	p = connect(t, relay)
	p.greet(helloOf(5))
	if p.opens(5, 1, helloOf(5)) == nil {
		t.Fatal("no tunnel")
	}
	d := connect(t, target)
	d.greet(helloOf(5))
	d.pong()
	if p.pings(1) {
		t.Error("the tunnel answers beside the direct link")
	}
	// And the other way round: the newest counts, once the link is not just new.
	number := uint32(2)
	for p.opens(5, number, helloOf(5)) == nil {
		number++
		<-time.After(10 * time.Millisecond)
	}
	if !p.pings(number) {
		t.Fatal("no tunnel")
	}
	d.ended("a direct link beside a newer tunnel")
}

// A relay that lets nothing through, and answers its own pings, is left again:
// a tunnel without a sign of life ends.
func TestSilentTunnelEnds(t *testing.T) {
	w := newCabledWorld(t, 3)
	slave, relay := w.slave(), w.nodes[2]
	relay.stop()
	fake := &fakeRelay{id: relay.id, answers: 0x100}
	ln := listenAgain(t, relay.addr)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { fake.serve(t, conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		for _, n := range w.nodes {
			n.stop()
		}
		wg.Wait()
	})
	w.cables.cut(slave.id, 0x100)
	w.cables.cut(slave.id, 0x101)
	slave.awaitStatus("two tunnels that ended", func(s *dataplane.Status) bool { return s.Relay.Opened >= 2 && s.Relay.Ended >= 2 })
	echo(t, w.nodes[0])
	w.cables.mend(slave.id, 0x101)
	if got := ask(t, attach(t, slave, client.RoleClient), 0, "through the other one"); got != 0x100 {
		t.Errorf("answered by %v", got)
	}
}

// fakeRelay answers the hello of a tunnel in the name of a server, and its own
// pings, and keeps everything else to itself.
type fakeRelay struct {
	id, answers ring.ID
}

func (f *fakeRelay) serve(t *testing.T, conn net.Conn) {
	defer conn.Close()
	p := &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	hello := func(id ring.ID) []byte {
		h := helloOf(id)
		h.Role, h.Incarnation = wire.NodeServer, 3
		body, _ := h.Encode()
		return body
	}
	for {
		h, body, err := p.read()
		if err != nil {
			return
		}
		var reply []byte
		switch h.Type {
		case wire.TypeHello:
			reply = frame(wire.Header{Type: wire.TypeHello}, hello(f.id))
		case wire.TypePing:
			reply = frame(wire.Header{Type: wire.TypePong}, nil)
		case wire.TypeRelay:
			var in wire.Header
			if in.Get(body) == nil && in.Type == wire.TypeHello && ring.ID(h.Hash) == f.answers {
				reply = enveloped(f.answers, ring.ID(h.Seq), h.Attempt, wire.Header{Type: wire.TypeHello}, hello(f.answers))
			}
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}
