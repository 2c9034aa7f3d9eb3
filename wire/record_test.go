package wire

import (
	"bytes"
	"errors"
	"testing"
)

// TestRecordRoundTrip proves that each record decodes to what was encoded, at
// every field's limits, with its payload, and without allocating.
func TestRecordRoundTrip(t *testing.T) {
	b := make([]byte, 200)
	payload := func(p []byte, fixed int) {
		t.Helper()
		if len(p) != len(b)-fixed || &p[0] != &b[fixed] {
			t.Errorf("the payload is not what follows %d bytes", fixed)
		}
	}
	check := func(err error, same bool) {
		t.Helper()
		if err != nil || !same {
			t.Errorf("differs, %v", err)
		}
	}
	most := uint64(SeqMax)
	for i := range b {
		b[i] = 0xee // Put must overwrite every byte of the fixed part
	}
	or, or2 := OutRequest{Seq: most, Hash: most - 1, DeadlineUnixMs: 1<<63 - 1, Flags: 0xffff, Kind: KindHash}, OutRequest{}
	or.Put(b)
	p, err := or2.Get(b)
	check(err, or == or2)
	payload(p, OutRequestBytes)

	op, op2 := OutReply{Seq: most, ToNode: 2, ToSession: SessionID{3, 15: 4}, ToSeq: most - 5, DeadlineUnixMs: 6}, OutReply{}
	op.Put(b)
	p, err = op2.Get(b)
	check(err, op == op2)
	payload(p, OutReplyBytes)

	ir, ir2 := InRequest{Seq: 1, Hash: most, From: 3, Session: SessionID{4, 15: 5}, DeadlineUnixMs: 6, Flags: FlagWantsReply, Kind: KindBroadcast}, InRequest{}
	ir.Put(b)
	p, err = ir2.Get(b)
	check(err, ir == ir2)
	payload(p, InRequestBytes)

	PutInReply(b, most)
	seq, p, err := GetInReply(b)
	check(err, seq == most)
	payload(p, InReplyBytes)

	for ty := ControlRequestFailed; ty < controlEnd; ty++ {
		c, c2 := Control{Type: ty, Detail: 1<<32 - 1, Value: most}, Control{}
		c.Put(b)
		check(c2.Get(b[:ControlBytes]), c == c2)
	}
	if n := testing.AllocsPerRun(100, func() {
		or.Put(b)
		_, _ = or2.Get(b)
		op.Put(b)
		_, _ = op2.Get(b)
		ir.Put(b)
		_, _ = ir2.Get(b)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestGivenUp proves that what a node notes when it gives a message up stays
// when the record is read again.
func TestGivenUp(t *testing.T) {
	for _, before := range []Flags{0, FlagMaybeRepeat} {
		q := OutRequest{Flags: before | FlagWantsReply}
		if q.Again(); q.Flags != FlagMaybeRepeat|FlagWantsReply {
			t.Errorf("%#x read again: %#x", before, q.Flags)
		}
		for maybe, want := range map[bool]Flags{false: FlagGivenUp, true: FlagGivenUp | FlagMaybeRepeat} {
			q.Flags = before
			q.GiveUp(maybe)
			if q.Again(); q.Flags != want {
				t.Errorf("%#x given up, maybe %v: %#x, want %#x", before, maybe, q.Flags, want)
			}
		}
	}
}

// TestRecordRefuses proves that short and impossible records are errors.
func TestRecordRefuses(t *testing.T) {
	get := map[string]struct {
		fixed int
		f     func(b []byte) error
	}{
		"OutRequest": {OutRequestBytes, func(b []byte) error { _, err := new(OutRequest).Get(b); return err }},
		"OutReply":   {OutReplyBytes, func(b []byte) error { _, err := new(OutReply).Get(b); return err }},
		"InRequest":  {InRequestBytes, func(b []byte) error { _, err := new(InRequest).Get(b); return err }},
		"InReply":    {InReplyBytes, func(b []byte) error { _, _, err := GetInReply(b); return err }},
		"Control":    {ControlBytes, func(b []byte) error { return new(Control).Get(b) }},
	}
	for name, g := range get {
		for _, n := range []int{0, g.fixed - 1} {
			if err := g.f(bytes.Repeat([]byte{1}, n)); !errors.Is(err, ErrRecord) {
				t.Errorf("%s of %d bytes: %v, want ErrRecord", name, n, err)
			}
		}
		for _, fill := range []byte{0, 0xff} { // sequence 0 and unknown types; times before 1970
			err := g.f(bytes.Repeat([]byte{fill}, g.fixed))
			if !errors.Is(err, ErrRecord) && name != "InReply" {
				t.Errorf("%s full of %#x: %v, want ErrRecord", name, fill, err)
			}
		}
	}
	if err := new(Control).Get(make([]byte, ControlBytes+1)); !errors.Is(err, ErrRecord) {
		t.Errorf("long control record: %v, want ErrRecord", err)
	}
}

// FuzzRecord proves that decoding whatever bytes does not panic, and that a
// record that decodes is encoded to something that decodes to the same.
func FuzzRecord(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1, 0}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		buf := make([]byte, 64)
		var or, or2 OutRequest
		if _, err := or.Get(b); err == nil {
			or.Put(buf)
			if _, err := or2.Get(buf); err != nil || or != or2 {
				t.Errorf("%+v became %+v: %v", or, or2, err)
			}
		}
		var op, op2 OutReply
		if _, err := op.Get(b); err == nil {
			op.Put(buf)
			if _, err := op2.Get(buf); err != nil || op != op2 {
				t.Errorf("%+v became %+v: %v", op, op2, err)
			}
		}
		var ir, ir2 InRequest
		if _, err := ir.Get(b); err == nil {
			ir.Put(buf)
			if _, err := ir2.Get(buf); err != nil || ir != ir2 {
				t.Errorf("%+v became %+v: %v", ir, ir2, err)
			}
		}
		_, _, _ = GetInReply(b)
		_ = new(Control).Get(b)
	})
}

