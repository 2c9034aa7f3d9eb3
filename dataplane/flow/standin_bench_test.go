package flow

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// cutCore returns a slave's core that has had no way to one of four servers for long, with
// messages in the windows of many sessions: all of them for that server, which nobody
// stands in for, or none.
func cutCore(tb testing.TB, sessions, messages int, forCut bool) *Core {
	const servers, width = 4, 2
	base := ring.NewAssignment(ring.DefaultSlots, width)
	var list []ring.Server
	for i := range servers {
		list = append(list, ring.Server{ID: ring.ID(100 + i), Number: uint16(i), Status: ring.ServiceIn | ring.Up, Incarnation: 1})
	}
	for slot := range base.InSync {
		base.InSync[slot] = 1<<width - 1
		for k := range width {
			base.Owners[slot*width+k] = uint16((slot + k) % servers)
		}
	}
	t, err := ring.NewTable(ring.Table{Epoch: ring.Epoch{Era: 1, Index: 1}, Servers: list, Base: base})
	if err != nil {
		tb.Fatal(err)
	}
	c := New(Config{Self: 7, Slave: true, StandInNs: 1e9}, &nullPorts{})
	c.SetView(0, t, 0, nil)
	for i := 1; i < servers; i++ {
		c.PeerUp(0, c.Peer(ring.ID(100+i)), 1)
	}
	for i := range sessions {
		var id wire.SessionID
		binary.LittleEndian.PutUint64(id[:], uint64(i+1))
		s := c.Attach(0, id, false)
		for m := range messages {
			r := Record{Seq: uint64(m + 1), Size: 128, End: uint64(m+1) * 160, Hash: uint64(i*messages+m) * servers}
			if !forCut {
				r.Hash += uint64(1 + m%(servers-1))
			}
			if err := c.Submit(0, s, Requests, &r); err != nil {
				tb.Fatal(err)
			}
		}
	}
	c.Tick(0)
	c.Tick(1e9)
	if c.cuts != 1 {
		tb.Fatal("nobody is cut off")
	}
	return c
}

// askedPorts counts the questions for stand-ins.
type askedPorts struct {
	nullPorts
	asked int
}

func (o *askedPorts) AskStandIn(*Peer, *Peer) { o.asked++ }

// Proves that a node with many messages looks through a part of them at once for those
// whose owner is cut off, and that each has its turn.
func TestLooksAtAllSessions(t *testing.T) {
	const sessions = 4 * (lookMax/1001 + 1)
	c := cutCore(t, sessions, 1000, false)
	ports := &askedPorts{}
	c.ports = ports
	s := c.sessions[sessions/2]
	if err := c.Submit(1e9, s, Requests, &Record{Seq: 1001, Size: 128, End: 1001 * 160, Hash: 0}); err != nil {
		t.Fatal(err)
	}
	parts := 0
	for i := range int64(8) {
		before := ports.asked
		c.Tick(1e9 + (i+1)*50e6)
		parts += ports.asked - before
	}
	if parts != 2 {
		t.Errorf("asked %d times in 8 looks at a quarter of the messages each, want 2", parts)
	}
}

// BenchmarkCutOff measures what a node does each 50 ms while a server is cut off
// and nobody stands in for it.
func BenchmarkCutOff(b *testing.B) {
	for _, size := range [][2]int{{10_000, 1}, {10_000, 16}, {100, 1000}} {
		for _, forCut := range []bool{true, false} {
			b.Run(fmt.Sprintf("sessions=%d/messages=%d/waiting=%v", size[0], size[1], forCut), func(b *testing.B) {
				c := cutCore(b, size[0], size[1], forCut)
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					c.Tick(1e9 + int64(i+1)*50e6)
				}
			})
		}
	}
}
