package flow

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// sendKind submits a message of a kind; its cursors are its sequence.
func (r *rig) sendKind(s *Session, seq, hash uint64, kind wire.Kind, flags wire.Flags) {
	r.t.Helper()
	rec := Record{Seq: seq, Position: seq - 1, End: seq, Hash: hash, Kind: kind, Flags: flags}
	if err := r.c.Submit(r.now, s, Requests, &rec); err != nil {
		r.t.Fatalf("Submit %d: %v", seq, err)
	}
}

// transmitted counts the messages in the log by server, and empties it.
func (r *rig) transmitted() map[string]int {
	n := map[string]int{}
	for _, line := range r.log {
		if strings.HasPrefix(line, "MSG") {
			n[strings.Fields(line)[9]]++
		}
	}
	r.log = nil
	return n
}

// ringOf returns a core in a ring of n servers, all linked.
func ringOf(t *testing.T, self ring.ID, n int) (*rig, []*Peer) {
	r := newRig(t, self)
	r.incs = nil
	for i := range n {
		r.incs = append(r.incs, ring.Incarnation(i+1))
	}
	r.owners = [4]int{0, min(1, n-1), min(2, n-1), min(3, n-1)}
	r.view()
	var peers []*Peer
	for i := range n {
		peers = append(peers, r.up(ring.ID(100+i)))
	}
	r.log = nil
	return r, peers
}

// Proves that messages in turns are spread evenly whatever the number of
// servers is, for slaves and for servers, also between sessions of a node, and
// that those that must not go to their own node do not shift the others.
func TestTurnsAreEven(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for _, self := range []ring.ID{1, 100} {
			t.Run(fmt.Sprintf("%d servers from %d", n, self), func(t *testing.T) {
				r, _ := ringOf(t, self, n)
				a, b := r.attach(1, false), r.attach(2, false)
				for seq := range uint64(60) {
					r.sendKind(a, 2*seq+1, seq, wire.KindRandom, 0)
					r.sendKind(b, seq+1, 7, wire.KindRandom, 0)
					r.sendKind(a, 2*seq+2, 0, wire.KindRandom, wire.FlagWithoutSelf)
				}
				other := 60 / n
				if self == 100 {
					other = 60 / max(n-1, 1)
				}
				got := r.transmitted()
				for i := range n {
					id := ring.ID(100 + i)
					want := 120/n + other
					if id == self {
						want = 120 / n
					}
					if g := got[fmt.Sprint(uint64(id))]; g != want {
						t.Errorf("server %d: got %d messages, want %d", id, g, want)
					}
				}
			})
		}
	}
}

// Proves that in random mode messages sent by hash go in turns.
func TestRandomModeIgnoresTheHash(t *testing.T) {
	r, _ := ringOf(t, 1, 2)
	table := r.table()
	table.Random = true
	r.c.SetView(r.now, table, 0, nil)
	s := r.attach(1, false)
	for seq := uint64(1); seq <= 4; seq++ {
		r.send(s, seq, 0)
	}
	r.expect("one hash, four messages",
		"MSG 1 attempt 1 low 1 pred 0 to 101", "MSG 2 attempt 1 low 1 pred 0 to 100",
		"MSG 3 attempt 1 low 1 pred 0 to 101", "MSG 4 attempt 1 low 1 pred 0 to 100")
}

// Proves that a refused message goes to the next server at once, unmarked, and
// that a server that refuses is left alone until its back-off ends or ROOM.
func TestRefusedGoesToTheNextServer(t *testing.T) {
	r, p := ringOf(t, 1, 3)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindRandom, 0)
	r.expect("first", "MSG 1 attempt 1 low 1 pred 0 to 101")
	r.gets(p[1], later(1, 1))
	r.expect("LATER", "MSG 1 attempt 2 low 1 pred 0 to 102")
	r.gets(p[2], moved(1, 2, r.epoch))
	r.expect("MOVED", "MSG 1 attempt 3 low 1 pred 0 to 100")
	r.gets(p[1], later(1, 1))
	r.expect("an old refusal")
	r.gets(p[0], later(1, 3))
	r.expect("all have refused")
	r.pass(2 * ms)
	r.expect("back-off over", "MSG 1 attempt 4 low 1 pred 0 to 101")
	r.gets(p[1], ack(1, 1))
	r.expect("taken", "messages settled up to 1")
	r.sendKind(s, 2, 0, wire.KindRandom, 0)
	r.expect("a refuser may be tried after its back-off", "MSG 2 attempt 1 low 2 pred 0 to 102")
	r.gets(p[2], moved(2, 1, r.epoch+1))
	r.expect("MOVED by a newer table", "pull the table of 102", "MSG 2 attempt 2 low 2 pred 0 to 100")
	r.gets(p[0], ack(2, 1))
}

