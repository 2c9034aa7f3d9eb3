package flow

import (
	"errors"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Hashes of the rig's slots: 0 and 3 belong to server 100, 1 to 101, 2 to 102.
const (
	hashA = 0 // 100
	hashB = 3 // 100, another hash
	hashC = 1 // 101
)

// Proves R1: every transmission names the oldest unsettled sequence, the newest
// unsettled predecessor of the same hash, and counts the attempts.
func TestTransmissionNamesLowPredAndAttempt(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	r.send(s, 1, hashA)
	r.send(s, 2, hashB)
	r.send(s, 5, hashA) // a gap
	r.expect("first transmissions",
		"MSG 1 attempt 1 low 1 pred 0 to 100", "MSG 2 attempt 1 low 1 pred 0 to 100", "MSG 5 attempt 1 low 1 pred 1 to 100")
	r.gets(p, ack(2, 1))
	r.expect("settled out of order: nothing to release")
	r.gets(p, ack(1, 1))
	r.expect("a contiguous prefix, the gap included", "messages settled up to 2")
	r.send(s, 6, hashA)
	r.expect("low has passed the gap", "MSG 6 attempt 1 low 5 pred 5 to 100")
	r.gets(p, ack(5, 3))
	r.send(s, 7, hashA)
	r.expect("all settled", "messages settled up to 6", "MSG 7 attempt 1 low 7 pred 0 to 100")
	r.gets(p, later(7, 1))
	r.pass(ms)
	r.expect("sent again", "MSG 7 attempt 2 low 7 pred 0 to 100")
}

// Proves that the window is what the contract says, whatever the gaps.
func TestWindowBoundsSequences(t *testing.T) {
	r := newRig(t, 1)
	s := r.attach(1, false)
	submit := func(seq uint64) error { return r.c.Submit(0, s, Requests, &Record{Seq: seq, End: seq}) }
	steps := []struct {
		seq     uint64
		err     error
		accepts int // afterwards
	}{
		{0, ErrSequence, Window},
		{5000, nil, Window - 1}, // the first sequence is the library's choice
		{5000, ErrSequence, Window - 1},
		{4000, ErrSequence, Window - 1},
		{5000 + Window, ErrWindow, Window - 1},
		{5010, nil, Window - 11},
		{5000 + Window - 1, nil, 0},
		{5000 + Window, ErrWindow, 0},
	}
	for _, st := range steps {
		if err := submit(st.seq); !errors.Is(err, st.err) {
			t.Errorf("Submit %d: %v, want %v", st.seq, err, st.err)
		}
		if got := r.c.Accepts(s, Requests); got != st.accepts {
			t.Errorf("Accepts after %d: %d, want %d", st.seq, got, st.accepts)
		}
	}
	r.up(100)
	r.expect("the lot goes out in order", "MSG 5000 attempt 1 low 5000 pred 0 to 100",
		"MSG 5010 attempt 1 low 5000 pred 5000 to 100", "MSG 6023 attempt 1 low 5000 pred 5010 to 100")
}

// Proves that a message whose predecessor is out to another peer waits for it:
// it would only be refused.
func TestSuccessorWaitsWhilePredecessorIsElsewhere(t *testing.T) {
	r := newRig(t, 1)
	s, p0 := r.attach(1, false), r.up(100)
	r.up(101)
	r.send(s, 1, hashA)
	r.owners[0] = 1 // slot 0 moves to 101
	r.view()
	r.send(s, 2, hashA)
	r.send(s, 3, hashC)
	r.expect("2 waits, another hash does not", "MSG 1 attempt 1 low 1 pred 0 to 100", "MSG 3 attempt 1 low 1 pred 0 to 101")
	r.gets(p0, ack(1, 1))
	r.expect("then goes to the new owner", "messages settled up to 1", "MSG 2 attempt 1 low 2 pred 0 to 101")
}

// Proves R4 for LATER: only the present attempt counts; the whole pair of
// session and peer is held; ROOM or a doubling back-off lifts it.
func TestLaterHoldsThePair(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	r.up(101)
	r.send(s, 1, hashA)
	r.log = nil
	r.gets(p, later(1, 7))
	r.pass(100 * ms)
	r.expect("a refusal of another attempt is ignored")
	for i, backoff := range []int64{1, 2, 4, 8, 16, 32, 50, 50} {
		r.gets(p, later(1, uint32(i+1)))
		r.pass(backoff*ms*3/4 - 1)
		if len(r.log) != 0 {
			t.Errorf("refusal %d: sent before its back-off of %d ms: %v", i+1, backoff, r.log)
		}
		r.log = nil
		r.pass(backoff*ms - backoff*ms*3/4 + 1)
		if len(r.log) != 1 {
			t.Errorf("refusal %d: not sent after %d ms: %v", i+1, backoff, r.log)
		}
		r.log = nil
	}
	r.gets(p, later(1, 9))
	r.send(s, 2, hashB)
	r.send(s, 3, hashC)
	r.expect("the pair is held, other peers are not", "MSG 3 attempt 1 low 1 pred 0 to 101")
	r.gets(p, wire.Header{Type: wire.TypeRoom})
	r.expect("ROOM", "MSG 1 attempt 10 low 1 pred 0 to 100", "MSG 2 attempt 1 low 1 pred 0 to 100")
	r.gets(p, ack(1, 1))
	r.gets(p, later(2, 1))
	r.log = nil
	r.pass(ms)
	r.expect("the back-off starts anew after an ACK", "MSG 2 attempt 2 low 2 pred 0 to 100")
}

// Proves that a refusal is followed by one trial, then two, four ..., not by
// the whole backlog.
func TestBackoffTriesFewFirst(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	for seq := uint64(1); seq <= 100; seq++ {
		r.send(s, seq, hashA)
	}
	for seq := uint64(1); seq <= 100; seq++ {
		r.gets(p, later(seq, 1))
	}
	r.log = nil
	for _, want := range []int{1, 2, 4, 8, 16, 32, 37, 0} {
		r.pass(ms)
		if len(r.log) != want {
			t.Errorf("got %d messages, want %d", len(r.log), want)
		}
		r.log = nil
	}
}

// Proves R4 for MOVED: not before our table is at the epoch named; a refusal
// by the owner that our table names as well is a LATER.
func TestMovedWaitsForTheTable(t *testing.T) {
	r := newRig(t, 1)
	s, p0 := r.attach(1, false), r.up(100)
	p1 := r.up(101)
	r.send(s, 1, hashA)
	r.send(s, 2, hashA)
	r.log = nil
	r.gets(p0, moved(1, 1, 2))
	r.gets(p0, moved(2, 1, 2))
	r.expect("the newer table is asked for, once", "pull the table of 100")
	r.pass(40 * ms)
	r.gets(p0, wire.Header{Type: wire.TypeRoom})
	r.expect("nothing helps but the table")
	r.pass(10 * ms)
	r.expect("which is asked for again", "pull the table of 100")
	r.owners[0] = 1
	r.view() // epoch 2
	r.expect("to the new owner, in order", "MSG 1 attempt 2 low 1 pred 0 to 101", "MSG 2 attempt 2 low 1 pred 1 to 101")
	r.gets(p1, moved(1, 2, 1))
	r.expect("its table is older than ours: it will learn")
	r.pass(ms)
	r.expect("a trial after the back-off", "MSG 1 attempt 3 low 1 pred 0 to 101")
	if r.pass(100 * ms); r.c.Stats().TablePulls != 2 {
		t.Errorf("%d tables pulled, want 2", r.c.Stats().TablePulls)
	}
}

// Proves R5 for links: a broken one changes nothing, and the same incarnation
// gets everything again, in order and unmarked.
func TestReconnectSendsAgain(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	r.send(s, 1, hashA)
	r.send(s, 2, hashB)
	r.send(s, 3, hashA)
	r.gets(p, ack(1, 1))
	r.log = nil
	r.c.PeerDown(p)
	r.send(s, 4, hashA)
	r.owners[0] = 1 // slot 0 has moved meanwhile; 100 is still UP
	r.up(101)
	r.view()
	r.pass(100 * ms)
	r.expect("what is out stays out, successors wait")
	r.noLink[p] = true
	r.up(100)
	r.expect("a full link: it stays there, it may have been taken")
	r.noLink[p] = false
	r.c.PeerRoom(r.now, p)
	r.expect("again, to the old owner", "MSG 2 attempt 2 low 2 pred 0 to 100", "MSG 3 attempt 2 low 2 pred 0 to 100")
	r.gets(p, ack(2, 3))
	r.expect("then the next to the new one", "messages settled up to 3", "MSG 4 attempt 1 low 4 pred 0 to 101")
}

// Proves R5 for ends: a destination that is another incarnation, DOWN or no
// member any more may have taken its messages. They go elsewhere, marked.
func TestEndedDestinationMeansMaybeRepeat(t *testing.T) {
	cases := []struct {
		name string
		end  func(r *rig, p *Peer)
	}{
		{"another incarnation in the hello", func(r *rig, p *Peer) {
			r.c.PeerDown(p)
			r.c.PeerUp(r.now, p, 9)
			r.owners[0], r.owners[3] = 1, 1
			r.view()
		}},
		{"DOWN in the table, the link still up", func(r *rig, _ *Peer) {
			r.incs[0] = 0
			r.owners[0], r.owners[3] = 1, 1
			r.view()
		}},
		{"another incarnation in the table", func(r *rig, _ *Peer) {
			r.incs[0] = 9
			r.owners[0], r.owners[3] = 1, 1
			r.view()
		}},
		{"no member", func(r *rig, _ *Peer) {
			table := r.table()
			servers := append([]ring.Server(nil), table.Servers[1:]...)
			base := ring.NewAssignment(1, 1)
			base.Owners[0], base.InSync[0] = 1, 1
			gone, err := ring.NewTable(ring.Table{Epoch: table.Epoch, Servers: servers, Base: base})
			if err != nil {
				r.t.Fatal(err)
			}
			r.c.SetView(r.now, gone, 0, nil)
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, 1)
			s, p := r.attach(1, false), r.up(100)
			r.up(101)
			r.send(s, 1, hashA)
			r.send(s, 2, hashB)
			r.gets(p, later(2, 1)) // was refused: surely not taken
			r.log = nil
			tc.end(r, p)
			r.expect("to the next owner", "MSG 1 attempt 2 low 1 pred 0 to 101 maybe-repeat", "MSG 2 attempt 2 low 1 pred 0 to 101")
			r.gets(r.c.Peer(101), later(1, 2))
			r.log = nil
			r.pass(ms)
			r.expect("the mark stays", "MSG 1 attempt 3 low 1 pred 0 to 101 maybe-repeat")
		})
	}
}

