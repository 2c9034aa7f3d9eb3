package check

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

var (
	someHeader = Header{Program: "r1", Node: "s1", Server: true, PID: 7, AckOnDone: true, Session: sessionOf("r1").String(), StartNs: 9}
	someEvents = []Event{
		{AtNs: 10, What: Sending, Kind: wire.KindBroadcast, Session: sessionOf("p"), Seq: 1 << 40, Hash: 1 << 63, Peer: 3},
		{AtNs: 11, What: Taken, Marked: true, Count: 5, Session: sessionOf("p"), Seq: 1},
	}
)

// write writes a history and returns its file.
func write(t testing.TB, events []Event) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "history")
	w, err := Create(file, someHeader)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// What is written is read, and of what a SIGKILL cut off all but the last event.
func TestHistory(t *testing.T) {
	file := write(t, someEvents)
	h, err := Read(file)
	if err != nil || h.Header != someHeader || !reflect.DeepEqual(h.Events, someEvents) {
		t.Errorf("read %+v, %v, want %+v %+v", h, err, someHeader, someEvents)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = Read(file); err != nil || !reflect.DeepEqual(h.Events, someEvents[:1]) {
		t.Errorf("read %+v, %v of a file that was cut off, want %+v", h.Events, err, someEvents[:1])
	}
	if err := os.WriteFile(file, b[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Read(file); err == nil {
		t.Error("a file without its first line was read")
	}
}

// A history is written into a file of its own; an event without time gets one.
func TestCreate(t *testing.T) {
	before := Now()
	file := write(t, []Event{{What: Taken}})
	h, err := Read(file)
	if err != nil || len(h.Events) != 1 || h.Events[0].AtNs < before || h.Events[0].AtNs > Now() {
		t.Errorf("read %+v, %v; want an event from after %d", h.Events, err, before)
	}
	if _, err := Create(file, someHeader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a history was begun in a file that exists: %v", err)
	}
}

// Whatever a killed process has left is read or refused, and judged without a panic.
func FuzzRead(f *testing.F) {
	b, err := os.ReadFile(write(f, someEvents))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-7])
	f.Add(bytes.Replace(b, []byte(`"server":true`), []byte(`"server":null`), 1))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "history")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := Read(file)
		if err != nil {
			return
		}
		if want := len(b) / eventBytes; len(h.Events) > want {
			t.Fatalf("%d events in %d bytes", len(h.Events), len(b))
		}
		r := Judge(Round{Histories: []History{h, h}, Processes: []Process{
			{Name: h.Program, Program: true, PID: h.PID, EndNs: 1 << 62, Killed: true, Wanted: true},
			{Name: h.Node, PID: 1, EndNs: 1 << 61, Wanted: true},
		}})
		var out bytes.Buffer
		if err := errors.Join(r.Text(&out), r.HTML(&out)); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkJudge judges a round of 200,000 requests on 8 nodes with traces of
// 100,000 frames each, in which one message is lost.
func BenchmarkJudge(b *testing.B) {
	const sessions, each = 20, 10_000
	s := newScene()
	for k := range sessions {
		h := s.program(string(rune('A'+k)), "c1")
		id := sessionOf(h.Program)
		for i := range int64(each) {
			at := (100 + i*3) * msec
			e := Event{Session: id, Seq: uint64(i + 1), Hash: uint64(k<<8 | int(i)%64)}
			for n, what := range []What{Sending, Accepted, Replied} {
				e.AtNs, e.What = at+int64(n)*msec, what
				if k+int(i) > 0 || what != Replied {
					h = s.of(string(rune('A' + k)))
					h.Events = append(h.Events, e)
				}
			}
			if k+int(i) == 0 {
				continue
			}
			r := s.of(receiver(int(e.Hash) % 3))
			e.AtNs, e.What = at+msec, Taken
			r.Events = append(r.Events, e)
			e.What = Answer
			r.Events = append(r.Events, e)
		}
	}
	for i := range s.Histories {
		slices.SortStableFunc(s.Histories[i].Events, func(a, b Event) int { return cmp.Compare(a.AtNs, b.AtNs) })
	}
	s.Traces = map[string]string{}
	for _, n := range []string{"c1", "c2", "s1", "s2", "s3", "s4", "s5", "s6"} {
		events := make([]fault.Event, 100_000)
		for i := range events {
			events[i] = fault.Event{AtNs: int64(i) * msec, What: fault.FrameSent, Type: uint8(wire.TypeMessage), Seq: uint64(i)}
		}
		events[0].What = fault.TableInstalled
		s.Traces[n] = traceFile(b, events)
	}
	for i := range uint64(1000) {
		for _, n := range []string{"c1", "s1", "s2", "s3"} {
			s.observe(int64(100+30*i), n, 10+i, 10+i, "up:1 up:2 up:3", func(st *State) { st.Raft.Term = 1; st.Epoch = ring.Epoch{Era: 1, Index: 10 + i} })
		}
	}
	for b.Loop() {
		r := Judge(s.Round)
		if r.Count[Kept] != 1 || len(r.Count) != 1 {
			b.Fatalf("violated: %v", r.Count)
		}
	}
}
