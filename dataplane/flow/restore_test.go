package flow

import (
	"testing"

	"github.com/chmpx/chmpx/wire"
)

// restore hands records of session 1 back to the program of s, and returns
// which of them stay. Their cursors are their numbers.
func (r *rig) restore(s *Session, recs ...Handed) string {
	keep := make([]bool, len(recs))
	for i := range recs {
		if recs[i].Session == (wire.SessionID{}) {
			recs[i].Session = wire.SessionID{1}
		}
		recs[i].From = 1
		r.end++
		recs[i].End = r.end
	}
	r.c.Restore(r.now, s, recs, keep)
	text := ""
	for _, k := range keep {
		text += map[bool]string{true: "+", false: "-"}[k]
	}
	return text
}

// Proves which records of a segment that was handed back stay, and that what
// stays is known: it is not given again, and acknowledged when it is taken.
func TestRestoreKeepsWhatThisNodeMayHave(t *testing.T) {
	rec := func(seq, hash uint64) Handed { return Handed{Seq: seq, Hash: hash} }
	tests := []struct {
		name    string
		prepare func(r *rig)
		recs    []Handed
		want    string
	}{
		{"own slots only", func(*rig) {}, []Handed{rec(5, 0), rec(6, 1), rec(7, 2), rec(8, 3)}, "+--+"},
		{"a sealed slot", func(r *rig) { r.view(0) }, []Handed{rec(5, 0), rec(6, 3)}, "-+"},
		{"held", func(r *rig) { r.c.Hold(true) }, []Handed{rec(5, 0)}, "-"},
		{"not admitted", func(r *rig) { r.incs[0] = 0; r.view() }, []Handed{rec(5, 0)}, "-"},
		{"heard of the session", func(r *rig) { r.gets(r.up(1), r.message(7, 1, 7, 0)) }, []Handed{rec(5, 0), {Session: wire.SessionID{2}, Seq: 5}}, "-+"},
		{"twice the same", func(*rig) {}, []Handed{rec(5, 0), rec(5, 0)}, "+-"},
		{"not in the order of sequences", func(*rig) {}, []Handed{rec(1500, 0), rec(600, 3), rec(1600, 0)}, "+++"},
		{"more than a window", func(*rig) {}, []Handed{rec(5, 0), rec(5+Window, 0), rec(4+Window, 0)}, "+-+"},
		{"the last sequence", func(*rig) {}, []Handed{rec(1<<64-1, 0), rec(5, 0)}, "-+"},
		{"far from one that was withdrawn", func(r *rig) {
			s := r.attach(10, true)
			r.restore(s, rec(5, 0))
			r.c.Withdraw(r.now, s, false)
		}, []Handed{rec(1<<60, 0)}, "+"},
		{"no sequence", func(*rig) {}, []Handed{rec(0, 0)}, "-"},
		{"in turns, and a copy", func(*rig) {}, []Handed{{Seq: 5, Kind: wire.KindRandom}, {Seq: 6, Hash: 1, Kind: wire.KindReplicate}}, "--"},
		{"more sessions than are remembered", func(r *rig) { r.c.cfg.SessionsMax = 1 }, []Handed{rec(5, 0), {Session: wire.SessionID{2}, Seq: 5}}, "+-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 100)
			other := r.attach(8, true)
			tt.prepare(r)
			s := r.attach(9, true)
			if got := r.restore(s, tt.recs...); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			r.c.Taken(r.now, s, r.end)
			r.c.Taken(r.now, other, r.end)
			if r.c.untaken != 0 || len(r.c.restored) != 0 {
				t.Errorf("got %d untaken and %d fences after all was taken", r.c.untaken, len(r.c.restored))
			}
		})
	}
}

