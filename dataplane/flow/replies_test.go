package flow

import (
	"errors"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// answerTo submits a reply of a program to a request of session 1 of a node.
func (r *rig) answerTo(s *Session, seq uint64, node ring.ID, deadlineNs int64) {
	r.t.Helper()
	rec := Record{Seq: seq, End: seq, ToNode: node, ToSession: wire.SessionID{1}, ToSeq: 40 + seq, DeadlineNs: deadlineNs}
	if err := r.c.Submit(r.now, s, Replies, &rec); err != nil {
		r.t.Fatalf("Submit reply %d: %v", seq, err)
	}
}

func replyAcked(stream uint32, base, mask uint64) wire.Header {
	return wire.Header{Type: wire.TypeReplyAck, Attempt: stream, Seq: base, Hash: mask}
}

// Proves that replies go out at once, settle in any order, and go again over a
// new link.
func TestRepliesSettle(t *testing.T) {
	r, s, p := serving(t)
	for seq := uint64(1); seq <= 3; seq++ {
		r.answerTo(s, seq, 7, 0)
	}
	r.gets(p, replyAcked(1, 2, 1))
	r.gets(p, replyAcked(9, 1, 7)) // no such stream
	r.expect("sent, one settled", "REPLY 1 stream 1 to request 41 at 7", "REPLY 2 stream 1 to request 42 at 7", "REPLY 3 stream 1 to request 43 at 7")
	r.c.PeerDown(p)
	r.up(7)
	r.expect("the others go again", "REPLY 1 stream 1 to request 41 at 7", "REPLY 3 stream 1 to request 43 at 7")
	r.gets(p, replyAcked(1, 1, 5))
	r.expect("all settled", "replies settled up to 3")
	if n := r.c.Accepts(s, Replies); n != Window {
		t.Errorf("%d replies may follow, want %d", n, Window)
	}
}

// Proves how long a reply without a way to its asker is held: ReplyHoldNs, or
// its deadline if that is sooner.
func TestRepliesAreHeldThenDropped(t *testing.T) {
	cases := []struct {
		name     string
		deadline int64
		hold     int64
		block    func(r *rig, s *Session, p *Peer)
	}{
		{"no link", 0, 1000 * ms, func(r *rig, _ *Session, p *Peer) { r.c.PeerDown(p) }},
		{"no link, a deadline", 300 * ms, 300 * ms, func(r *rig, _ *Session, p *Peer) { r.c.PeerDown(p) }},
		{"a full link", 0, 1000 * ms, func(r *rig, _ *Session, p *Peer) { r.noLink[p] = true }},
	}
	for _, tc := range cases {
		r, s, p := serving(t)
		tc.block(r, s, p)
		r.answerTo(s, 1, 7, tc.deadline)
		r.pass(tc.hold - 1)
		r.expect(tc.name + ": held")
		r.pass(1)
		want := []string{"replies settled up to 1"}
		if p.up {
			want = []string{"LOST 41 to 7", want[0]} // the asker waits no longer
		}
		r.expect(tc.name+": dropped", want...)
		if n := r.c.Stats().RepliesDropped; n != 1 {
			t.Errorf("%s: %d dropped, want 1", tc.name, n)
		}
	}
	r, s, _ := serving(t)
	r.answerTo(s, 1, 55, 0) // a node that nobody knows
	r.pass(500 * ms)
	r.up(55)
	r.expect("it came in time", "REPLY 1 stream 1 to request 41 at 55")
	r.answerTo(s, 2, 56, r.now-1)
	r.expect("past its deadline, behind one that is out")
	r.gets(r.c.Peer(55), replyAcked(1, 1, 1))
	r.expect("both settled", "replies settled up to 2")
}

// Proves that a refused reply comes back after a back-off, and is dropped when
// the asker refuses it for longer than it is held.
func TestRefusedRepliesBackOff(t *testing.T) {
	r, s, p := serving(t)
	r.answerTo(s, 1, 7, 0)
	r.log = nil
	refuse := wire.Header{Type: wire.TypeReplyLater, Attempt: 1, Seq: 1}
	for _, backoff := range []int64{1, 2, 4} {
		r.gets(p, refuse)
		r.pass(backoff*ms - 1)
		r.expect("too early")
		r.pass(1)
		r.expect("again", "REPLY 1 stream 1 to request 41 at 7")
	}
	for range 100 {
		r.gets(p, refuse)
		r.pass(50 * ms)
	}
	if n := r.c.Stats().RepliesDropped; n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
}

// Proves what the asker's node does with a reply.
func TestReplyArrives(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	reply := func(seq uint64, session byte) wire.Header {
		return wire.Header{Type: wire.TypeReply, Session: wire.SessionID{session}, Seq: seq, Hash: 40 + seq, Attempt: 6}
	}
	r.gets(p, reply(1, 1))
	r.expect("given", "session 1 is given 41", "REPLYACK stream 6 1 mask 1 to 100")
	r.gets(p, reply(2, 9))
	r.expect("its asker is not attached, perhaps not yet again", "REPLYLATER 2 attempt 6 to 100")
	r.noRoom[s] = true
	r.gets(p, reply(3, 1))
	r.expect("no room", "REPLYLATER 3 attempt 6 to 100")
	r.noRoom[s] = false
	h := reply(100, 1)
	r.c.Frame(0, p, &h, nil)
	h.Seq = 164
	r.c.Frame(0, p, &h, nil)
	for stream := range uint32(replyAcksMax) {
		h.Attempt = 10 + stream
		r.c.Frame(0, p, &h, nil)
	}
	given := 2 + replyAcksMax
	if n := len(r.log) - given; n != 1+replyAcksMax {
		t.Errorf("%d acknowledgements before Flush, want %d: the mask, then the streams are full", n, 1+replyAcksMax)
	}
	r.log = nil
	r.c.PeerDown(p)
	r.c.Flush()
	r.expect("a lost link loses them")
}

// Proves that a program's replies outlive it, and its session ends with them.
func TestRepliesOfAnEndedProgram(t *testing.T) {
	r, s, p := serving(t)
	r.answerTo(s, 1, 7, 0)
	if err := r.c.Submit(0, s, Replies, &Record{Seq: 1}); !errors.Is(err, ErrSequence) {
		t.Errorf("the same sequence again: %v", err)
	}
	r.log = nil
	r.c.Detach(0, s)
	r.expect("not yet")
	r.gets(p, replyAcked(1, 1, 1))
	r.expect("settled", "replies settled up to 1", "session 9 ended")
}

// Proves that a node's own link needs no reconnect for a new incarnation, and
// loses nothing by it.
func TestOwnLinkGetsAnotherIncarnation(t *testing.T) {
	r, s, _ := serving(t)
	self := r.up(100)
	r.answerTo(s, 1, 100, 0)
	r.send(s, 1, hashA)
	r.log = nil
	r.incs[0] = 9
	r.view()
	r.expect("the message may have been taken before")
	r.up(100)
	r.expect("it goes again, the reply does not", "MSG 1 attempt 2 low 1 pred 0 to 100 maybe-repeat")
	r.up(100)
	r.expect("twice is once")
	r.gets(self, ack(1, 1))
	r.c.Frame(0, self, &wire.Header{Type: wire.TypeAck, Session: s.ID(), Seq: 1, Hash: 1}, nil)
	r.expect("settled", "messages settled up to 1")
}

// Proves that a reply for a program that has ended is acknowledged: nobody
// waits for it, and whoever sent it must not wait for nobody. One for a program
// that was cut off, and may come back, is refused for now.
func TestRepliesForEndedPrograms(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(r *rig, s *Session)
		want string
	}{
		{"ended", func(r *rig, s *Session) { r.c.Detach(0, s) }, "REPLYACK stream 6 1 mask 1 to 100"},
		{"ended, not all it sent is settled", func(r *rig, s *Session) { r.send(s, 1, hashA); r.c.Detach(0, s) }, "REPLYACK stream 6 1 mask 1 to 100"},
		{"ended, not all it sent is read", func(r *rig, s *Session) { r.c.Withdraw(0, s, false) }, "REPLYACK stream 6 1 mask 1 to 100"},
		{"cut off", func(r *rig, s *Session) { r.c.Withdraw(0, s, true); r.c.Detach(0, s) }, "REPLYLATER 1 attempt 6 to 100"},
		{"ended and came back", func(r *rig, s *Session) { r.c.Detach(0, s); r.attach(1, false); r.noRoom[r.attach(1, false)] = true }, "REPLYLATER 1 attempt 6 to 100"},
	} {
		r := newRig(t, 1)
		s, p := r.attach(1, false), r.up(100)
		tc.end(r, s)
		r.log = nil
		r.gets(p, wire.Header{Type: wire.TypeReply, Session: wire.SessionID{1}, Seq: 1, Hash: 41, Attempt: 6})
		r.expect(tc.name, tc.want)
	}
}

