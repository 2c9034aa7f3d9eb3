package flow

import (
	"fmt"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Proves whom a message is fanned out to, and that it is settled when all have
// taken it: broadcasts to every serving server, replicated ones to the owners
// of their hash, not to their own node if they must not.
func TestFanReachesThoseOfTheTable(t *testing.T) {
	r, p := ringOf(t, 100, 3)
	s := r.attach(1, false)
	r.sendKind(s, 1, 1, wire.KindBroadcast, wire.FlagWantsSettled)
	r.expect("broadcast", "message 1 goes to 3", "MSG 1 attempt 1 low 1 pred 0 to 100",
		"MSG 1 attempt 1 low 1 pred 0 to 101", "MSG 1 attempt 1 low 1 pred 0 to 102")
	r.sendKind(s, 2, 1, wire.KindReplicate, 0)
	r.sendKind(s, 3, 0, wire.KindBroadcast, wire.FlagWithoutSelf)
	r.expect("replicate, without self", "message 2 goes to 1", "MSG 2 attempt 1 low 1 pred 0 to 101",
		"message 3 goes to 2", "MSG 3 attempt 1 low 1 pred 0 to 101", "MSG 3 attempt 1 low 1 pred 0 to 102")
	r.gets(p[0], ack(1, 1))
	r.gets(p[1], ack(1, 7))
	r.gets(p[1], ack(1, 7))
	r.expect("some have taken")
	r.gets(p[2], ack(1, 5))
	r.expect("all have taken", "message 1 delivered true maybe false", "messages settled up to 3")
	r.sendKind(s, 4, 0, wire.KindReplicate, wire.FlagWithoutSelf)
	r.expect("nobody is left", "message 4 goes to 0", "message 4 delivered false maybe false", "messages settled up to 4")
}

// Proves that a session's other messages do not wait for a slow receiver of a
// broadcast, and that the window ends at it.
func TestSlowCopyHoldsTheWindowOnly(t *testing.T) {
	r, p := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindBroadcast, 0)
	r.gets(p[0], ack(1, 1))
	r.log = nil
	for seq := uint64(2); seq <= Window; seq++ {
		r.send(s, seq, 0)
		r.gets(p[0], ack(seq, 1))
	}
	if got := r.transmitted()["100"]; got != Window-1 {
		t.Errorf("%d messages went past the copy, want %d", got, Window-1)
	}
	if n := r.c.Accepts(s, Requests); n != 0 {
		t.Errorf("Accepts: %d, want 0", n)
	}
	r.gets(p[1], ack(1, 1))
	r.expect("taken", fmt.Sprintf("messages settled up to %d", Window))
}

// Proves that refused copies are tried again by credit, each at its own server,
// and again after a link broke.
func TestCopyIsTriedAgain(t *testing.T) {
	r, p := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindBroadcast, 0)
	r.log = nil
	r.gets(p[0], later(1, 1))
	r.gets(p[1], moved(1, 1, r.epoch+1))
	r.gets(p[1], moved(1, 1, r.epoch+1))
	r.expect("both refuse", "pull the table of 101")
	r.sendKind(s, 2, 0, wire.KindBroadcast, 0)
	r.expect("limited", "message 2 goes to 2")
	r.gets(p[0], wire.Header{Type: wire.TypeRoom})
	r.expect("ROOM", "MSG 1 attempt 2 low 1 pred 0 to 100", "MSG 2 attempt 1 low 1 pred 0 to 100")
	r.pass(2 * ms)
	r.expect("back-off over", "MSG 1 attempt 2 low 1 pred 0 to 101")
	r.gets(p[1], ack(1, 1))
	r.expect("tried again", "MSG 2 attempt 1 low 1 pred 0 to 101")
	r.c.PeerDown(p[0])
	r.up(100)
	r.expect("link back", "MSG 1 attempt 3 low 1 pred 0 to 100", "MSG 2 attempt 2 low 1 pred 0 to 100")
}

