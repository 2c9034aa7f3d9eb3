package flow

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// serving is a rig of server 100 with one program, session 9, and a link from node 7.
func serving(t *testing.T) (*rig, *Session, *Peer) {
	r := newRig(t, 100)
	return r, r.attach(9, true), r.up(7)
}

// takeAll lets a program take what it has been given.
func (r *rig) takeAll(s *Session) {
	r.c.Taken(r.now, s, r.end)
	r.c.Flush()
}

// Proves R2: what a receiver answers, in the order of the rules.
func TestReceiverRules(t *testing.T) {
	newer := ring.Epoch{Era: 1, Index: 9}
	cases := []struct {
		name   string
		before func(r *rig, s *Session, p *Peer)
		h      func(r *rig) wire.Header
		want   []string
	}{
		{"a new message of ours is accepted, silently", nil,
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, []string{"session 9 is given 5"}},
		{"below low: ACK", func(r *rig, _ *Session, p *Peer) { r.gets(p, r.message(5, hashA, 5, 0)) },
			func(r *rig) wire.Header { return r.message(4, hashA, 4, 0) }, []string{"ACK 4 mask 1 to 7"}},
		{"taken: ACK", func(r *rig, s *Session, p *Peer) { r.gets(p, r.message(5, hashA, 3, 0)); r.takeAll(s) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, []string{"ACK 5 mask 1 to 7"}},
		{"taken, whatever the epoch: ACK", func(r *rig, s *Session, p *Peer) { r.gets(p, r.message(5, hashA, 3, 0)); r.takeAll(s) },
			func(r *rig) wire.Header { h := r.message(5, hashA, 3, 0); h.Epoch = newer; return h }, []string{"ACK 5 mask 1 to 7"}},
		{"accepted, not taken: silence", func(r *rig, _ *Session, p *Peer) { r.gets(p, r.message(5, hashA, 3, 0)) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, nil},
		{"a newer epoch: LATER, and its table is pulled", nil,
			func(r *rig) wire.Header { h := r.message(5, hashA, 3, 0); h.Epoch = newer; return h },
			[]string{"pull the table of 7", "LATER 5 attempt 1 to 7"}},
		{"an older epoch of this incarnation is fine", func(r *rig, _ *Session, _ *Peer) { r.view() },
			func(r *rig) wire.Header { h := r.message(5, hashA, 3, 0); h.Epoch.Index--; return h }, []string{"session 9 is given 5"}},
		{"not the owner: MOVED", nil,
			func(r *rig) wire.Header { return r.message(5, hashC, 3, 0) }, []string{"MOVED 5 attempt 1 epoch 1 to 7"}},
		{"not admitted: MOVED", func(r *rig, _ *Session, _ *Peer) { r.c.SetView(0, r.table(), 0, nil) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, []string{"MOVED 5 attempt 1 epoch 2 to 7"}},
		{"from before our admission: MOVED", func(r *rig, _ *Session, _ *Peer) { r.incs[0] = 9; r.view() },
			func(r *rig) wire.Header { h := r.message(5, hashA, 3, 0); h.Epoch.Index--; return h }, []string{"MOVED 5 attempt 1 epoch 2 to 7"}},
		{"sealed: LATER", func(r *rig, _ *Session, _ *Peer) { r.view(0) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, []string{"LATER 5 attempt 1 to 7"}},
		{"another slot than the sealed one", func(r *rig, _ *Session, _ *Peer) { r.view(0) },
			func(r *rig) wire.Header { return r.message(5, hashB, 3, 0) }, []string{"session 9 is given 5"}},
		{"no program: LATER", func(r *rig, s *Session, _ *Peer) { r.c.Detach(0, s); r.log = nil },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, []string{"LATER 5 attempt 1 to 7"}},
		{"no room: LATER", func(r *rig, s *Session, _ *Peer) { r.noRoom[s] = true },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 0) }, []string{"LATER 5 attempt 1 to 7"}},
		{"predecessor unknown: LATER", nil,
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 4) }, []string{"LATER 5 attempt 1 to 7"}},
		{"predecessor accepted", func(r *rig, _ *Session, p *Peer) { r.gets(p, r.message(4, hashA, 3, 0)) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 4) }, []string{"session 9 is given 5"}},
		{"predecessor taken", func(r *rig, s *Session, p *Peer) { r.gets(p, r.message(4, hashA, 3, 0)); r.takeAll(s) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 4) }, []string{"session 9 is given 5"}},
		{"predecessor below a low that came by another frame", func(r *rig, _ *Session, p *Peer) { r.gets(p, r.message(6, hashA, 5, 0)) },
			func(r *rig) wire.Header { return r.message(5, hashA, 3, 4) }, []string{"session 9 is given 5"}},
		{"past the window: ignored", func(r *rig, _ *Session, p *Peer) { r.gets(p, r.message(5, hashA, 5, 0)) },
			func(r *rig) wire.Header {
				h := r.message(5+Window, hashA, 6, 0)
				h.LowDelta = Window
				return h
			}, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r, s, p := serving(t)
			if tc.before != nil {
				tc.before(r, s, p)
			}
			r.log = nil
			r.gets(p, tc.h(r))
			r.expect("answer", tc.want...)
		})
	}
}

