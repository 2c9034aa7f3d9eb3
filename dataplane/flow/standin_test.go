package flow

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// standInRig is a rig in a ring whose slots have two owners each, with StandInNs
// of a second.
func standInRig(t *testing.T, self ring.ID, width int) *rig {
	r := newRig(t, self)
	r.c.cfg.StandInNs = 1e9
	r.width = width
	r.view()
	r.pass(ms)
	r.log = nil
	return r
}

// loses ends the link to a server.
func (r *rig) loses(id ring.ID) { r.c.PeerDown(r.c.Peer(id)) }

// Proves what a sender does when the owner of its messages cannot be reached: it
// asks the next owner after StandInNs and not before, sends only once that has
// agreed, marks what it had sent to the owner, and goes back to the owner when there is a way.
func TestSenderAsksForAStandIn(t *testing.T) {
	r := standInRig(t, 7, 2)
	r.up(100)
	next := r.up(101)
	r.up(102)
	s := r.attach(1, false)
	r.send(s, 1, 0)
	r.loses(100)
	r.send(s, 2, 0)
	r.expect("the owner goes away", "MSG 1 attempt 1 low 1 pred 0 to 100")
	r.pass(ms)
	r.pass(999 * ms)
	r.expect("a moment before it is time")
	r.pass(ms)
	r.expect("it is time", "ask 101 to stand in for 100")
	r.pass(10 * ms)
	r.expect("not again at once")
	r.pass(40 * ms)
	r.expect("nobody has agreed", "ask 101 to stand in for 100")
	r.c.StandInAgreed(r.now, next, 100, ring.Epoch{Era: 1, Index: r.epoch - 1})
	r.expect("an agreement by an older table")
	r.c.StandInAgreed(r.now, next, 100, ring.Epoch{Era: 1, Index: r.epoch})
	r.expect("it has agreed", "MSG 1 attempt 2 low 1 pred 0 to 101 maybe-repeat stand-in", "MSG 2 attempt 1 low 1 pred 1 to 101 stand-in")
	r.pass(100 * ms)
	r.expect("nothing more is asked")
	r.up(100)
	r.send(s, 3, 0)
	r.expect("the owner is back: what comes next waits for what is at the other")
	r.gets(next, ack(1, 1))
	r.gets(next, moved(2, 1, r.epoch))
	r.expect("the other one takes one and refuses one", "messages settled up to 1",
		"MSG 2 attempt 2 low 2 pred 0 to 100", "MSG 3 attempt 1 low 2 pred 2 to 100")
}

// Proves that a deputy that refuses is one no longer: its messages wait, and it is asked again.
func TestDeputyThatRefuses(t *testing.T) {
	r := standInRig(t, 7, 2)
	next := r.up(101)
	s := r.attach(1, false)
	r.send(s, 1, 0)
	r.pass(ms)
	r.pass(1000 * ms)
	r.c.StandInAgreed(r.now, next, 100, ring.Epoch{Era: 1, Index: r.epoch})
	r.expect("it agrees", "ask 101 to stand in for 100", "MSG 1 attempt 1 low 1 pred 0 to 101 stand-in")
	r.gets(next, moved(1, 1, r.epoch))
	r.expect("it refuses")
	r.pass(50 * ms)
	r.expect("it is asked again", "ask 101 to stand in for 100")
}

// Proves that the third owner is asked about both that come before it, and has
// to agree to both.
func TestThirdOwnerStandsIn(t *testing.T) {
	r := standInRig(t, 7, 3)
	third := r.up(102)
	s := r.attach(1, false)
	r.send(s, 1, 0)
	r.pass(ms)
	r.pass(1000 * ms)
	r.expect("both are gone", "ask 102 to stand in for 100", "ask 102 to stand in for 101")
	r.c.StandInAgreed(r.now, third, 100, ring.Epoch{Era: 1, Index: r.epoch})
	r.expect("one is not enough")
	r.c.StandInAgreed(r.now, third, 101, ring.Epoch{Era: 1, Index: r.epoch})
	r.expect("both", "MSG 1 attempt 1 low 1 pred 0 to 102 stand-in")
}

// Proves that without StandInNs nobody is asked, and nobody agrees.
func TestNeverStandsIn(t *testing.T) {
	for _, self := range []ring.ID{7, 101} {
		r := newRig(t, self)
		r.width = 2
		r.view()
		s := r.attach(1, false)
		r.send(s, 1, 0)
		r.pass(3600e9)
		r.pass(3600e9)
		if r.c.StandInAsked(r.now, 100, r.c.epoch) {
			t.Error("it agrees")
		}
		r.expect("nothing")
	}
}

// agrees asks the core of the rig to stand in for server 100, by the present table.
func (r *rig) agrees() bool { return r.c.StandInAsked(r.now, 100, ring.Epoch{Era: 1, Index: r.epoch}) }