// Proves that nothing goes to a server whose link, hello and table do not agree.
func TestNothingGoesToAStranger(t *testing.T) {
	r := newRig(t, 1)
	s := r.attach(1, false)
	r.send(s, 1, hashA)
	r.expect("no link")
	p := r.c.Peer(100)
	r.c.PeerUp(0, p, 9)
	r.expect("the table does not know this incarnation")
	r.incs[0] = 9
	r.view()
	r.expect("now it does", "MSG 1 attempt 1 low 1 pred 0 to 100")
}

// Proves that an unsent message ends at its deadline, and that its successor
// does not wait for it.
func TestDeadlineEndsUnsentMessages(t *testing.T) {
	r := newRig(t, 1)
	s := r.attach(1, false)
	if err := r.c.Submit(0, s, Requests, &Record{Seq: 1, End: 1, DeadlineNs: 10 * ms}); err != nil {
		t.Fatal(err)
	}
	r.send(s, 2, hashA)
	if !r.c.Waiting() {
		t.Error("a deadline does not make the core wait for time")
	}
	r.pass(9 * ms)
	r.expect("not yet")
	r.pass(ms)
	r.expect("expired", "message 1 delivered false maybe false", "messages settled up to 1")
	r.up(100)
	r.expect("the next one goes", "MSG 2 attempt 1 low 2 pred 0 to 100")
	if err := r.c.Submit(r.now, s, Requests, &Record{Seq: 3, End: 3, DeadlineNs: 1}); err != nil {
		t.Fatal(err)
	}
	r.gets(r.c.Peer(100), ack(2, 1))
	r.expect("expired when submitted", "message 3 delivered false maybe false", "messages settled up to 3")
	if n := r.c.Stats().Expired; n != 2 {
		t.Errorf("%d expired, want 2", n)
	}
}