// Proves R3: acknowledged when the head has passed a record, gathered into as
// few frames as possible; withdrawn with the last attempt when its program ends.
func TestAcknowledgedWhenTaken(t *testing.T) {
	r, s, p := serving(t)
	for seq := uint64(10); seq < 15; seq++ {
		r.gets(p, r.message(seq, hashA, 10, 0))
	}
	if !r.c.Delivered(s) || !r.c.Waiting() {
		t.Error("untaken records do not make the head worth looking at")
	}
	r.log = nil
	r.c.Taken(0, s, 2)
	r.expect("not before Flush")
	r.c.Flush()
	r.expect("two taken", "ACK 10 mask 3 to 7")
	h := r.message(12, hashA, 10, 0)
	h.Attempt = 4
	r.gets(p, h)
	r.c.Detach(0, s)
	r.expect("the rest is withdrawn", "LATER 12 attempt 4 to 7", "LATER 13 attempt 1 to 7", "LATER 14 attempt 1 to 7", "session 9 ended")
	r.attach(8, true)
	r.expect("one ROOM for the session", "ROOM to 7")
	r.gets(p, r.message(13, hashA, 10, 12))
	r.expect("its predecessor is not here any more", "LATER 13 attempt 1 to 7")
	r.gets(p, r.message(12, hashA, 10, 0))
	r.expect("accepted anew", "session 8 is given 12")
}

// Proves that refusals of a broken link are not sent on the next one: the
// sender transmits everything again, under other attempts.
func TestWithdrawnOverAnotherLink(t *testing.T) {
	r, s, p := serving(t)
	r.gets(p, r.message(1, hashA, 1, 0))
	r.gets(p, r.message(2, hashA, 1, 1))
	r.c.PeerDown(p)
	r.up(7)
	h := r.message(1, hashA, 1, 0)
	h.Attempt = 2
	r.gets(p, h)
	r.log = nil
	r.c.Detach(0, s)
	r.expect("only what came over this link", "LATER 1 attempt 2 to 7", "session 9 ended")
}

// Proves that acknowledgements of any order fit into base and mask, and that a
// frame goes out when they do not.
func TestAcknowledgementsGather(t *testing.T) {
	cases := []struct {
		name string
		seqs []uint64
		want []string
	}{
		{"in order", []uint64{100, 101, 102}, []string{"ACK 100 mask 7 to 7"}},
		{"backwards", []uint64{102, 100, 101}, []string{"ACK 100 mask 7 to 7"}},
		{"the whole mask", []uint64{163, 100}, []string{"ACK 100 mask 8000000000000001 to 7"}},
		{"one too far", []uint64{100, 164}, []string{"ACK 100 mask 1 to 7", "ACK 164 mask 1 to 7"}},
		{"one too far back", []uint64{164, 100}, []string{"ACK 164 mask 1 to 7", "ACK 100 mask 1 to 7"}},
	}
	for _, tc := range cases {
		r, s, p := serving(t)
		for _, seq := range tc.seqs {
			r.gets(p, r.message(seq, seq*4, 100, 0))
		}
		r.log = nil
		r.takeAll(s)
		r.expect(tc.name, tc.want...)
	}
}

