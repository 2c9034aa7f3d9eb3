package flow

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// pipe is one side of a slave and a server whose cores are joined: frames wait
// in out until the other side gets them. The server's in-ring has room records.
type pipe struct {
	out  []wire.Header
	room int
	end  uint64
	sent int
}

func (o *pipe) Transmit(_ *Peer, h *wire.Header, _ bool) { o.out = append(o.out, *h) }
func (o *pipe) TransmitRecord(_ *Peer, h *wire.Header, _ *Session, _ Stream, _ *Record) bool {
	o.sent++
	o.out = append(o.out, *h)
	return true
}
func (o *pipe) Deliver(*Session, *Delivery) (uint64, bool) {
	if o.room == 0 {
		return 0, false
	}
	o.room--
	o.end++
	return o.end, true
}
func (*pipe) Settled(*Session, Stream, uint64)      {}
func (*pipe) RequestFailed(*Session, uint64)        {}
func (*pipe) Outcome(*Session, *Record, bool, bool) {}
func (*pipe) Receivers(*Session, uint64, int)       {}
func (*pipe) StandIn(*Peer, ring.Incarnation)       {}
func (*pipe) AskStandIn(*Peer, *Peer)               {}
func (*pipe) StandInEnded(*Peer)                    {}
func (*pipe) PullTable(*Peer)                       {}
func (*pipe) SessionEnded(*Session)                 {}

// give hands what waits in o to the core at the other side.
func (o *pipe) give(nowNs int64, c *Core, from *Peer, see func(h *wire.Header)) {
	frames := o.out
	o.out = nil
	for i := range frames {
		see(&frames[i])
		c.Frame(nowNs, from, &frames[i], nil)
	}
	c.Flush()
}

// Proves that sessions which together offer far more than a program takes share
// its room: none starves, and what is refused does not outweigh what is taken.
func TestRoomIsShared(t *testing.T) {
	const sessions, inFlight, ringRecords, perStep, steps, stepNs = 300, 64, 1000, 20, 10000, 50_000
	a, b := &pipe{}, &pipe{room: ringRecords}
	slave, server := New(Config{Self: 7, Slave: true}, a), New(Config{Self: 100}, b)
	table := benchTable(t)
	slave.SetView(0, table, 0, nil)
	server.SetView(0, table, 1, nil)
	toServer, toSlave := slave.Peer(100), server.Peer(7)
	slave.PeerUp(0, toServer, 1)
	server.PeerUp(0, toSlave, 0)
	program := server.Attach(0, wire.SessionID{0xff, 0xff}, true)
	senders, seqs := make([]*Session, sessions), make([]uint64, sessions)
	for i := range senders {
		senders[i] = slave.Attach(0, wire.SessionID{byte(i), byte(i >> 8), 1}, false)
	}
	acked := map[wire.SessionID]int{}
	taken := uint64(0)
	for now := int64(stepNs); now <= steps*stepNs; now += stepNs {
		for i, s := range senders {
			for slave.Accepts(s, Requests) > Window-inFlight {
				seqs[i]++
				if err := slave.Submit(now, s, Requests, &Record{Seq: seqs[i], End: seqs[i], Hash: seqs[i]}); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.give(now, server, toSlave, func(*wire.Header) {})
		n := min(b.end-taken, perStep)
		taken += n
		b.room += int(n)
		server.Taken(now, program, taken)
		server.Flush()
		b.give(now, slave, toServer, func(h *wire.Header) {
			if h.Type == wire.TypeAck {
				acked[h.Session]++
			}
		})
		slave.Tick(now)
	}
	least, most := int(taken), 0
	for _, s := range senders {
		least, most = min(least, acked[s.ID()]), max(most, acked[s.ID()])
	}
	t.Logf("taken %d, sent %d, acknowledgements of a session %d to %d", taken, a.sent, least, most)
	if taken < steps*perStep*9/10 {
		t.Errorf("taken %d: the program was idle", taken)
	}
	if least == 0 || most > 30*least {
		t.Errorf("one session got %d acknowledgements, another %d", least, most)
	}
	if a.sent > 4*int(taken) {
		t.Errorf("sent %d messages for %d that were taken", a.sent, taken)
	}
}