// Proves that a request whose server ends between taking it and replying
// fails, and none else.
func TestRequestsFailWithTheirServer(t *testing.T) {
	reply := wire.Header{Type: wire.TypeReply, Seq: 1, Hash: 1, Attempt: 1}
	cases := []struct {
		name string
		play func(r *rig, p *Peer)
		want []string
	}{
		{"taken, then DOWN", func(r *rig, p *Peer) {
			r.gets(p, ack(1, 1))
			r.incs[0] = 0
			r.view()
		}, []string{"messages settled up to 1", "request 1 failed"}},
		{"taken, then another incarnation", func(r *rig, p *Peer) {
			r.gets(p, ack(1, 1))
			r.c.PeerDown(p)
			r.c.PeerUp(r.now, p, 9)
		}, []string{"messages settled up to 1", "request 1 failed"}},
		{"taken by one that is DOWN already", func(r *rig, p *Peer) {
			r.incs[0] = 0
			r.view()
			r.gets(p, ack(1, 1))
		}, []string{"request 1 failed", "messages settled up to 1"}},
		{"answered", func(r *rig, p *Peer) {
			r.gets(p, ack(1, 1))
			r.gets(p, reply)
			r.incs[0] = 0
			r.view()
		}, []string{"messages settled up to 1", "session 1 is given 1", "REPLYACK stream 1 1 mask 1 to 100"}},
		{"answered before acknowledged", func(r *rig, p *Peer) {
			r.gets(p, reply)
			r.gets(p, ack(1, 1))
			r.incs[0] = 0
			r.view()
		}, []string{"session 1 is given 1", "REPLYACK stream 1 1 mask 1 to 100", "messages settled up to 1"}},
		{"only a new link", func(r *rig, p *Peer) {
			r.gets(p, ack(1, 1))
			r.c.PeerDown(p)
			r.up(100)
			r.view()
		}, []string{"messages settled up to 1"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, 1)
			s, p := r.attach(1, false), r.up(100)
			r.send(s, 1, hashA, wire.FlagWantsReply)
			r.log = nil
			tc.play(r, p)
			r.expect("events", tc.want...)
		})
	}
}