// Proves that a full in-ring lifts its refusals once, and only when at least
// half of what lay in it has been taken.
func TestRoomComesWhenHalfIsTaken(t *testing.T) {
	r, s, p := serving(t)
	q := r.up(8)
	for seq := uint64(1); seq <= 8; seq++ {
		r.gets(p, r.message(seq, hashA, 1, 0))
	}
	r.noRoom[s] = true
	r.gets(p, r.message(9, hashA, 1, 0))
	r.gets(p, r.message(10, hashA, 1, 0))
	h := r.message(1, hashA, 1, 0)
	h.Session = wire.SessionID{2}
	r.gets(q, h)
	r.log = nil
	r.c.Taken(0, s, 3)
	r.expect("five are left")
	r.c.Taken(0, s, 4)
	r.expect("half is free", "ROOM to 7", "ROOM to 8")
	r.c.Taken(0, s, 8)
	r.expect("once")
}

// Proves that a seal refuses its slots, that Drained waits for what was handed
// out before, and that everyone refused hears when it is lifted.
func TestSealDrainsThenLifts(t *testing.T) {
	r, s, p := serving(t)
	r.gets(p, r.message(1, hashA, 1, 0))
	r.gets(p, r.message(2, hashB, 1, 0))
	r.view(0)
	r.gets(p, r.message(3, hashA, 1, 1))
	r.log = nil
	if r.c.Drained() {
		t.Error("drained with an untaken record in the sealed slot")
	}
	r.c.Taken(0, s, 1)
	if !r.c.Drained() {
		t.Error("not drained though only another slot's record is untaken")
	}
	r.view()
	r.c.Flush()
	r.expect("lifted", "ROOM to 7", "ACK 1 mask 1 to 7")
	r.view(3)
	if r.c.Drained() {
		t.Error("drained with a record from before the seal")
	}
	r.c.Detach(0, s)
	if !r.c.Drained() {
		t.Error("not drained though the program has ended")
	}
}

// Proves that a node which learns that it is not the owner any more names the
// programs that must not take what they have been given.
func TestDisplacedPrograms(t *testing.T) {
	cases := []struct {
		name   string
		change func(r *rig)
		want   bool
	}{
		{"another epoch", func(*rig) {}, false},
		{"another slot moves", func(r *rig) { r.owners[3] = 1 }, false},
		{"its slot moves", func(r *rig) { r.owners[0] = 1 }, true},
		{"this node is DOWN", func(r *rig) { r.incs[0] = 0 }, true},
		{"this node was DOWN in between", func(r *rig) { r.incs[0] = 9 }, true},
	}
	for _, tc := range cases {
		r, s, p := serving(t)
		idle := r.attach(8, true)
		r.c.choose(hashA)
		r.gets(p, r.message(1, hashA, 1, 0))
		got, _ := r.c.choose(hashA)
		if got != s {
			s, idle = idle, s
		}
		tc.change(r)
		r.view()
		if r.c.Displaced(s) != tc.want || r.c.Displaced(idle) {
			t.Errorf("%s: displaced %v, an idle program %v, want %v, false", tc.name, r.c.Displaced(s), r.c.Displaced(idle), tc.want)
		}
		r.takeAll(s)
		if r.c.Displaced(s) {
			t.Errorf("%s: displaced with nothing untaken", tc.name)
		}
	}
}

// Proves what memory of sessions is bounded by, that rather idle ones are
// forgotten, and that what may repeat for that reason is marked, also by the
// refusal that sends it to another owner.
func TestForgottenSessionsAreSuspect(t *testing.T) {
	r := newRig(t, 100)
	r.c = New(Config{Self: 100, SessionsMax: 2}, r)
	r.view()
	s, p := r.attach(9, true), r.up(7)
	from := func(session byte, h wire.Header) {
		h.Session = wire.SessionID{session}
		r.gets(p, h)
	}
	from(1, r.message(1, hashA, 1, 0))
	r.takeAll(s) // session 1 is idle, though not the oldest
	from(2, r.message(1, hashB, 1, 0))
	from(1, r.message(2, hashA, 2, 0))
	r.takeAll(s)
	from(2, r.message(2, hashB, 1, 1))
	r.log = nil
	from(3, r.message(1, hashA, 1, 0))
	r.expect("a first attempt is new", "session 9 is given 1")
	if n := len(r.c.sets); n != 2 || r.c.sets[wire.SessionID{1}] != nil || r.c.Stats().Evicted != 1 {
		t.Errorf("%d sessions remembered, the idle one too: %v", n, r.c.sets[wire.SessionID{1}] != nil)
	}
	again := r.message(2, hashA, 2, 0)
	again.Attempt = 2
	from(1, again) // forgets one with untaken records: both have some
	r.expect("a second attempt may be a repeat", "session 9 is given 2 maybe-repeat")
	other := r.message(3, hashC, 2, 0)
	other.Attempt = 2
	from(1, other)
	r.expect("also elsewhere", "MOVED 3 attempt 2 epoch 2 to 7 maybe-repeat")
	r.takeAll(s)
	r.expect("what forgotten sessions had is acknowledged all the same",
		"ACK 2 mask 1 to 7", "ACK 1 mask 1 to 7", "ACK 2 mask 1 to 7")
}