// Proves that a message that an earlier process gave up is not sent and holds
// nothing up, whatever its kind; that its sender hears of it as it would have
// then; and that its room is free with that of the older ones.
func TestGivenUpBefore(t *testing.T) {
	for _, kind := range []wire.Kind{wire.KindHash, wire.KindRandom, wire.KindReplicate, wire.KindBroadcast} {
		for marks, maybe := range map[wire.Flags]string{0: "false", wire.FlagMaybeRepeat: "true"} {
			r, p := ringOf(t, 1, 1)
			s := r.attach(1, false)
			r.send(s, 1, 0)
			r.log = nil
			r.sendKind(s, 2, 0, kind, wire.FlagGivenUp|wire.FlagWantsReply|marks)
			r.expect("given up before", "message 2 delivered false maybe "+maybe)
			r.send(s, 3, 0)
			r.expect("what comes after it", "MSG 3 attempt 1 low 1 pred 1 to 100")
			r.gets(p[0], ack(1, 1))
			r.expect("the older one is taken", "messages settled up to 2")

			s = r.attach(1, false) // again, on this process
			r.log = nil
			r.sendKind(s, 2, 0, kind, wire.FlagGivenUp|marks)
			r.expect("once more", "message 2 delivered false maybe "+maybe, "messages settled up to 2")
			if s.fanned.waiting != 0 || s.requests.waiting != 0 || r.c.Accepts(s, Requests) != Window {
				t.Errorf("%+v is left", s.requests)
			}
		}
	}
}

// Proves the fence after Restore: a hash that was restored waits for its
// program, even if another one would get it now; other hashes do not wait. The
// message itself is known when its sender sends it again.
func TestRestoredHashesWaitForTheirProgram(t *testing.T) {
	r := newRig(t, 100)
	p := r.up(1)
	old := r.attach(9, true)
	hash, other := uint64(0), uint64(0)
	programs := []*Session{old, {id: wire.SessionID{8}}}
	programs[1].program.seed = seedOf(&programs[1].id)
	for pick(programs, hash) == 0 { // the newcomer will win it
		hash += 4
	}
	for other = hash + 4; pick(programs, other) == 0; other += 4 {
	}
	if got := r.restore(old, Handed{Seq: 5, Hash: hash}); got != "+" {
		t.Fatalf("restored %s", got)
	}
	r.c.programs = nil // the newcomer finds no other program, and so no fence of the chain
	r.attach(8, true)
	r.log = nil
	r.gets(p, r.message(6, hash, 5, 5))
	r.gets(p, r.message(7, other, 5, 0))
	r.gets(p, r.message(5, hash, 5, 0))
	r.expect("before it is taken", "LATER 6 attempt 1 to 1", "session 8 is given 7")
	r.c.Taken(r.now, old, r.end-1)
	r.c.Flush()
	r.gets(p, r.message(6, hash, 5, 5))
	r.expect("when it is taken", "ROOM to 1", "ACK 5 mask 1 to 1", "session 8 is given 6")
}

// Proves that two programs may bring records of one session along, as long as
// the session was not heard of, and that a session whose low was made up is
// forgotten when its sender shows the real one.
func TestRestoreOfOneSessionByTwoPrograms(t *testing.T) {
	r := newRig(t, 100)
	p := r.up(1)
	a, b, c := r.attach(9, true), r.attach(8, true), r.attach(7, true)
	if got := r.restore(a, Handed{Seq: 1500, Hash: 0}); got != "+" {
		t.Errorf("the first program: %s", got)
	}
	if got := r.restore(b, Handed{Seq: 1400, Hash: 3}, Handed{Seq: 1500, Hash: 0}, Handed{Seq: 1600, Hash: 3}); got != "+-+" {
		t.Errorf("the second program: %s", got)
	}
	r.log = nil
	r.gets(p, r.message(1400, 3, 1400, 0))
	r.expect("it is known")
	if got := r.restore(c, Handed{Seq: 1700, Hash: 3}); got != "-" {
		t.Errorf("after the session was heard of: %s", got)
	}

	r = newRig(t, 100)
	p = r.up(1)
	r.restore(r.attach(9, true), Handed{Seq: 1 << 40, Hash: 0})
	r.log = nil
	r.gets(p, r.message(7, 3, 7, 0))
	r.expect("the sender's low is lower", "session 9 is given 7")
}