// Proves that a session whose program ended goes on until all is settled, then
// says goodbye to whom it has sent to.
func TestDetachedSessionEndsWhenSettled(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	r.up(101)
	r.send(s, 1, hashA)
	r.log = nil
	r.c.Detach(0, s)
	r.c.Detach(0, s)
	r.expect("not while a message is out")
	r.gets(p, ack(1, 1))
	r.expect("settled", "messages settled up to 1", "BYE to 100", "session 1 ended")
	r.c.Detach(0, s)
	if err := r.c.Submit(0, s, Requests, &Record{Seq: 2}); !errors.Is(err, ErrEnded) || r.c.Accepts(s, Requests) != 0 {
		t.Errorf("Submit after the end: %v", err)
	}
	r.c.Detach(0, r.attach(2, false))
	r.expect("nothing sent, nobody to tell", "session 2 ended")
}

// Proves what Attach promises when a library comes back: the old session ends
// at once, and what is submitted again is marked and counts its attempts on.
func TestComingBackTakesTheSessionOver(t *testing.T) {
	for _, detached := range []bool{false, true} {
		r := newRig(t, 1)
		s, p := r.attach(1, false), r.up(100)
		r.send(s, 1, hashA)
		r.send(s, 2, hashA)
		r.gets(p, later(2, 1))
		r.log = nil
		if detached {
			r.c.Detach(0, s)
		}
		s2 := r.attach(1, false)
		r.expect("no goodbye", "session 1 ended")
		r.send(s2, 1, hashA)
		r.send(s2, 2, hashA)
		r.send(s2, 3, hashA)
		r.expect("again", "MSG 1 attempt 2 low 1 pred 0 to 100 maybe-repeat", "MSG 2 attempt 2 low 1 pred 1 to 100 maybe-repeat",
			"MSG 3 attempt 2 low 1 pred 2 to 100")
		r.gets(p, later(1, 1))
		r.gets(p, ack(1, 7))
		r.expect("a refusal of the old session's attempt is ignored", "messages settled up to 3")
		r.c.Detach(0, s)
		r.c.Detach(0, s2)
		r.expect("one goodbye", "BYE to 100", "session 1 ended")
	}
}

// Proves that a pair which is refused once comes back to full rate when its
// messages are taken again.
func TestLimitIsLiftedByAcknowledgements(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	for seq := uint64(1); seq <= 1000; seq++ {
		r.send(s, seq, hashA)
	}
	for seq := uint64(1); seq <= 1000; seq++ {
		r.gets(p, later(seq, 1))
	}
	r.log = nil
	r.gets(p, wire.Header{Type: wire.TypeRoom})
	sent := len(r.log)
	if sent != roomCredit {
		t.Errorf("%d messages after ROOM, want %d", sent, roomCredit)
	}
	acked := 0
	for rounds := 0; sent < 1000; rounds++ {
		if rounds == 10 {
			t.Fatalf("%d of 1000 sent after %d round trips", sent, rounds)
		}
		r.log = nil
		for upTo := sent; acked < upTo; acked++ {
			r.gets(p, ack(uint64(acked)+1, 1))
		}
		for _, line := range r.log {
			if line[:3] == "MSG" {
				sent++
			}
		}
	}
	for ; acked < 1000; acked++ {
		r.gets(p, ack(uint64(acked)+1, 1))
	}
	if pr := s.known(p); pr.limited {
		t.Errorf("still limited to %d", pr.credit)
	}
}