// Proves that copies for a server that is declared down, leaves the service or
// comes under another incarnation are given up, that nobody else gets them, and
// what is reported then.
func TestCopyIsGivenUpWithItsServer(t *testing.T) {
	t.Run("down", func(t *testing.T) {
		r, p := ringOf(t, 1, 2)
		s := r.attach(1, false)
		r.sendKind(s, 1, 0, wire.KindBroadcast, wire.FlagWantsSettled)
		r.gets(p[0], ack(1, 1))
		r.log = nil
		r.incs[1] = 0
		r.view()
		r.expect("settled by the one that stayed", "message 1 delivered true maybe false", "messages settled up to 1")
		if st := r.c.Stats(); st.CopiesTaken != 1 || st.CopiesGivenUp != 1 {
			t.Errorf("got %d taken, %d given up, want 1, 1", st.CopiesTaken, st.CopiesGivenUp)
		}
	})
	t.Run("incarnation", func(t *testing.T) {
		r, p := ringOf(t, 1, 1)
		s := r.attach(1, false)
		r.sendKind(s, 1, 0, wire.KindBroadcast, 0)
		r.log = nil
		r.c.PeerDown(p[0])
		r.incs[0] = 7
		r.up(100)
		r.expect("hello", "message 1 delivered false maybe true", "messages settled up to 1")
	})
	t.Run("incarnation of what was not sent", func(t *testing.T) {
		r, p := ringOf(t, 1, 1)
		s := r.attach(1, false)
		r.c.PeerDown(p[0])
		r.sendKind(s, 1, 0, wire.KindBroadcast, 0)
		r.incs[0] = 7
		r.view()
		r.up(100)
		r.expect("for the new process", "message 1 goes to 1", "MSG 1 attempt 1 low 1 pred 0 to 100")
	})
	t.Run("out of service", func(t *testing.T) {
		r, p := ringOf(t, 1, 2)
		s := r.attach(1, false)
		r.c.PeerDown(p[0])
		r.sendKind(s, 1, 0, wire.KindReplicate, 0)
		r.expect("no link", "message 1 goes to 1")
		table := r.table()
		table.Servers[0].Status = ring.ServiceOut | ring.Up
		r.c.SetView(r.now, table, 0, nil)
		r.expect("left", "message 1 delivered false maybe false", "messages settled up to 1")
	})
	t.Run("out of service, but it has the copy", func(t *testing.T) {
		r, p := ringOf(t, 1, 2)
		s := r.attach(1, false)
		r.sendKind(s, 1, 0, wire.KindReplicate, 0)
		r.sendKind(s, 2, 0, wire.KindReplicate, 0)
		r.log = nil
		table := r.table()
		table.Servers[0].Status = ring.ServiceOut | ring.Up
		r.c.SetView(r.now, table, 0, nil)
		r.gets(p[0], ack(1, 1))
		r.gets(p[0], moved(2, 1, r.epoch))
		r.expect("one was taken, one refused", "messages settled up to 1", "message 2 delivered false maybe false", "messages settled up to 2")
	})
}

// Proves that the servers are chosen once: what comes later gets no copy of an
// earlier message, and without a table the choice waits.
func TestFanIsChosenOnce(t *testing.T) {
	r := newRig(t, 1)
	r.c = New(Config{Self: 1, Slave: true}, r)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindBroadcast, 0)
	r.expect("no table")
	r.incs = []ring.Incarnation{1, 0, 3}
	r.view()
	r.expect("table", "message 1 goes to 2")
	r.incs[1] = 2
	r.view()
	r.up(101)
	r.expect("a server comes")
	r.up(100)
	r.expect("a link", "MSG 1 attempt 1 low 1 pred 0 to 100")
	r.owners = [4]int{1, 1, 1, 1}
	r.view()
	r.expect("slots move")
}

// Proves that a message for all owners of a hash waits for one that restarts, as
// one by hash does, and that a broadcast goes to those who are there.
func TestReplicateWaitsForRestart(t *testing.T) {
	r, _ := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.incs[0], r.held = 0, true
	r.view()
	r.sendKind(s, 1, 0, wire.KindReplicate, 0)
	r.send(s, 2, 0)
	r.expect("its owner restarts")
	r.sendKind(s, 3, 0, wire.KindBroadcast, 0)
	r.expect("broadcast", "message 3 goes to 1", "MSG 3 attempt 1 low 1 pred 0 to 101")
	r.incs[0], r.held = 7, false
	r.view()
	r.up(100)
	r.expect("it is back", "message 1 goes to 1", "MSG 1 attempt 1 low 1 pred 0 to 100", "MSG 2 attempt 1 low 1 pred 0 to 100")
}

// Proves that unsent copies are given up at the deadline, and that the report
// says whether somebody may have taken the message.
func TestCopiesExpire(t *testing.T) {
	r, p := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.c.PeerDown(p[0])
	for seq := uint64(1); seq <= 2; seq++ {
		rec := Record{Seq: seq, End: seq, Kind: wire.KindBroadcast, DeadlineNs: 10 * ms}
		if err := r.c.Submit(r.now, s, Requests, &rec); err != nil {
			t.Fatal(err)
		}
	}
	r.gets(p[1], ack(1, 1))
	r.gets(p[1], later(2, 1))
	r.log = nil
	r.c.PeerDown(p[1])
	r.pass(20 * ms)
	r.expect("deadline", "message 1 delivered false maybe true", "message 2 delivered false maybe false", "messages settled up to 2")
}

