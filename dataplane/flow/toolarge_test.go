package flow

import (
	"testing"

	"github.com/chmpx/chmpx/wire"
)

func laterForGood(seq uint64, attempt uint32, marks wire.Flags) wire.Header {
	h := later(seq, attempt)
	h.Flags = marks | wire.FlagTooLarge
	return h
}

// Proves that a message that its receiver's rings cannot hold ends there and
// then, whatever its kind; that it counts as maybe delivered if it was marked,
// here or by who refuses it; and that what waited behind it goes on.
func TestTooLargeIsGivenUp(t *testing.T) {
	for _, kind := range []wire.Kind{wire.KindHash, wire.KindRandom, wire.KindReplicate, wire.KindBroadcast} {
		for marks, maybe := range map[wire.Flags]string{0: "false", wire.FlagMaybeRepeat: "true"} {
			r, p := ringOf(t, 1, 1)
			s := r.attach(1, false)
			r.sendKind(s, 1, 0, kind, wire.FlagWantsReply)
			r.sendKind(s, 2, 0, wire.KindHash, 0)
			r.log = nil
			r.gets(p[0], laterForGood(1, 1, marks))
			want := []string{"message 1 delivered false maybe " + maybe, "messages settled up to 1"}
			if isFan(kind) {
				want = append([]string{"request 1 failed"}, want...)
			}
			r.expect("refused for good", want...)
			r.gets(p[0], laterForGood(1, 1, marks))
			r.expect("once more")
			r.gets(p[0], later(2, 1)) // as it has no predecessor there
			r.pass(2 * ms)
			r.expect("what came after it", "MSG 2 attempt 2 low 2 pred 0 to 100")
			r.gets(p[0], ack(2, 1))
			r.expect("taken", "messages settled up to 2")
		}
	}
}

// Proves that a message that was declared lost with a server and is too large
// for the next one counts as maybe delivered.
func TestTooLargeAfterRepeat(t *testing.T) {
	r, _ := ringOf(t, 1, 2)
	s := r.attach(1, false)
	r.send(s, 1, 0)
	r.incs[0], r.owners[0] = 0, 1
	r.view()
	r.log = nil
	r.gets(r.c.Peer(101), laterForGood(1, 2, 0))
	r.expect("refused for good", "message 1 delivered false maybe true", "messages settled up to 1")
}

// Proves that a broadcast that one of two servers cannot hold is not reported
// as delivered, though the other has taken it, unless replies are wanted: then
// each server counts by itself. A refusal of another attempt is nothing.
func TestTooLargeForOneCopy(t *testing.T) {
	for _, wantsReply := range []bool{false, true} {
		r, p := ringOf(t, 1, 2)
		s := r.attach(1, false)
		flags, failed, outcome := wire.FlagWantsSettled, []string(nil), "message 1 delivered false maybe true"
		if wantsReply {
			flags, failed, outcome = flags|wire.FlagWantsReply, []string{"request 1 failed"}, "message 1 delivered true maybe false"
		}
		r.sendKind(s, 1, 0, wire.KindBroadcast, flags)
		r.log = nil
		r.gets(p[0], laterForGood(1, 7, 0))
		r.expect("another attempt")
		r.gets(p[0], laterForGood(1, 1, 0))
		r.expect("one cannot hold it", failed...)
		r.sendKind(s, 2, 0, wire.KindHash, 0)
		r.expect("that server is not left alone", "MSG 2 attempt 1 low 1 pred 0 to 100")
		r.gets(p[1], ack(1, 1))
		r.expect("the other has it", outcome, "messages settled up to 1")
	}
}

// Proves who refuses for good: the program of the hash, or all programs when
// any would do. While one of them could hold it that one is waited for.
func TestReceiverRefusesForGood(t *testing.T) {
	r := newRig(t, 100)
	p := r.up(7)
	a := r.attach(2, true)
	r.small, r.log = map[*Session]bool{a: true}, nil
	r.gets(p, r.message(1, 0, 1, 0))
	r.expect("by hash", "LATER 1 attempt 1 to 7 too large")
	random := r.message(1, 0, 1, 0)
	random.Kind = wire.KindRandom
	r.gets(p, random)
	r.expect("in turns", "LATER 1 attempt 1 to 7 too large")
	b := r.attach(3, true)
	r.noRoom[b] = true
	r.gets(p, random)
	r.expect("the other program is full", "LATER 1 attempt 1 to 7")
	r.noRoom[b] = false
	for range 2 {
		r.gets(p, random)
		random.Seq, random.LowDelta = random.Seq+1, random.LowDelta+1
	}
	r.expect("the other program has room", "session 3 is given 1", "session 3 is given 2")
	if st := r.c.Stats(); st.TooLarge != 2 || st.Later != 1 {
		t.Errorf("%d refused for good, %d for now, want 2 and 1", st.TooLarge, st.Later)
	}
}

// Proves that a reply that its asker's rings cannot hold is dropped at once,
// and that the asker hears so.
func TestReplyTooLarge(t *testing.T) {
	r, s, p := serving(t)
	r.pass(ms)
	r.answerTo(s, 1, 7, 0)
	r.log = nil
	r.gets(p, wire.Header{Type: wire.TypeReplyLater, Flags: wire.FlagTooLarge, Attempt: 1, Seq: 1})
	r.expect("refused for good", "LOST 41 to 7", "replies settled up to 1")

	r, ps := ringOf(t, 1, 1)
	asker := r.attach(1, false)
	r.small = map[*Session]bool{asker: true}
	r.gets(ps[0], wire.Header{Type: wire.TypeReply, Attempt: 4, Seq: 9, Hash: 1})
	r.expect("at the asker", "REPLYLATER 9 attempt 4 to 100 too large")
}