// Proves that hashes which share a chain are told apart, and that the rest of
// the deadline travels with the message.
func TestPredecessorAmongOtherHashes(t *testing.T) {
	same := []uint64{0}
	for h := uint64(4); len(same) < 2; h += 4 {
		if chainOf(h) == chainOf(0) {
			same = append(same, h)
		}
	}
	r := newRig(t, 1)
	s := r.attach(1, false)
	r.up(100)
	r.send(s, 1, same[0])
	r.send(s, 2, same[1])
	r.send(s, 3, same[0])
	r.expect("chained", "MSG 1 attempt 1 low 1 pred 0 to 100", "MSG 2 attempt 1 low 1 pred 0 to 100", "MSG 3 attempt 1 low 1 pred 1 to 100")
	for _, tc := range []struct {
		now, deadline int64
		want          uint32
	}{{5, 0, 0}, {0, 1, 1}, {0, ms, 1}, {0, ms + 1, 2}, {2 * ms, ms, 1}, {0, 1 << 62, 1<<32 - 1}} {
		if got := remaining(tc.now, tc.deadline); got != tc.want {
			t.Errorf("remaining(%d, %d) = %d, want %d", tc.now, tc.deadline, got, tc.want)
		}
	}
}

// Proves that a key which its peer refuses each time does not have every
// trial: the session's other keys at that peer go on.
func TestStuckKeyLetsOthersPass(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	r.send(s, 1, hashA)
	r.gets(p, later(1, 1))
	const others = 200
	for seq := uint64(2); seq < 2+others; seq++ {
		r.send(s, seq, 4*seq) // of the same owner
	}
	stuck, passed := 0, 0
	for range 1000 {
		r.pass(ms)
		for seq := uint64(1); seq < 2+others; seq++ {
			switch e := s.requests.at(seq); {
			case e == nil || e.state != out:
			case seq == 1:
				stuck++
				r.gets(p, later(1, e.attempt))
			default:
				passed++
				r.gets(p, ack(seq, 1))
			}
		}
	}
	if stuck < 10 || passed != others {
		t.Errorf("in 1 s the stuck key was tried %d times, %d of %d others passed", stuck, passed, others)
	}
}

// Proves when a message that is given up at its deadline may have been taken:
// when it was out at a server that ended or was declared down, not when it was
// refused or never sent. One that is out is not given up.
func TestUndeliveredMaybe(t *testing.T) {
	tests := []struct {
		name string
		do   func(r *rig, p *Peer)
		want []string
	}{
		{"never sent", func(r *rig, p *Peer) { r.c.PeerDown(p) }, []string{"message 1 delivered false maybe false", "messages settled up to 1"}},
		{"refused", func(r *rig, p *Peer) { r.gets(p, later(1, 1)) }, []string{"message 1 delivered false maybe false", "messages settled up to 1"}},
		{"refused by one that forgot the session", func(r *rig, p *Peer) {
			h := later(1, 1)
			h.Flags = wire.FlagMaybeRepeat
			r.gets(p, h)
		}, []string{"message 1 delivered false maybe true", "messages settled up to 1"}},
		{"its server is down", func(r *rig, _ *Peer) { r.incs[1] = 0; r.view() }, []string{"message 1 delivered false maybe true", "messages settled up to 1"}},
		{"out", func(*rig, *Peer) {}, nil},
		{"out over a link that is gone", func(r *rig, p *Peer) { r.c.PeerDown(p) }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 7)
			p := r.up(101)
			s := r.attach(1, false)
			if tt.name == "never sent" {
				tt.do(r, p)
			}
			if err := r.c.Submit(r.now, s, Requests, &Record{Seq: 1, End: 1, Hash: 1, DeadlineNs: 10 * ms}); err != nil {
				t.Fatal(err)
			}
			if tt.name != "never sent" {
				tt.do(r, p)
			}
			r.noLink[p] = true // else it is sent again before the deadline
			r.log = nil
			r.pass(10 * ms)
			r.expect("at the deadline", tt.want...)
		})
	}
}