// Proves that a message that is out is never given to a second server unmarked:
// not when its link breaks, but when its server is declared down.
func TestOutStaysWhereItIs(t *testing.T) {
	r, p := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.sendKind(s, 1, 0, wire.KindRandom, 0)
	r.expect("out", "MSG 1 attempt 1 low 1 pred 0 to 101")
	r.c.PeerDown(p[1])
	r.pass(1000 * ms)
	r.expect("link gone")
	r.up(101)
	r.expect("link back", "MSG 1 attempt 2 low 1 pred 0 to 101")
	r.incs[1] = 0
	r.view()
	r.expect("declared down", "MSG 1 attempt 3 low 1 pred 0 to 100 maybe-repeat")
}

// Proves that a message waits for the server whose turn it is as long as that
// only lacks room on its link, and goes elsewhere when the link breaks.
func TestTurnWaitsForRoomOnTheLink(t *testing.T) {
	r, p := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.noLink[p[1]] = true
	r.sendKind(s, 1, 0, wire.KindRandom, 0)
	r.sendKind(s, 2, 0, wire.KindRandom, 0)
	r.sendKind(s, 3, 0, wire.KindRandom, 0)
	r.expect("one link is full", "MSG 2 attempt 1 low 1 pred 0 to 100")
	delete(r.noLink, p[1])
	r.c.PeerRoom(r.now, p[1])
	r.expect("room", "MSG 1 attempt 1 low 1 pred 0 to 101", "MSG 3 attempt 1 low 1 pred 0 to 101")
	r.noLink[p[1]] = true
	r.sendKind(s, 4, 0, wire.KindRandom, 0)
	r.sendKind(s, 5, 0, wire.KindRandom, 0)
	r.expect("full again", "MSG 4 attempt 1 low 1 pred 0 to 100")
	r.c.PeerDown(p[1])
	r.pass(0)
	r.expect("link gone", "MSG 5 attempt 1 low 1 pred 0 to 100")
}

// Proves that kinds do not order each other: a message by hash waits for no
// random one of the same hash, which might be anywhere.
func TestRandomIsNoPredecessor(t *testing.T) {
	r, _ := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.send(s, 1, 0)
	r.sendKind(s, 2, 0, wire.KindRandom, 0)
	r.send(s, 3, 0)
	r.expect("predecessors", "MSG 1 attempt 1 low 1 pred 0 to 100",
		"MSG 2 attempt 1 low 1 pred 0 to 101", "MSG 3 attempt 1 low 1 pred 1 to 100")
}

// random is a frame of a random message of session 1.
func (r *rig) random(seq uint64) wire.Header {
	h := r.message(seq, 1, 1, 0)
	h.Kind = wire.KindRandom
	return h
}

// Proves the receiver's part: a serving server takes what it does not own,
// sealed or not, and gives it to its programs in turns, past those without
// room; what it knows it does not give again.
func TestReceiverOfRandom(t *testing.T) {
	r, p := ringOf(t, 100, 2)
	from := r.c.Peer(^ring.ID(1))
	r.c.PeerUp(r.now, from, 0)
	a, b := r.attach(8, true), r.attach(9, true)
	r.view(0, 1, 2, 3)
	for seq := uint64(1); seq <= 3; seq++ {
		r.gets(from, r.random(seq))
	}
	r.expect("in turns", "session 9 is given 1", "session 8 is given 2", "session 9 is given 3")
	if !r.c.Drained() {
		t.Error("a seal waits for a message that it has nothing to do with")
	}
	r.noRoom[a] = true
	r.gets(from, r.random(4))
	r.expect("one has no room", "session 9 is given 4")
	r.noRoom[b] = true
	r.gets(from, r.random(5))
	r.gets(from, r.random(1))
	r.expect("none has room; known", fmt.Sprintf("LATER 5 attempt 1 to %d", uint64(from.id)))
	r.c.Taken(r.now, b, r.end)
	r.c.Flush()
	r.expect("one takes", fmt.Sprintf("ROOM to %d", uint64(from.id)), fmt.Sprintf("ACK 1 mask d to %d", uint64(from.id)))
	_ = p
}

