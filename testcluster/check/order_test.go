package check

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// lateScene has a message with a deadline at 15 ms that is taken after its successor.
func lateScene(s *scene) {
	s.add("p", 10, Sending, 1, count(5))
	s.add("p", 11, Accepted, 1)
	s.send(12, 2)
	s.add("r1", 20, Taken, 2)
	s.add("r1", 30, Taken, 1)
}

// Messages of one session and hash are first taken in the order in which they
// were accepted.
func TestOrder(t *testing.T) {
	swapped := func(change func(s *scene), opts ...func(*Event)) func(*scene) {
		return func(s *scene) {
			s.send(10, 1, opts...)
			s.send(12, 2, opts...)
			s.add("r1", 20, Taken, 2, opts...)
			s.add("r1", 30, Taken, 1, opts...)
			if change != nil {
				change(s)
			}
		}
	}
	runScenes(t, []sceneCase{
		{"in order", func(s *scene) {
			s.send(10, 1)
			s.send(12, 2)
			s.add("r1", 20, Taken, 1)
			s.add("r1", 30, Taken, 2)
		}, nil},
		{"swapped", swapped(nil), []Clause{Order}},
		{"swapped, other hashes", swapped(func(s *scene) {
			for _, p := range []string{"p", "r1"} {
				for i := range s.of(p).Events {
					s.of(p).Events[i].Hash = s.of(p).Events[i].Seq
				}
			}
		}), nil},
		{"swapped, random", swapped(nil, kind(wire.KindRandom)), nil},
		{"swapped, the first reported as perhaps delivered", swapped(func(s *scene) { s.add("p", 25, MaybeFailed, 1) }), nil},
		{"swapped, the second reported as perhaps delivered", swapped(func(s *scene) { s.add("p", 25, MaybeFailed, 2) }), nil},
		{"swapped, the first after its deadline, its sender was killed", func(s *scene) { lateScene(s); s.end("p", 14, true) }, nil},
		{"swapped, the first after its deadline, its sender lives", lateScene, []Clause{Order}},
		{"swapped, the first before its deadline, its sender was killed", func(s *scene) {
			lateScene(s)
			s.of("p").Events[0].Count = 1000
			s.end("p", 14, true)
		}, []Clause{Order}},
		{"swapped, perhaps only in the records of two goroutines", func(s *scene) {
			s.send(10, 1)
			s.send(12, 2)
			s.add("r1", 20, Taken, 2, count(1))
			s.add("r1", 30, Taken, 1)
		}, nil},
		{"swapped, perhaps taken before by another goroutine that was killed", func(s *scene) { unseenScene(s, 1) }, nil},
		{"swapped, by a program with one goroutine that was killed", func(s *scene) { unseenScene(s, 0) }, []Clause{Order}},
		{"only repeats are swapped", func(s *scene) {
			s.send(10, 1)
			s.send(12, 2)
			s.add("r1", 20, Taken, 1)
			s.add("r1", 30, Taken, 2)
			s.add("r2", 400, Taken, 2, marked)
			s.add("r2", 410, Taken, 1, marked)
			s.end("s1", 350, true)
		}, nil},
		{"by two servers", func(s *scene) {
			s.send(10, 1)
			s.send(12, 2)
			s.add("r2", 20, Taken, 2)
			s.add("r1", 21, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
			s.Earlier = []string{sessionOf("x").String()}
			s.add("r1", 30, Taken, 1)
		}, []Clause{Order}},
	})
}

// unseenScene has the second message taken by a program that is killed with its
// node, and the first one then by another, marked.
func unseenScene(s *scene, thread uint32) {
	s.send(10, 1)
	s.send(12, 2)
	s.add("r1", 20, Taken, 2, count(thread))
	s.end("r1", 25, true)
	s.end("s1", 25, true)
	s.add("r2", 30, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
	s.Earlier = []string{sessionOf("x").String()}
	s.add("r2", 400, Taken, 1, marked)
}

// beside lets s1 take, then s2, then s1 again, while both nodes answer which
// table they have.
func beside(s *scene) {
	for i := range uint64(3) {
		s.send(10+int64(i)*1000, 1+i)
	}
	s.add("r1", 20, Taken, 1)
	s.add("r1", 1050, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
	s.Earlier = []string{sessionOf("x").String()}
	s.add("r2", 1025, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
	s.add("r2", 1030, Taken, 2)
	s.add("r1", 2020, Taken, 3)
	s.observe(5, "s1", 10, 10, "up:1 up:2 up:3")
	s.observe(6, "s2", 10, 10, "up:1 up:2 up:3")
	s.observe(1020, "s2", 12, 12, "up:1 up:2 up:3")
}

// Nobody takes for a hash after another server has taken for it by a newer table.
func TestOneOwner(t *testing.T) {
	runScenes(t, []sceneCase{
		{"by the old table", func(s *scene) {
			beside(s)
			s.observe(2500, "s1", 10, 10, "up:1 up:2 up:3")
		}, []Clause{OneOwner}},
		{"both by the same table", func(s *scene) {
			beside(s)
			s.observe(2500, "s1", 12, 12, "up:1 up:2 up:3")
		}, []Clause{OneOwner}},
		{"owner again by a newer table", func(s *scene) {
			beside(s)
			s.observe(2500, "s1", 14, 14, "up:1 up:2 up:3")
		}, nil},
		{"not known by which table", beside, nil},
		{"by the old table, declared down and not aware", func(s *scene) {
			beside(s)
			s.observe(1900, "s2", 13, 13, "down:1 up:2 up:3")
			s.observe(2500, "s1", 10, 10, "up:1 up:2 up:3")
		}, nil},
		{"random", func(s *scene) {
			beside(s)
			s.observe(2500, "s1", 10, 10, "up:1 up:2 up:3")
			for _, p := range []string{"p", "r1", "r2"} {
				for i := range s.of(p).Events {
					if e := &s.of(p).Events[i]; e.What < Taken {
						e.Kind = wire.KindRandom
					}
				}
			}
		}, nil},
	})
}

// Where there is a trace it says by which table a node took.
func TestOneOwnerByTrace(t *testing.T) {
	trace := func(t *testing.T, installs ...int64) string { // pairs of time and epoch
		var events []fault.Event
		for i := 0; i < len(installs); i += 2 {
			events = append(events, fault.Event{AtNs: installs[i] * msec, What: fault.TableInstalled, Era: 1, Index: uint64(installs[i+1])})
		}
		return traceFile(t, events)
	}
	runScenes(t, []sceneCase{
		{"by the old table", func(s *scene) {
			beside(s)
			s.Traces = map[string]string{"s1": trace(t, 1, 10), "s2": trace(t, 1, 10, 1010, 12)}
		}, []Clause{OneOwner}},
		{"owner again by a newer table", func(s *scene) {
			beside(s)
			s.Traces = map[string]string{"s1": trace(t, 1, 10, 1500, 14), "s2": trace(t, 1, 10, 1010, 12)}
		}, nil},
	})
}

// A killed program can have taken only what its node gave to it.
func TestUnknownByTrace(t *testing.T) {
	trace := func(at int64, seq uint64) string {
		return traceFile(t, []fault.Event{
			{AtNs: at * msec, What: fault.Started},
			{AtNs: 12 * msec, What: fault.Delivered, Session: [16]byte(sessionOf("p")), Seq: seq},
		})
	}
	killed := func(trace string) func(s *scene) {
		return func(s *scene) {
			s.send(10, 1)
			s.end("r1", 20, true)
			s.Traces = map[string]string{"s1": trace}
		}
	}
	runScenes(t, []sceneCase{
		{"given", killed(trace(1, 1)), nil},
		{"not given", killed(trace(1, 2)), []Clause{Kept}},
		{"the trace does not reach back", killed(trace(11, 2)), nil},
	})
}

// traceFile writes a trace as a node does.
func traceFile(t testing.TB, events []fault.Event) string {
	t.Helper()
	b := make([]byte, fault.RecordBytes)
	copy(b, "CHMPXTRC")
	b[8], b[12] = 1, fault.RecordBytes
	binary.LittleEndian.PutUint64(b[16:], uint64(len(events)))
	for i, e := range events {
		e.Number = uint64(i + 1)
		var rec [fault.RecordBytes]byte
		e.Put(rec[:])
		b = append(b, rec[:]...)
	}
	file := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