// Proves when a server stands in: without a way to the owner for StandInNs, by
// the same table, after its note is on disk; what it is given is marked; and that
// a way to the owner ends it and takes back what its programs have not taken.
func TestServerStandsIn(t *testing.T) {
	r := standInRig(t, 101, 2)
	r.up(100)
	from, program := r.up(7), r.attach(9, true)
	msg := func(seq uint64, flags wire.Flags) wire.Header {
		h := r.message(seq, 0, 1, 0)
		h.Flags = flags
		return h
	}
	r.pass(2000 * ms)
	if r.agrees() {
		t.Error("it stands in for a server that it reaches")
	}
	r.loses(100)
	r.pass(ms)
	r.pass(999 * ms)
	if r.agrees() {
		t.Error("it stands in too early")
	}
	r.expect("no note yet")
	r.pass(ms)
	if r.c.StandInAsked(r.now, 100, ring.Epoch{Era: 1, Index: r.epoch - 1}) || r.agrees() || r.agrees() {
		t.Error("it stands in without a note")
	}
	r.expect("one note", "note that it stands in for 100, incarnation 1")
	r.gets(from, msg(1, wire.FlagStandIn))
	r.expect("before the note is written", "MOVED 1 attempt 1 epoch 2 to 7")
	r.c.StandInNoted(r.now, r.c.Peer(100), 1, true)
	if !r.agrees() {
		t.Error("it does not stand in")
	}
	r.gets(from, msg(1, 0))
	r.expect("a sender that has a way to the owner", "MOVED 1 attempt 1 epoch 2 to 7")
	r.gets(from, msg(1, wire.FlagStandIn))
	r.expect("a message", "session 9 is given 1 maybe-repeat")
	r.view()
	r.expect("another table that says the same")
	if r.c.Displaced(program) || r.c.Stats().StoodIn != 1 {
		t.Errorf("displaced %t, %d in the place of others", r.c.Displaced(program), r.c.Stats().StoodIn)
	}
	r.up(100)
	r.expect("a way to the owner", "no longer in the place of 100")
	if !r.c.Displaced(program) || r.agrees() {
		t.Error("its program keeps what is the owner's")
	}
}

// Proves what keeps a server from standing in: a note that cannot be written, for
// a second; the leader that is about to admit a start; the end of this node's admission; Hold.
func TestServerDoesNotStandIn(t *testing.T) {
	r := standInRig(t, 101, 2)
	r.pass(ms)
	r.pass(1000 * ms)
	note := "note that it stands in for 100, incarnation 1"
	r.agrees()
	r.c.StandInNoted(r.now, r.c.Peer(100), 1, false)
	r.pass(999 * ms)
	r.agrees()
	r.expect("the first attempt fails", note)
	r.pass(ms)
	r.agrees()
	r.expect("the second attempt", note)
	r.c.StandInNoted(r.now, r.c.Peer(100), 1, false)
	r.c.NoStandInBefore(r.now + 5e9)
	r.pass(4999 * ms)
	r.agrees()
	r.expect("a start is being admitted")
	r.pass(ms)
	r.c.Hold(true)
	r.agrees()
	r.expect("it holds")
	r.c.Hold(false)
	r.agrees()
	r.expect("all is over", note)
	r.incs[0] = 8
	r.view()
	r.c.StandInNoted(r.now, r.c.Peer(100), 1, true)
	if r.c.StandsIn(r.c.Peer(100)) || r.agrees() {
		t.Error("it stands in for an incarnation that is over")
	}
	r.pass(ms)
	r.pass(1000 * ms)
	r.incs[1] = 0
	r.view()
	if r.agrees() {
		t.Error("it stands in without being admitted")
	}
	r.expect("no note")
}

// Proves that StandInNs may change: at never a server stops standing in and a
// sender asks nobody; a time counts from when it is set.
func TestStandInMayChange(t *testing.T) {
	r := standInRig(t, 101, 2)
	r.pass(ms)
	r.pass(1000 * ms)
	r.agrees()
	r.c.StandInNoted(r.now, r.c.Peer(100), 1, true)
	r.expect("it begins", "note that it stands in for 100, incarnation 1")
	r.c.SetStandIn(0)
	r.expect("never", "no longer in the place of 100")
	r.pass(5000 * ms)
	if r.agrees() {
		t.Error("it stands in though it never should")
	}
	r.c.SetStandIn(1e9)
	r.pass(ms)
	r.pass(999 * ms)
	r.agrees()
	r.expect("a moment before")
	r.pass(ms)
	r.agrees()
	r.expect("again", "note that it stands in for 100, incarnation 1")
}

// Proves that a message does not wait at a deputy that cannot be reached any more
// for as long, when there is a way to the owner again: it goes there, marked.
func TestDeputyThatGoesAway(t *testing.T) {
	r := standInRig(t, 7, 2)
	next := r.up(101)
	s := r.attach(1, false)
	r.send(s, 1, 0)
	r.pass(ms)
	r.pass(1000 * ms)
	r.c.StandInAgreed(r.now, next, 100, ring.Epoch{Era: 1, Index: r.epoch})
	r.expect("it agrees", "ask 101 to stand in for 100", "MSG 1 attempt 1 low 1 pred 0 to 101 stand-in")
	r.loses(101)
	r.up(100)
	r.send(s, 2, 0)
	r.pass(ms)
	r.pass(999 * ms)
	r.expect("it may come back")
	r.pass(ms)
	r.expect("it has not", "MSG 1 attempt 2 low 1 pred 0 to 100 maybe-repeat", "MSG 2 attempt 1 low 1 pred 1 to 100")
}