// Proves that no more ended sessions are remembered than goneMax, the newest.
func TestGoneSessionsAreBounded(t *testing.T) {
	var g goneSessions
	id := func(i int) wire.SessionID { return wire.SessionID{byte(i), byte(i >> 8), byte(i >> 16), 1} }
	for i := range 3 * goneMax {
		g.add(id(i))
		g.add(id(i))
	}
	if len(g.ids) != goneMax || len(g.last) != goneMax {
		t.Errorf("%d and %d remembered, want %d", len(g.ids), len(g.last), goneMax)
	}
	for i := range 3 * goneMax {
		if g.has(id(i)) != (i >= 2*goneMax) {
			t.Fatalf("session %d: remembered %t", i, g.has(id(i)))
		}
	}
}

// Proves that replies without a way to their askers give up soon when they
// fill the window: every other asker would wait with them.
func TestWaitingRepliesMakeRoom(t *testing.T) {
	r, s, p := serving(t)
	r.c.PeerDown(p)
	r.pass(1)
	r.answerTo(s, 1, 7, 0)
	r.pass(60 * ms)
	r.log = nil
	for seq := uint64(2); seq < Window; seq++ {
		r.answerTo(s, seq, 7, 0)
	}
	r.pass(30 * ms)
	r.expect("there is room yet")
	r.answerTo(s, Window, 7, 0)
	r.pass(0)
	r.expect("the one that has waited for long makes room", "replies settled up to 1")
	r.pass(19 * ms)
	r.expect("the window is not full any more")
}