// FuzzHeader proves that a frame header that decodes is encoded to the same bytes.
func FuzzHeader(f *testing.F) {
	h := Header{Type: TypeMessage, Seq: 9, LowDelta: 3, PredDelta: 2, Length: 5}
	b := make([]byte, HeaderBytes)
	h.Put(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Header
		if h.Get(b) != nil {
			return
		}
		again := make([]byte, HeaderBytes)
		h.Put(again)
		if !bytes.Equal(again, b[:HeaderBytes]) {
			t.Errorf("%x became %x", b[:HeaderBytes], again)
		}
	})
}

// TestMessageBytesMax proves that what a ring takes also travels between nodes,
// whatever the size of the rings.
func TestMessageBytesMax(t *testing.T) {
	for ringBytes, want := range map[int]int{64 << 10: 16<<10 - 128, 1 << 20: 256<<10 - 128, 16 << 20: 4<<20 - 128, 32 << 20: 4 << 20, 256 << 20: 4 << 20} {
		n := MessageBytesMax(ringBytes)
		if n != want {
			t.Errorf("rings of %d bytes: %d, want %d", ringBytes, n, want)
		}
		b := make([]byte, HeaderBytes)
		h := Header{Type: TypeMessage, Seq: 1, Length: uint32(n)}
		h.Put(b)
		if err := new(Header).Get(b); err != nil {
			t.Errorf("rings of %d bytes: %v", ringBytes, err)
		}
	}
}

// A sequence that a window more would wrap is refused in every record: the
// loops of the core would never come to an end.
func TestLastSequence(t *testing.T) {
	for _, seq := range []uint64{SeqMax, SeqMax + 1, 1<<64 - 1} {
		out, reply, in := make([]byte, OutRequestBytes), make([]byte, OutReplyBytes), make([]byte, InRequestBytes)
		o, r, q := OutRequest{Seq: seq}, OutReply{Seq: seq, ToNode: 1, ToSession: SessionID{1}, ToSeq: 1}, InRequest{Seq: seq, From: 1}
		o.Put(out)
		r.Put(reply)
		q.Put(in)
		_, outErr := o.Get(out)
		_, replyErr := r.Get(reply)
		_, inErr := q.Get(in)
		for name, err := range map[string]error{"request": outErr, "reply": replyErr, "request to a program": inErr} {
			if (err != nil) != (seq > SeqMax) {
				t.Errorf("%s with sequence %d: %v", name, seq, err)
			}
		}
	}
}