// Proves that the mark on a refusal stays with the message.
func TestRefusalMayMark(t *testing.T) {
	r := newRig(t, 1)
	s, p := r.attach(1, false), r.up(100)
	r.send(s, 1, hashA)
	r.log = nil
	h := later(1, 1)
	h.Flags = wire.FlagMaybeRepeat
	r.gets(p, h)
	r.pass(ms)
	r.expect("marked", "MSG 1 attempt 2 low 1 pred 0 to 100 maybe-repeat")
}

// Proves that a session which said goodbye is forgotten, and that frames which
// no rule knows, or no link carried, are counted and do nothing.
func TestByeAndViolations(t *testing.T) {
	r, _, p := serving(t)
	r.gets(p, r.message(5, hashA, 5, 0))
	r.gets(p, wire.Header{Type: wire.TypeBye})
	if len(r.c.sets) != 0 {
		t.Error("remembered after goodbye")
	}
	r.log = nil
	r.gets(p, wire.Header{Type: wire.TypePing})
	r.gets(p, wire.Header{Type: wire.TypeMessage, Seq: 5000, PredDelta: Window})
	r.gets(p, wire.Header{Type: wire.TypeBye})
	for _, typ := range []wire.Type{wire.TypeAck, wire.TypeLater, wire.TypeMoved, wire.TypeRoom, wire.TypeReplyAck, wire.TypeReplyLater} {
		r.gets(p, wire.Header{Type: typ, Seq: 1, Hash: 1, Attempt: 77, Session: wire.SessionID{5}})
	}
	r.c.PeerDown(p)
	r.gets(p, r.message(6, hashA, 5, 0))
	r.expect("nothing")
	if n := r.c.Stats().Violations; n != 3 {
		t.Errorf("%d violations, want 3", n)
	}
}

// Proves that many untaken records keep their order, and that a session which
// goes on far past what was known of it starts afresh.
func TestManyUntakenAndFarJumps(t *testing.T) {
	r, s, p := serving(t)
	r.c.PeerDown(r.c.Peer(55)) // was never up
	for seq := uint64(1); seq <= 500; seq++ {
		r.gets(p, r.message(seq, hashA, 1, 0))
	}
	r.log = nil
	r.c.Taken(0, s, 300)
	r.c.Flush()
	r.expect("300 taken", "ACK 1 mask ffffffffffffffff to 7", "ACK 65 mask ffffffffffffffff to 7", "ACK 129 mask ffffffffffffffff to 7",
		"ACK 193 mask ffffffffffffffff to 7", "ACK 257 mask fffffffffff to 7")
	r.gets(p, r.message(90_000, hashA, 90_000, 0))
	r.gets(p, r.message(301, hashA, 1, 0))
	r.expect("what lies below is settled", "session 9 is given 90000", "ACK 301 mask 1 to 7")
	r.takeAll(s)
	if s.program.untaken() != 0 || r.c.untaken != 0 {
		t.Errorf("%d, %d untaken", s.program.untaken(), r.c.untaken)
	}
}

// Proves that a node that holds gives its programs nothing that is sent by
// hash, calls for it again when it does not any more, and goes on with the rest.
func TestHold(t *testing.T) {
	r, s, p := serving(t)
	r.c.Hold(true)
	r.gets(p, r.message(1, hashA, 1, 0))
	r.expect("held", "LATER 1 attempt 1 to 7")
	h := r.message(2, 0, 1, 0)
	h.Kind = wire.KindBroadcast
	r.gets(p, h)
	r.expect("a copy", "session 9 is given 2")
	r.c.Hold(false)
	r.expect("released", "ROOM to 7")
	r.gets(p, r.message(1, hashA, 1, 0))
	r.expect("accepted", "session 9 is given 1")
	r.c.Hold(false)
	r.log = nil
	r.takeAll(s)
	r.expect("nothing was held", "ACK 1 mask 3 to 7")
}
