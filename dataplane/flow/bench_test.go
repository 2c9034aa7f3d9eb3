package flow

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// nullPorts takes everything and does nothing; Deliver counts a cursor.
type nullPorts struct{ end uint64 }

func (*nullPorts) Transmit(*Peer, *wire.Header, bool)                                 {}
func (*nullPorts) TransmitRecord(*Peer, *wire.Header, *Session, Stream, *Record) bool { return true }
func (o *nullPorts) Deliver(*Session, *Delivery) (uint64, bool)                       { o.end++; return o.end, true }
func (*nullPorts) Settled(*Session, Stream, uint64)                                   {}
func (*nullPorts) Outcome(*Session, *Record, bool, bool)                              {}
func (*nullPorts) Receivers(*Session, uint64, int)                                    {}
func (*nullPorts) RequestFailed(*Session, uint64)                                     {}
func (*nullPorts) StandIn(*Peer, ring.Incarnation)                                    {}
func (*nullPorts) AskStandIn(*Peer, *Peer)                                            {}
func (*nullPorts) StandInEnded(*Peer)                                                 {}
func (*nullPorts) PullTable(*Peer)                                                    {}
func (*nullPorts) SessionEnded(*Session)                                              {}

// benchTable is a ring of one server, id 100, incarnation 1, that owns everything.
func benchTable(tb testing.TB) *ring.Table {
	base := ring.NewAssignment(ring.DefaultSlots, 1)
	for i := range base.Owners {
		base.Owners[i], base.InSync[i] = 0, 1
	}
	t, err := ring.NewTable(ring.Table{
		Epoch:   ring.Epoch{Era: 1, Index: 1},
		Servers: []ring.Server{{ID: 100, Status: ring.ServiceIn | ring.Up, Incarnation: 1}},
		Base:    base,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// benchSender returns a function that sends a batch of 64 messages of many
// hashes from a slave and settles it.
func benchSender(tb testing.TB) func() {
	c := New(Config{Self: 7, Slave: true}, &nullPorts{})
	c.SetView(0, benchTable(tb), 0, nil)
	p := c.Peer(100)
	c.PeerUp(0, p, 1)
	s := c.Attach(0, wire.SessionID{1}, false)
	r := Record{Size: 128, Flags: wire.FlagWantsReply}
	ack := wire.Header{Type: wire.TypeAck, Session: s.ID(), Hash: ^uint64(0)}
	return func() {
		ack.Seq = r.Seq + 1
		for range 64 {
			r.Seq++
			r.Hash += 0x9e3779b97f4a7c15
			r.End += 160
			if err := c.Submit(0, s, Requests, &r); err != nil {
				tb.Fatal(err)
			}
		}
		c.Frame(0, p, &ack, nil)
		c.Flush()
	}
}

// benchReceiver returns a function that receives a batch of 64 messages, which
// a program takes.
func benchReceiver(tb testing.TB) func() {
	ports := &nullPorts{}
	c := New(Config{Self: 100}, ports)
	c.SetView(0, benchTable(tb), 1, nil)
	p := c.Peer(7)
	c.PeerUp(0, p, 0)
	s := c.Attach(0, wire.SessionID{2}, true)
	h := wire.Header{Type: wire.TypeMessage, Session: wire.SessionID{1}, Epoch: ring.Epoch{Era: 1, Index: 1}, Attempt: 1}
	payload := make([]byte, 128)
	return func() {
		for i := range 64 {
			h.Seq++
			h.Hash += 0x9e3779b97f4a7c15
			h.LowDelta = uint16(i)
			c.Frame(0, p, &h, payload)
		}
		c.Taken(0, s, ports.end)
		c.Flush()
	}
}

// benchServer returns a function that receives a batch of 64 requests, which a
// program takes and answers.
func benchServer(tb testing.TB) func() {
	ports := &nullPorts{}
	c := New(Config{Self: 100}, ports)
	c.SetView(0, benchTable(tb), 1, nil)
	p := c.Peer(7)
	c.PeerUp(0, p, 0)
	s := c.Attach(0, wire.SessionID{2}, true)
	h := wire.Header{
		Type: wire.TypeMessage, Flags: wire.FlagWantsReply, Session: wire.SessionID{1}, Epoch: ring.Epoch{Era: 1, Index: 1}, Attempt: 1,
	}
	r := Record{Size: 128, ToNode: 7, ToSession: h.Session}
	ack := wire.Header{Type: wire.TypeReplyAck, Attempt: 1, Hash: ^uint64(0)}
	payload := make([]byte, 128)
	return func() {
		ack.Seq = r.Seq + 1
		for i := range 64 {
			h.Seq++
			h.Hash += 0x9e3779b97f4a7c15
			h.LowDelta = uint16(i)
			c.Frame(0, p, &h, payload)
		}
		c.Taken(0, s, ports.end)
		for range 64 {
			r.Seq++
			r.ToSeq++
			r.End += 160
			if err := c.Submit(0, s, Replies, &r); err != nil {
				tb.Fatal(err)
			}
		}
		c.Frame(0, p, &ack, nil)
		c.Flush()
		if s.program.open.n != 0 {
			tb.Fatal("requests are open that were answered")
		}
	}
}

// benchReplier returns a function that sends a batch of 64 replies and settles it.
func benchReplier(tb testing.TB) func() {
	c := New(Config{Self: 100}, &nullPorts{})
	p := c.Peer(7)
	c.PeerUp(0, p, 0)
	s := c.Attach(0, wire.SessionID{2}, true)
	r := Record{Size: 128, ToNode: 7}
	ack := wire.Header{Type: wire.TypeReplyAck, Attempt: 1, Hash: ^uint64(0)}
	return func() {
		ack.Seq = r.Seq + 1
		for range 64 {
			r.Seq++
			r.End += 160
			if err := c.Submit(0, s, Replies, &r); err != nil {
				tb.Fatal(err)
			}
		}
		c.Frame(0, p, &ack, nil)
		c.Flush()
	}
}

// benchAsker returns a function that receives a batch of 64 replies.
func benchAsker(tb testing.TB) func() {
	c := New(Config{Self: 7, Slave: true}, &nullPorts{})
	p := c.Peer(100)
	c.PeerUp(0, p, 1)
	s := c.Attach(0, wire.SessionID{1}, false)
	h := wire.Header{Type: wire.TypeReply, Session: s.ID(), Attempt: 1}
	payload := make([]byte, 128)
	return func() {
		for range 64 {
			h.Seq++
			h.Hash++
			c.Frame(0, p, &h, payload)
		}
		c.Flush()
	}
}

var benchDirections = []struct {
	name string
	make func(testing.TB) func()
}{
	{"send", benchSender}, {"receive", benchReceiver}, {"serve", benchServer}, {"reply", benchReplier}, {"ask", benchAsker},
}

// Proves that a message costs no allocation once the windows have grown.
func TestNoAllocationPerMessage(t *testing.T) {
	for _, d := range benchDirections {
		batch := d.make(t)
		batch()
		if n := testing.AllocsPerRun(100, batch); n != 0 {
			t.Errorf("%s: %v allocations per batch of 64 messages, want 0", d.name, n)
		}
	}
}

// BenchmarkMessage measures the core alone: ns/op is per message.
func BenchmarkMessage(b *testing.B) {
	for _, d := range benchDirections {
		b.Run(d.name, func(b *testing.B) {
			batch := d.make(b)
			b.ReportAllocs()
			for i := 0; i < b.N; i += 64 {
				batch()
			}
		})
	}
}

// BenchmarkBacklog measures a scan of a session whose whole window waits for a
// server that is not there: ns/op is per message.
func BenchmarkBacklog(b *testing.B) {
	c := New(Config{Self: 7, Slave: true}, &nullPorts{})
	c.SetView(0, benchTable(b), 0, nil)
	s := c.Attach(0, wire.SessionID{1}, false)
	for i := range uint64(Window) {
		if err := c.Submit(0, s, Requests, &Record{Seq: i + 1, Hash: i % 7}); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; i < b.N; i += Window {
		c.scan(0, s)
	}
}

// BenchmarkSetView measures a new table that changes nothing about servers,
// with a hundred sessions whose whole windows are out.
func BenchmarkSetView(b *testing.B) {
	c := New(Config{Self: 7, Slave: true}, &nullPorts{})
	tab := benchTable(b)
	c.SetView(0, tab, 0, nil)
	for i := range tab.Servers {
		c.PeerUp(0, c.Peer(tab.Servers[i].ID), tab.Servers[i].Incarnation)
	}
	for n := range 100 {
		s := c.Attach(0, wire.SessionID{1, byte(n)}, false)
		for i := range uint64(Window) {
			if err := c.Submit(0, s, Requests, &Record{Seq: i + 1, Hash: i % 7}); err != nil {
				b.Fatal(err)
			}
		}
	}
	if c.Stats().Transmitted != 100*Window {
		b.Fatalf("%d messages are out", c.Stats().Transmitted)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.SetView(0, tab, 0, nil)
	}
}
