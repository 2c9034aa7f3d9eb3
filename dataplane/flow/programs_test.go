package flow

import (
	"testing"

	"github.com/chmpx/chmpx/wire"
)

// Proves that hashes spread over the programs of a node, that one hash always
// goes to one of them, and that a newcomer takes its share from all.
func TestHashesSpreadOverPrograms(t *testing.T) {
	r := newRig(t, 100)
	for i := range byte(4) {
		r.attach(10+i, true)
	}
	count := map[*Session]int{}
	was := map[uint64]*Session{}
	for h := range uint64(4000) {
		s, ok := r.c.choose(h)
		if !ok {
			t.Fatalf("hash %d is not free", h)
		}
		count[s]++
		was[h] = s
	}
	for s, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("session %d has %d of 4000 hashes", s.ID()[0], n)
		}
	}
	fresh := r.attach(20, true)
	moved := 0
	for h, old := range was {
		switch s, _ := r.c.choose(h); s {
		case old:
		case fresh:
			moved++
		default:
			t.Fatalf("hash %d went from one old program to another", h)
		}
	}
	if moved < 600 || moved > 1000 {
		t.Errorf("the newcomer has %d of 4000 hashes", moved)
	}
}

// given returns which of the sessions has been given a hash's next message.
func (r *rig) hashOf(want *Session, slot uint64) uint64 {
	for h := slot; ; h += 4 {
		if r.c.programs[pick(r.c.programs, h)] == want {
			return h
		}
	}
}

// Proves that a hash which a new program wins waits until its untaken records
// at the old one are taken, that others go on, and that the wait is lifted.
func TestNewProgramDoesNotOvertake(t *testing.T) {
	r, old, p := serving(t)
	fresh := r.attach(8, true)
	mine, others := r.hashOf(fresh, 0), r.hashOf(old, 0)
	r.c.Detach(0, fresh)
	r.log = nil
	r.gets(p, r.message(1, mine, 1, 0))
	fresh = r.attach(8, true)
	r.gets(p, r.message(2, mine, 1, 1))
	r.gets(p, r.message(3, others, 1, 0))
	r.expect("the fence", "session 9 is given 1", "LATER 2 attempt 1 to 7", "session 9 is given 3")
	r.c.Taken(0, old, 1)
	r.expect("passed, though a later record is untaken", "ROOM to 7")
	r.gets(p, r.message(2, mine, 1, 1))
	r.expect("now to the new program", "session 8 is given 2", "ACK 1 mask 1 to 7")
	if len(r.c.chain) != 0 {
		t.Errorf("%d fences are left", len(r.c.chain))
	}
	r.c.Detach(0, fresh)
	r.expect("withdrawn, and free for the other at once", "LATER 2 attempt 1 to 7", "ROOM to 7", "session 8 ended")
	r.gets(p, r.message(2, mine, 2, 0))
	r.expect("goes back", "session 9 is given 2")
}

// Proves that programs which come while the chain of fences is full wait for
// their turn and then take part.
func TestChainOfFencesIsBounded(t *testing.T) {
	r, old, p := serving(t)
	for i := range byte(2 * fencesMax) {
		r.gets(p, r.message(uint64(i)+1, r.hashOf(old, 0), 1, 0))
		r.attach(20+i, true)
	}
	if len(r.c.chain) != fencesMax || len(r.c.joining) != fencesMax {
		t.Errorf("%d fences, %d joining, want %d, %d", len(r.c.chain), len(r.c.joining), fencesMax, fencesMax)
	}
	r.c.Detach(0, r.c.joining[0])
	r.takeAll(old)
	if len(r.c.chain) != 0 || len(r.c.joining) != 0 || len(r.c.programs) != 2*fencesMax {
		t.Errorf("%d fences, %d joining, %d programs", len(r.c.chain), len(r.c.joining), len(r.c.programs))
	}
}

// Proves that a session refused by a program that ends hears from another.
func TestWaitersOfAnEndedProgram(t *testing.T) {
	r, s, p := serving(t)
	r.noRoom[s] = true
	r.gets(p, r.message(1, hashA, 1, 0))
	r.log = nil
	r.c.Detach(0, s)
	r.expect("nobody else", "session 9 ended")
	r.attach(8, true)
	r.expect("somebody is there", "ROOM to 7")
	h := r.message(1, hashA, 1, 0)
	h.Session = wire.SessionID{3}
	r.gets(p, h)
	r.expect("room", "session 8 is given 1")
}

// Proves that a program which has ended, but whose out-ring is not read to its
// end yet, gives back at once what it has not taken; what it sent goes on.
func TestEndedProgramTakesNoMoreBeforeDetach(t *testing.T) {
	r, s, p := serving(t)
	r.gets(p, r.message(1, hashA, 1, 0))
	r.send(s, 1, 1)
	r.attach(8, true)
	r.log = nil
	r.c.Withdraw(0, s, false)
	r.c.Withdraw(0, s, false)
	r.expect("refused", "LATER 1 attempt 1 to 7", "ROOM to 7")
	r.gets(p, r.message(1, hashA, 1, 0))
	r.expect("goes to the other", "session 8 is given 1")
	r.send(s, 2, 1)
	r.up(101)
	r.expect("what it sent", "MSG 1 attempt 1 low 1 pred 0 to 101", "MSG 2 attempt 1 low 1 pred 1 to 101")
}

// Proves that what a program that was cut off alive has not taken is sent again
// as a repeat, also when the refusal was lost with its link: it may have taken
// it after its node looked last.
func TestCutOffProgramMayHaveTaken(t *testing.T) {
	r, s, p := serving(t)
	r.gets(p, r.message(1, hashA, 1, 0))
	r.attach(8, true)
	r.log = nil
	r.c.Withdraw(0, s, true)
	r.expect("refused", "LATER 1 attempt 1 to 7 maybe-repeat", "ROOM to 7")
	again := r.message(1, hashA, 1, 0)
	again.Attempt = 2
	r.gets(p, again)
	r.expect("sent again without the mark", "session 8 is given 1 maybe-repeat")
}

// Proves that a library which comes back as the same session has what it had
// not taken withdrawn.
func TestServerComesBackAsTheSameSession(t *testing.T) {
	r, _, p := serving(t)
	r.gets(p, r.message(1, hashA, 1, 0))
	r.log = nil
	s := r.attach(9, true)
	r.expect("the old segment's records are refused", "LATER 1 attempt 1 to 7", "session 9 ended", "ROOM to 7")
	r.gets(p, r.message(1, hashA, 1, 0))
	r.takeAll(s)
	r.expect("and given again", "session 9 is given 1", "ACK 1 mask 1 to 7")
}
