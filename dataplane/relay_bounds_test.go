package dataplane

import (
	"testing"
	"time"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// relayRig is a relay with links that are never written.
type relayRig struct {
	p   *Plane
	in  []*link // of openers 100, 101, ...
	out *link   // to server 9
}

func newRelayRig(openers int) *relayRig {
	p := &Plane{self: 1, relays: map[relayID]*relay{}, tunnelsIn: map[ring.ID]*tunnel{}}
	r := &relayRig{p: p, out: &link{p: p, id: 9}}
	p.dialers = map[ring.ID]*dialer{9: {p: p, id: 9, link: r.out}}
	for i := range openers {
		r.in = append(r.in, &link{p: p, id: ring.ID(100 + i), accepted: true})
	}
	return r
}

// sends lets opener i send a frame to server 9.
func (r *relayRig) sends(i int, now int64, t wire.Type, payload int) {
	l := r.in[i]
	inner := wire.Header{Type: t, Seq: 1, Length: uint32(payload)}
	body := make([]byte, wire.HeaderBytes+payload)
	inner.Put(body)
	l.handle(now, &wire.Header{Type: wire.TypeRelay, Seq: uint64(l.id), Hash: 9, Attempt: 5, Length: uint32(len(body))}, body)
}

// frames returns the headers of what waits on a link.
func frames(t *testing.T, l *link) (all []wire.Header) {
	t.Helper()
	for b := l.pending; len(b) > 0; {
		var h wire.Header
		if err := h.Get(b); err != nil {
			t.Fatal(err)
		}
		all, b = append(all, h), b[wire.HeaderBytes+int(h.Length):]
	}
	return all
}

func brokenFrame(t *testing.T, l *link) bool {
	t.Helper()
	all := frames(t, l)
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	return last.Type == wire.TypeRelayBroken && last.Attempt == 5
}

// A relay keeps no more tunnels of others than its bound: the one that was used
// least recently ends, at both ends.
func TestRelaysAreBounded(t *testing.T) {
	r := newRelayRig(relaysMax + 1)
	for i := range relaysMax {
		r.sends(i, int64(i), wire.TypeHello, 10)
	}
	r.sends(0, relaysMax, wire.TypeMessage, 10) // 1 is the oldest now
	r.sends(relaysMax, relaysMax+1, wire.TypeHello, 10)
	if len(r.p.relays) != relaysMax || r.p.relays[relayID{101, 9}] != nil || r.p.relays[relayID{100, 9}] == nil {
		t.Errorf("%d tunnels, want %d without that of 101", len(r.p.relays), relaysMax)
	}
	if !brokenFrame(t, r.in[1]) || brokenFrame(t, r.in[0]) {
		t.Error("the wrong opener was told that its tunnel ended")
	}
	told := false
	for _, h := range frames(t, r.out) {
		told = told || h.Type == wire.TypeRelayBroken && h.Seq == 9 && h.Hash == 101
	}
	if !told {
		t.Error("the target was not told")
	}
}

// A link that is not written takes no more frames of others than its bound. The
// tunnel that finds no room ends at both ends, and what comes later is not
// passed on; a new tunnel of the same two can be.
func TestRelayWithoutRoomBreaks(t *testing.T) {
	r := newRelayRig(2)
	r.sends(0, 1, wire.TypeHello, 10)
	r.sends(1, 1, wire.TypeHello, 10)
	const messages = 200
	for range messages {
		r.sends(0, 2, wire.TypeMessage, 100<<10)
	}
	if !brokenFrame(t, r.in[0]) || len(r.p.relays) != 1 {
		t.Errorf("the tunnel goes on: %+v", r.p.relayStats)
	}
	if most := relayBytesMax + 110<<10; len(r.out.pending) > most {
		t.Errorf("%d bytes wait, want at most %d", len(r.out.pending), most)
	}
	if st := r.p.relayStats; st.Passed == 0 || st.Broken == 0 || st.Passed+st.Broken != messages+2 {
		t.Errorf("counters %+v", st)
	}
	waits := len(r.out.pending)
	r.out.claim() // written
	r.sends(0, 3, wire.TypeMessage, 100)
	if len(r.out.pending) != 0 {
		t.Errorf("%d of %d bytes were passed on after the tunnel had ended", len(r.out.pending), waits)
	}
	r.sends(1, 3, wire.TypeMessage, 100)
	r.sends(0, 3, wire.TypeHello, 10)
	if got := frames(t, r.out); len(got) != 2 || len(r.p.relays) != 2 {
		t.Errorf("after it was written: %v", got)
	}
}

// Three tunnels with a message of the largest size each, and what follows it,
// fit a link that is just not written: they would end again and again else.
func TestRelayHoldsLargestMessages(t *testing.T) {
	r := newRelayRig(3)
	for i := range r.in {
		r.sends(i, 1, wire.TypeHello, 10)
	}
	for i := range r.in {
		r.sends(i, 2, wire.TypeMessage, wire.PayloadBytesMax)
		r.sends(i, 2, wire.TypePing, 0)
	}
	if st := r.p.relayStats; st.Broken != 0 || st.Passed != 9 {
		t.Errorf("counters %+v", st)
	}
}

// Passing a frame on allocates nothing.
func TestRelayAllocatesNothing(t *testing.T) {
	r := newRelayRig(1)
	r.sends(0, 1, wire.TypeHello, 10)
	body := make([]byte, wire.HeaderBytes+1000)
	(&wire.Header{Type: wire.TypeMessage, Seq: 1, Length: 1000}).Put(body)
	env := make([]byte, wire.HeaderBytes)
	(&wire.Header{Type: wire.TypeRelay, Seq: 100, Hash: 9, Attempt: 5, Length: uint32(len(body))}).Put(env)
	var h wire.Header
	n := testing.AllocsPerRun(1000, func() {
		if err := h.Get(env); err != nil {
			t.Fatal(err)
		}
		r.in[0].handle(2, &h, body)
		r.out.pending, r.out.relayed, r.out.dirty, r.p.dirtyLinks = r.out.pending[:0], 0, false, r.p.dirtyLinks[:0]
	})
	if n != 0 || r.p.relayStats.Passed < 1000 {
		t.Errorf("%v allocations for each of %d frames", n, r.p.relayStats.Passed)
	}
}

// A hello of a tunnel that was under way when its opener's own link, or a later
// tunnel of it, came up here ends neither: it is broken off. Without one of
// them, or when it comes long after, the tunnel is the newest way.
func TestLateHelloEndsNothing(t *testing.T) {
	const opener, arrived = ring.ID(100), int64(time.Second)
	for _, c := range []struct {
		name         string
		link, tunnel int64 // since when there is one, 0 = there is none
		newerThan    uint32
		want         bool
	}{
		{"none", 0, 0, 0, false},
		{"link came before", arrived - 1, 0, 4, true},
		{"link came after", arrived + 1, 0, 4, true},
		{"link has been there for long", arrived - int64(tunnelWait), 0, 4, false},
		{"link was opened after the tunnel", arrived - int64(tunnelWait), 0, 5, true},
		{"tunnel came before", 0, arrived - 1, 0, false},
		{"tunnel came after", 0, arrived + 1, 0, true},
	} {
		p := &Plane{self: 9, inbound: map[ring.ID]*link{}, tunnelsIn: map[ring.ID]*tunnel{}}
		via := &link{p: p, id: 1, accepted: true}
		p.inbound[via.id] = via
		if c.link != 0 {
			p.inbound[opener] = &link{p: p, id: opener, accepted: true, upNs: c.link, newerThan: c.newerThan}
		}
		if c.tunnel != 0 {
			p.tunnelsIn[opener] = &tunnel{p: p, id: opener, sinceNs: c.tunnel}
		}
		if got := p.overtaken(arrived, opener, 5); got != c.want {
			t.Errorf("%s: overtaken %v, want %v", c.name, got, c.want)
		}
		if !c.want {
			continue
		}
		p.welcomeOpener(arrived, via, &wire.Hello{ID: opener}, 5, "")
		if !brokenFrame(t, via) || (c.link != 0 && p.inbound[opener].dead != nil) || (c.tunnel != 0 && p.tunnelsIn[opener].ended) {
			t.Errorf("%s: the late tunnel is not broken off, or has ended what is newer", c.name)
		}
	}
}
