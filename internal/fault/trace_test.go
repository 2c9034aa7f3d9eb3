package fault

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func event(n uint64) Event {
	return Event{
		Number: n, AtNs: int64(1000 * n), What: FrameSent, Type: 1, Kind: 2, Flags: 0x8001, Peer: 0xfedc_ba98_7654_3210,
		Session: [16]byte{1, 2, 15: 16}, Seq: n * 3, Hash: ^n, Attempt: 7, Era: 3, Index: 99, LowDelta: 5, PredDelta: 4, Incarnation: 12,
	}
}

// traceOf returns the bytes of a file with so many places into which the events were written.
func traceOf(places uint64, events ...Event) []byte {
	b := make([]byte, (places+1)*RecordBytes)
	putHead(b, places)
	for _, e := range events {
		e.Put(b[(1+(e.Number-1)%places)*RecordBytes:])
	}
	return b
}

// Every field of an event survives encoding and decoding.
func TestEventRoundTrip(t *testing.T) {
	var b [RecordBytes]byte
	want, got := event(5), Event{}
	want.Put(b[:])
	if !got.Get(b[:]) {
		t.Fatal("the event does not decode")
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("decoded (-got +want):\n%s", d)
	}
}

// A trace that went round gives its newest events in order, without records
// that were half written and without what is older than a round.
func TestDecodeTrace(t *testing.T) {
	tests := map[string]struct {
		bytes func() []byte
		want  []uint64
	}{
		"empty":  {func() []byte { return traceOf(4) }, nil},
		"begun":  {func() []byte { return traceOf(4, event(1), event(2)) }, []uint64{1, 2}},
		"around": {func() []byte { return traceOf(4, event(1), event(2), event(3), event(4), event(5), event(6)) }, []uint64{3, 4, 5, 6}},
		"torn": {func() []byte {
			b := traceOf(4, event(3), event(4), event(5), event(6))
			b[2*RecordBytes+91]++ // number 6
			return b
		}, []uint64{3, 4, 5}},
		"older than a round": {func() []byte { return traceOf(4, event(1), event(10)) }, []uint64{10}},
		"in a wrong place": {func() []byte {
			b := traceOf(4, event(1))
			copy(b[3*RecordBytes:], b[RecordBytes:2*RecordBytes])
			return b
		}, []uint64{1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := DecodeTrace(tt.bytes())
			if err != nil {
				t.Fatalf("DecodeTrace: %v", err)
			}
			var got []uint64
			for _, e := range events {
				got = append(got, e.Number)
				if want := event(e.Number); e != want {
					t.Errorf("event %d is %+v, want %+v", e.Number, e, want)
				}
			}
			if d := cmp.Diff(got, tt.want); d != "" {
				t.Errorf("numbers (-got +want):\n%s", d)
			}
		})
	}
}

// What is no trace is an error that says so.
func TestReadTraceErrors(t *testing.T) {
	cut := traceOf(4, event(1))
	other := traceOf(4, event(1))
	other[8]++
	for name, b := range map[string][]byte{"nothing": nil, "text": make([]byte, 500), "cut off": cut[:3*RecordBytes], "version": other} {
		file := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if events, err := ReadTrace(file); !errors.Is(err, ErrTrace) {
			t.Errorf("%s: %d events, error %v, want ErrTrace", name, len(events), err)
		}
	}
	if _, err := ReadTrace(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: error %v, want ErrNotExist", err)
	}
}

// Whatever a killed process left: no panic, and only whole events in order.
func FuzzDecodeTrace(f *testing.F) {
	f.Add(traceOf(4))
	f.Add(traceOf(4, event(3), event(4), event(5), event(6)))
	f.Add(traceOf(2, event(1))[:250])
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := DecodeTrace(b)
		if err != nil && len(events) > 0 {
			t.Fatalf("%d events and error %v", len(events), err)
		}
		for i, e := range events {
			if i > 0 && e.Number <= events[i-1].Number || e.What == 0 || e.What >= whatEnd {
				t.Fatalf("event %d of %d: %+v", i, len(events), e)
			}
			var again [RecordBytes]byte
			e.Put(again[:])
			if got := (Event{}); !got.Get(again[:]) || got != e {
				t.Fatalf("event %+v decodes as %+v after it was encoded", e, got)
			}
		}
	})
}
