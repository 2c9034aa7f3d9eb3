package dataplane

import (
	"bytes"
	"testing"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// noPorts is a world in which nothing happens.
type noPorts struct{}

func (noPorts) Transmit(*flow.Peer, *wire.Header, bool) {}
func (noPorts) TransmitRecord(*flow.Peer, *wire.Header, *flow.Session, flow.Stream, *flow.Record) bool {
	return true
}
func (noPorts) Deliver(*flow.Session, *flow.Delivery) (uint64, bool) { return 0, false }
func (noPorts) Settled(*flow.Session, flow.Stream, uint64)           {}
func (noPorts) Outcome(*flow.Session, *flow.Record, bool, bool)      {}
func (noPorts) Receivers(*flow.Session, uint64, int)                 {}
func (noPorts) RequestFailed(*flow.Session, uint64)                  {}
func (noPorts) StandIn(*flow.Peer, ring.Incarnation)                 {}
func (noPorts) AskStandIn(*flow.Peer, *flow.Peer)                    {}
func (noPorts) StandInEnded(*flow.Peer)                              {}
func (noPorts) PullTable(*flow.Peer)                                 {}
func (noPorts) SessionEnded(*flow.Session)                           {}

// handedSegment returns a segment of a server program as a node leaves it: some
// untaken messages, replies, and messages that it sends.
func handedSegment(f *testing.F, id wire.SessionID) []byte {
	mem := make([]byte, shm.SegmentBytes(shm.RingBytesMin))
	seg, err := shm.Format(mem, id, shm.RingBytesMin)
	if err != nil {
		f.Fatal(err)
	}
	put := func(d shm.Direction, c shm.Class, n int, fill func(b []byte)) {
		p := seg.Producer(d, c)
		rec, ok, err := p.Reserve(n)
		if !ok || err != nil {
			f.Fatal(ok, err)
		}
		fill(rec)
		p.Commit()
		p.Publish()
	}
	for i := range uint64(10) {
		put(shm.ToProgram, shm.Request, wire.InRequestBytes+int(i)*9, func(b []byte) {
			(&wire.InRequest{Seq: 1 + i/2, Hash: i, From: 0x100 + ring.ID(i%2), Session: wire.SessionID{byte(1 + i%2)}, Kind: wire.Kind(i % 4)}).Put(b)
		})
		put(shm.ToNode, shm.Request, wire.OutRequestBytes+8, func(b []byte) { (&wire.OutRequest{Seq: i + 1, Hash: i}).Put(b) })
		put(shm.ToNode, shm.Reply, wire.OutReplyBytes, func(b []byte) {
			(&wire.OutReply{Seq: i + 1, ToNode: 5, ToSession: wire.SessionID{7}, ToSeq: i + 1}).Put(b)
		})
		put(shm.ToProgram, shm.Reply, 20, func(b []byte) { wire.PutInReply(b, i+1) })
	}
	return mem
}

// FuzzHandedBack proves that no content of a segment that is handed back does
// harm: it is refused, or what is left for the program are exactly the records
// that the core keeps, marked, and each is counted once when it is taken.
func FuzzHandedBack(f *testing.F) {
	const cursors, data = 1024, 4096 // where they begin, see shm
	id := wire.SessionID{0xaa}
	table, err := ring.NewTable(ring.Table{
		Group: "test", RingID: 7, Epoch: ring.Epoch{Era: 1, Index: 5}, Version: 5,
		Servers: []ring.Server{
			{ID: 0x100, Number: 0, Identity: ring.Identity{Name: "a"}, Addr: "a:1", Status: ring.ServiceIn | ring.Up, Incarnation: 3},
			{ID: 0x101, Number: 1, Identity: ring.Identity{Name: "b"}, Addr: "b:1", Status: ring.ServiceIn | ring.Up, Incarnation: 3},
		},
		Base: ring.Interleaved(4, 1, []uint16{0, 1}),
	})
	if err != nil {
		f.Fatal(err)
	}
	good := handedSegment(f, id)
	const inRequests = data + shm.ControlRingBytes*2 + 3*shm.RingBytesMin
	f.Add(good[cursors:data], good[inRequests:inRequests+2048], good[data+shm.ControlRingBytes:][:1024])
	f.Add(good[cursors:data], bytes.Repeat([]byte{0, 0, 0, 0, 1, 0x4d, 0xc0, 0x7e}, 30), []byte{})
	f.Add(bytes.Repeat([]byte{8}, 64), []byte{1}, []byte{2})
	f.Fuzz(func(t *testing.T, at, in, out []byte) {
		mem := bytes.Clone(good)
		copy(mem[cursors:data], at)
		copy(mem[inRequests:], in)
		copy(mem[data+shm.ControlRingBytes:inRequests], out)
		seg, err := shm.Open(mem)
		if err != nil {
			return
		}
		h, err := checkHandedBack(seg, id)
		if err != nil {
			return
		}
		core := flow.New(flow.Config{Self: 0x100}, noPorts{})
		core.SetView(0, table, 3, nil)
		s := core.Attach(0, id, true)
		keep := make([]bool, len(h.at))
		core.Restore(0, s, h.untaken, keep)
		kept, err := h.settle(keep)
		if err != nil {
			t.Fatal(err)
		}
		program := seg.Consumer(shm.ToProgram, shm.Request)
		for i, want := range keep {
			if !want {
				continue
			}
			rec, pos, end, ok, err := program.Next()
			var q wire.InRequest
			if err == nil && ok {
				_, err = q.Get(rec)
			}
			if !ok || err != nil || pos != h.at[i] || q.Flags&wire.FlagMaybeRepeat == 0 || q.Seq != h.untaken[i].Seq {
				t.Fatalf("record %d: %+v at %d, %v; want %+v at %d, marked", i, q, pos, err, h.untaken[i], h.at[i])
			}
			program.Release(end)
			core.Taken(0, s, end)
		}
		if _, _, _, ok, err := program.Next(); ok || err != nil {
			t.Fatalf("a record that was struck out is still there, or %v", err)
		}
		if st := core.Stats(); st.Taken != uint64(kept) || core.Delivered(s) {
			t.Fatalf("%d taken of %d kept", st.Taken, kept)
		}
		core.Detach(0, s)
		core.Flush()
	})
}
