package flow

import (
	"testing"

	"github.com/chmpx/chmpx/wire"
)

// lostFrame says that session 1's request is lost.
func lostFrame(seq uint64) wire.Header { return wire.Header{Type: wire.TypeRequestLost, Seq: seq} }

// asked hands requests 1 to n of session 1 at node 7 to the core.
func (r *rig) asked(p *Peer, n uint64) {
	for seq := uint64(1); seq <= n; seq++ {
		h := r.message(seq, 0, 1, max(seq, 2)-2)
		h.PredDelta = min(h.PredDelta, 1)
		h.Flags = wire.FlagWantsReply
		r.gets(p, h)
	}
	r.log = nil
}

// replyTo submits a reply to a request of session 1 of node 7.
func (r *rig) replyTo(s *Session, seq, request uint64) {
	r.t.Helper()
	rec := Record{Seq: seq, End: seq, ToNode: 7, ToSession: wire.SessionID{1}, ToSeq: request}
	if err := r.c.Submit(r.now, s, Replies, &rec); err != nil {
		r.t.Fatalf("Submit reply %d: %v", seq, err)
	}
}

// Proves that a program's end loses exactly the requests that it took and did
// not answer, that the asker's node hears of them after the acknowledgements,
// and again on each new link until it has said that it knows.
func TestEndedProgramLosesWhatItTook(t *testing.T) {
	r := newRig(t, 100)
	p := r.up(7)
	s := r.attach(9, true)
	r.asked(p, 4)
	r.c.Taken(r.now, s, 3) // 4 is not taken
	r.replyTo(s, 1, 2)
	r.c.Withdraw(r.now, s, false)
	r.c.EndReplies(s)
	r.expect("the program ends",
		"REPLY 1 stream 1 to request 2 at 7", "LATER 4 attempt 1 to 7", "ACK 1 mask 7 to 7", "LOST 1 to 7", "LOST 3 to 7")
	r.c.EndReplies(s)
	r.c.PeerDown(p)
	r.up(7)
	r.c.Tick(r.now)
	r.expect("a new link", "LOST 1 to 7", "LOST 3 to 7", "REPLY 1 stream 1 to request 2 at 7")
	r.gets(p, lostFrame(1))
	h := r.message(3, 0, 1, 0)
	h.Attempt = 2
	r.gets(p, h)
	r.expect("an acknowledgement was lost", "ACK 3 mask 1 to 7", "LOST 3 to 7")
	r.gets(p, lostFrame(3))
	r.c.PeerDown(p)
	r.up(7)
	if len(r.c.lost.list) != 0 || r.c.stats.RequestsLost != 2 {
		t.Errorf("%d remembered, %+v", len(r.c.lost.list), r.c.stats)
	}
}

// Proves what else loses requests, and what forgets that they are lost.
func TestWhatLosesRequests(t *testing.T) {
	tests := []struct {
		name string
		do   func(r *rig, s *Session, p *Peer)
		want int
	}{
		{"answered", func(r *rig, s *Session, p *Peer) { r.replyTo(s, 1, 1); r.replyTo(s, 2, 2) }, 0},
		{"detached", func(*rig, *Session, *Peer) {}, 2},
		{"the reply is dropped", func(r *rig, s *Session, p *Peer) {
			r.noLink[p] = true
			r.replyTo(s, 1, 1)
			r.pass(1000 * ms)
		}, 2},
		{"the program comes back and answers", func(r *rig, _ *Session, p *Peer) {
			s := r.attach(9, true)
			r.replyTo(s, 1, 1)
			r.c.Detach(r.now, s)
		}, 1},
		{"the program comes back as a client", func(r *rig, s *Session, p *Peer) { r.attach(9, false) }, 2},
		{"the asker has ended", func(r *rig, s *Session, p *Peer) {
			r.c.Detach(r.now, s)
			r.gets(p, wire.Header{Type: wire.TypeBye})
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 100)
			p := r.up(7)
			s := r.attach(9, true)
			r.asked(p, 2)
			r.c.Taken(r.now, s, 2)
			tt.do(r, s, p)
			r.c.Detach(r.now, s)
			if n := len(r.c.lost.list); n != tt.want {
				t.Errorf("got %d lost requests, want %d", n, tt.want)
			}
		})
	}
}

// Proves that a request that was restored after a restart of the node is
// watched like one that came over a link.
func TestRestoredRequestIsLost(t *testing.T) {
	r := newRig(t, 100)
	s := r.attach(9, true)
	if got := r.restore(s, Handed{Seq: 5, Flags: wire.FlagWantsReply}); got != "+" {
		t.Fatalf("restored %s", got)
	}
	r.up(1)
	r.c.Taken(r.now, s, r.end)
	r.c.Detach(r.now, s)
	r.expect("its program ends", "LOST 5 to 1", "session 9 ended")
}

// Proves what the asker's node makes of the news: it fails the request once,
// not before the acknowledgement, not after the reply, and says that it knows.
func TestAskerHearsOfLostRequests(t *testing.T) {
	r := newRig(t, 7)
	p := r.up(101)
	s := r.attach(1, false)
	for seq := uint64(1); seq <= 3; seq++ {
		r.send(s, seq, 1, wire.FlagWantsReply)
	}
	r.log = nil
	r.gets(p, lostFrame(1))
	r.expect("before the acknowledgement")
	r.gets(p, ack(1, 7))
	r.gets(p, wire.Header{Type: wire.TypeReply, Seq: 1, Hash: 2, Attempt: 1})
	r.gets(p, lostFrame(1))
	r.gets(p, lostFrame(1))
	r.gets(p, lostFrame(2))
	r.gets(r.up(102), lostFrame(3))
	r.expect("after it", "messages settled up to 3",
		"session 1 is given 2", "REPLYACK stream 1 1 mask 1 to 101",
		"request 1 failed", "LOST 1 to 101", "LOST 1 to 101", "LOST 2 to 101", "LOST 3 to 102")
	r.c.Detach(r.now, s)
	r.log = nil
	r.gets(p, lostFrame(3))
	r.expect("its session has ended", "LOST 3 to 101")
}

// Proves that the requests of a program are watched within a bound.
func TestOpenRequestsAreBounded(t *testing.T) {
	var o openRequests
	id := wire.SessionID{1}
	for seq := uint64(1); seq <= 100_000; seq++ {
		o.add(7, &id, seq)
	}
	if most := openBuckets * len(openBucket{}.slots); o.n > most || o.n < most*9/10 {
		t.Errorf("%d requests are watched, at most %d allowed", o.n, most)
	}
	for seq := uint64(1); seq <= 100_000; seq++ {
		o.del(&id, seq, false)
	}
	if o.n != 0 {
		t.Errorf("%d requests are left", o.n)
	}
}