// Proves that a server refuses random messages when it does not serve by its
// own table, and when they were sent to it before it was admitted.
func TestReceiverOfRandomRefuses(t *testing.T) {
	r, _ := ringOf(t, 100, 2)
	from := r.c.Peer(^ring.ID(1))
	r.c.PeerUp(r.now, from, 0)
	r.attach(8, true)
	early := r.random(1)
	r.incs[0] = 0
	r.view()
	r.gets(from, r.random(1))
	r.expect("down", fmt.Sprintf("MOVED 1 attempt 1 epoch %d to %d", r.epoch, uint64(from.id)))
	r.incs[0] = 9
	r.view()
	r.gets(from, early)
	r.expect("before it was admitted", fmt.Sprintf("MOVED 1 attempt 1 epoch %d to %d", r.epoch, uint64(from.id)))
	r.gets(from, r.random(2))
	r.expect("serving", "session 8 is given 2")
}

// Proves that an untaken random record is its node's whoever owns its hash, but
// not when the node was declared down: then another server has it, marked.
func TestUntakenRandomIsDisplacedOnlyByTheVerdict(t *testing.T) {
	r, _ := ringOf(t, 100, 2)
	from := r.c.Peer(^ring.ID(1))
	r.c.PeerUp(r.now, from, 0)
	s := r.attach(8, true)
	r.gets(from, r.random(1))
	r.owners = [4]int{1, 1, 1, 1}
	r.view()
	if r.c.Displaced(s) {
		t.Error("displaced because slots moved")
	}
	r.incs[0] = 0
	r.view()
	if !r.c.Displaced(s) {
		t.Error("not displaced although the node is down")
	}
}

// Proves that a session that is taken over sends a random message to the server
// where it was out, and elsewhere only if that one has gone.
func TestTakeoverKeepsThePlace(t *testing.T) {
	r, p := ringOf(t, 1, 3)
	s := r.attach(1, false)
	for seq := uint64(1); seq <= 3; seq++ {
		r.sendKind(s, seq, 0, wire.KindRandom, 0)
	}
	r.gets(p[1], later(1, 1))
	r.expect("out", "MSG 1 attempt 1 low 1 pred 0 to 101", "MSG 2 attempt 1 low 1 pred 0 to 102",
		"MSG 3 attempt 1 low 1 pred 0 to 100", "MSG 1 attempt 2 low 1 pred 0 to 102")
	r.attach(1, false)
	s = r.attach(1, false)
	r.incs[0] = 0
	r.view()
	for seq := uint64(1); seq <= 3; seq++ {
		r.sendKind(s, seq, 0, wire.KindRandom, 0)
	}
	r.expect("again", "session 1 ended", "session 1 ended", "MSG 1 attempt 3 low 1 pred 0 to 102 maybe-repeat",
		"MSG 2 attempt 3 low 1 pred 0 to 102 maybe-repeat", "MSG 3 attempt 3 low 1 pred 0 to 102 maybe-repeat")
}

// Proves that a message that comes again after its session was forgotten is
// found in the ring of the program that has it, and not given to another one.
func TestOrphanIsFound(t *testing.T) {
	r := newRig(t, 100)
	r.c = New(Config{Self: 100, SessionsMax: 1}, r)
	r.view()
	from := r.c.Peer(^ring.ID(1))
	r.c.PeerUp(r.now, from, 0)
	a := r.attach(8, true)
	r.attach(9, true)
	r.gets(from, r.random(1))
	r.gets(from, r.random(2))
	other := r.random(1)
	other.Session = wire.SessionID{2}
	r.gets(from, other)
	r.expect("a session is forgotten", "session 9 is given 1", "session 8 is given 2", "session 9 is given 1")
	again := r.random(2)
	again.Attempt = 2
	r.gets(from, again)
	r.expect("known")
	r.c.Taken(r.now, a, 2)
	r.c.Flush()
	r.expect("taken", fmt.Sprintf("ACK 2 mask 1 to %d", uint64(from.id)))
	if r.c.orphans != 2 {
		t.Errorf("%d orphans, want the first record of each other session", r.c.orphans)
	}
}