// Proves that a session ends, with Bye to all who heard of it, only when all
// copies are settled, and that one that comes back sends them again, marked.
func TestFanAndTheEndOfItsSession(t *testing.T) {
	r, p := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindBroadcast, 0)
	r.log = nil
	again := r.attach(1, false)
	r.expect("comes back", "session 1 ended")
	r.sendKind(again, 1, 0, wire.KindBroadcast, 0)
	r.expect("again", "message 1 goes to 2", "MSG 1 attempt 2 low 1 pred 0 to 100 maybe-repeat", "MSG 1 attempt 2 low 1 pred 0 to 101 maybe-repeat")
	r.c.Detach(r.now, again)
	r.gets(p[0], ack(1, 1))
	r.expect("one copy is left")
	r.gets(p[1], ack(1, 1))
	r.expect("all settled", "messages settled up to 1", "BYE to 100", "BYE to 101", "session 1 ended")
}

// Proves that who asks several servers hears of each whose reply does not come:
// it left with the copy, or ended after it had taken it; not of those that replied.
func TestAskerHearsOfEachLostCopy(t *testing.T) {
	r, p := ringOf(t, 1, 4)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindBroadcast, wire.FlagWantsReply)
	reply := wire.Header{Type: wire.TypeReply, Seq: 1, Hash: 1}
	r.gets(p[0], reply) // before it is acknowledged
	for i := range 3 {
		r.gets(p[i], ack(1, 1))
	}
	r.gets(p[1], reply)
	r.log = nil
	for i := range r.incs {
		r.incs[i] = 0
	}
	r.view()
	r.expect("all are down: one with the copy, one that had taken it", "request 1 failed", "messages settled up to 1", "request 1 failed")
}

// Proves the receiver's part: a copy is taken by a server in service whatever
// it owns, once, by one program; it stays when its node is declared down,
// because it goes to nobody else.
func TestReceiverOfCopies(t *testing.T) {
	r, _ := ringOf(t, 100, 2)
	from := r.c.Peer(^ring.ID(1))
	r.c.PeerUp(r.now, from, 0)
	a, b := r.attach(8, true), r.attach(9, true)
	r.view(0, 1, 2, 3)
	for seq := uint64(1); seq <= 2; seq++ {
		h := r.message(seq, 1, 1, 0)
		h.Kind = wire.KindReplicate
		r.gets(from, h)
		r.gets(from, h)
	}
	r.expect("once each", "session 9 is given 1", "session 8 is given 2")
	r.incs[0] = 0
	r.view()
	r.incs[0] = 9
	r.view()
	if !r.c.Drained() || r.c.Displaced(a) || r.c.Displaced(b) {
		t.Error("copies are sealed or displaced")
	}
}

// Proves that fanning out allocates nothing once fans can be used again.
func TestFanDoesNotAllocate(t *testing.T) {
	r, p := ringOf(t, 1, 3)
	c := New(Config{Self: 1, Slave: true}, &nullPorts{})
	c.SetView(0, r.table(), 0, nil)
	for i := range p {
		p[i] = c.Peer(ring.ID(100 + i))
		c.PeerUp(0, p[i], ring.Incarnation(i+1))
	}
	s := c.Attach(0, wire.SessionID{1}, false)
	seq := uint64(0)
	n := testing.AllocsPerRun(100, func() {
		seq++
		rec := Record{Seq: seq, End: seq, Kind: wire.KindBroadcast}
		if err := c.Submit(0, s, Requests, &rec); err != nil {
			t.Fatal(err)
		}
		h := ack(seq, 1)
		h.Session = s.id
		for i := range p {
			c.Frame(0, p[i], &h, nil)
		}
	})
	if n != 0 || c.Stats().CopiesTaken != 303 {
		t.Errorf("%v allocations, %d copies taken; want 0, 303", n, c.Stats().CopiesTaken)
	}
}

// Proves that a message that nobody was chosen for, because there is no table,
// is reported at its deadline like any other, and that what is chosen too late
// goes nowhere.
func TestFanExpiresWithoutTable(t *testing.T) {
	r := newRig(t, 1)
	r.c = New(Config{Self: 1, Slave: true}, r)
	s := r.attach(1, false)
	for seq := uint64(1); seq <= 2; seq++ {
		rec := Record{Seq: seq, End: seq, Kind: wire.KindBroadcast, Flags: wire.FlagWantsReply, DeadlineNs: int64(seq) * 10 * ms}
		if err := r.c.Submit(r.now, s, Requests, &rec); err != nil {
			t.Fatal(err)
		}
	}
	r.expect("no table")
	if due := r.c.DueNs(); due != 10*ms {
		t.Fatalf("due at %d, want at the first deadline", due)
	}
	r.pass(10 * ms)
	r.expect("deadline", "message 1 delivered false maybe false", "messages settled up to 1")
	r.pass(10 * ms)
	r.expect("second deadline", "message 2 delivered false maybe false", "messages settled up to 2")
	r.view()
	r.expect("nothing is left")
}
