package check

import (
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// twice lets p send a message that r1 takes at 20 ms and another program at
// 40 ms, marked, with something in between.
func twice(by string, between func(s *scene)) func(*scene) {
	return func(s *scene) {
		s.send(10, 1)
		s.add("r1", 15, Taken, 9, func(e *Event) { e.Session = sessionOf("x") }) // took something before
		s.Earlier = []string{sessionOf("x").String()}
		s.add("r1", 20, Taken, 1)
		s.add(by, 400, Taken, 1, marked)
		between(s)
	}
}

// A message is taken again only with mark, and only for one of the reasons that
// docs/delivery.md names.
func TestRepeats(t *testing.T) {
	nothing := func(*scene) {}
	runScenes(t, []sceneCase{
		{"no reason", twice("r2", nothing), []Clause{Cause}},
		{"the server ended", twice("r2", func(s *scene) { s.end("s1", 30, true) }), nil},
		{"the server ended in order", twice("r2", func(s *scene) { s.end("s1", 30, false) }), nil},
		{"the sender's node ended", twice("r2", func(s *scene) { s.end("c1", 30, true); s.start("c1", 35) }), nil},
		{"another server ended", twice("r2", func(s *scene) { s.end("s3", 30, true) }), []Clause{Cause}},
		{"the server ended afterwards", twice("r2", func(s *scene) { s.end("s1", 5000, true) }), []Clause{Cause}},
		{"the server was declared down", twice("r2", func(s *scene) {
			s.observe(4, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(5, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(30, "s2", 11, 11, "down:1 up:2 up:3")
		}), nil},
		{"the server is up again and nobody saw it down", twice("r2", func(s *scene) {
			s.observe(4, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(5, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(30, "s2", 12, 12, "up:12 up:2 up:3")
		}), nil},
		{"the server was down long ago, as a node shows that is started again", twice("r2", func(s *scene) {
			s.observe(3, "s1", 20, 20, "up:19 up:2 up:3")
			s.observe(4, "s3", 20, 20, "up:19 up:2 up:3")
			s.end("s3", 5, true)
			s.start("s3", 6)
			notYet := func(st *State) { st.Incarnation = 0 }
			s.observe(20, "s3", 10, 10, "up:1 up:2 up:3", notYet)
			s.observe(30, "s3", 11, 11, "down:1 up:2 up:3", notYet)
			s.observe(40, "s3", 21, 21, "up:19 up:2 up:21")
		}), []Clause{Cause}},
		{"another server was declared down", twice("r2", func(s *scene) {
			s.observe(5, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(30, "s2", 11, 11, "up:1 up:2 down:3")
			s.observe(6, "s3", 10, 10, "up:1 up:2 up:3")
		}), []Clause{Cause}},
		{"the server program ended", twice("r2", func(s *scene) { s.end("r1", 30, true) }), []Clause{Cause}},
		{"an AckOnDone program ended", twice("r2", func(s *scene) { s.of("r1").AckOnDone = true; s.end("r1", 30, true) }), nil},
		{"an AckOnDone program had just come", twice("r2", func(s *scene) { s.of("r1").AckOnDone = true; s.of("r1").StartNs = -500 * msec }), []Clause{Cause}},
		{"the server was declared down before, and the sender's node did not know", twice("r2", func(s *scene) {
			s.observe(-45, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(-40, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(-30, "s2", 11, 11, "down:1 up:2 up:3")
			s.observe(-20, "c1", 10, 10, "up:1 up:2 up:3")
			s.observe(12, "c1", 10, 10, "up:1 up:2 up:3")
			s.observe(100, "c1", 11, 11, "down:1 up:2 up:3")
		}), nil},
		{"the server was declared down before, and the sender's node knew", twice("r2", func(s *scene) {
			s.observe(-45, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(-40, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(-30, "s2", 11, 11, "down:1 up:2 up:3")
			s.observe(-50, "c1", 10, 10, "up:1 up:2 up:3")
			s.observe(-20, "c1", 11, 11, "down:1 up:2 up:3")
		}), []Clause{Cause}},
		{"a session was forgotten", twice("r1", func(s *scene) {
			s.observe(5, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(30, "s1", 10, 10, "up:1 up:2 up:3", func(st *State) { st.Data.Counters.Evicted = 1 })
		}), nil},
		{"not marked", twice("r2", func(s *scene) {
			s.end("s1", 30, true)
			s.of("r2").Events[0].Marked = false
		}), []Clause{Marked}},
		{"first marked, then not", func(s *scene) {
			s.send(10, 1)
			s.add("r2", 20, Taken, 1, marked)
			s.add("r1", 25, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
			s.Earlier = []string{sessionOf("x").String()}
			s.add("r1", 3000, Taken, 1)
			s.end("s2", 2000, true)
		}, []Clause{Marked}},
		{"the one without mark by a program that was cut off", func(s *scene) {
			s.send(10, 1)
			s.add("r2", 2000, Taken, 1, marked)
			s.add("r1", 2100, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
			s.Earlier = []string{sessionOf("x").String()}
			s.add("r1", 3000, Taken, 1)
			s.observe(5, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(6, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(1900, "s2", 11, 11, "down:1 up:2 up:3")
			s.observe(4000, "s1", 11, 11, "down:1 up:2 up:3")
		}, nil},
		{"by a program whose node had known it for long", func(s *scene) {
			s.send(10, 1)
			s.add("r2", 2000, Taken, 1, marked)
			s.add("r1", 5100, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
			s.Earlier = []string{sessionOf("x").String()}
			s.add("r1", 6000, Taken, 1)
			s.observe(5, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(6, "s2", 10, 10, "up:1 up:2 up:3")
			s.observe(1900, "s2", 11, 11, "down:1 up:2 up:3")
			s.observe(3000, "s1", 11, 11, "down:1 up:2 up:3")
		}, []Clause{Marked}},
		{"three times, one without mark", func(s *scene) {
			s.send(10, 1)
			s.add("r1", 20, Taken, 1)
			s.add("r2", 400, Taken, 1, marked)
			s.add("r3", 600, Taken, 1, marked)
			s.end("s1", 30, true)
			s.end("s2", 500, true)
		}, nil},
		{"random, the one without mark later, its sender's node ended", func(s *scene) {
			s.send(10, 1, kind(wire.KindRandom))
			s.add("r2", 100, Taken, 1, marked, kind(wire.KindRandom))
			s.add("r1", 101, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
			s.Earlier = []string{sessionOf("x").String()}
			s.add("r1", 200, Taken, 1, kind(wire.KindRandom))
			s.end("c1", 50, true)
			s.start("c1", 60)
		}, nil},
	})
}

// admittedAgain has s3 end at 3 ms, start at 5 ms and be admitted later, by its trace.
func admittedAgain(t *testing.T, at int64) func(*scene) {
	return func(s *scene) {
		s.end("s3", 3, true)
		s.start("s3", 5)
		s.Traces = map[string]string{"s3": traceFile(t, []fault.Event{{AtNs: 6 * msec, What: fault.Started}, {AtNs: at * msec, What: fault.Admitted, Incarnation: 9}})}
	}
}

// againAfterStandIn has r2 take a copy again, after its server stood in for another one.
func againAfterStandIn(t *testing.T, k wire.Kind, onDone bool) func(*scene) {
	return func(s *scene) {
		s.StandIns = true
		s.of("r2").AckOnDone = onDone
		s.add("r2", 50, Taken, 1, marked, kind(k))
		s.add("r2", 60, Done, 1, kind(k))
		s.Traces = map[string]string{"s2": traceFile(t, []fault.Event{
			{AtNs: 5 * msec, What: fault.StandIn, Peer: uint64(idOf("s1")), Hash: 1},
			{AtNs: 30 * msec, What: fault.StandInOver, Peer: uint64(idOf("s1"))},
		})}
	}
}

// A message to many is taken once on each server that it went to, as long as
// that stays.
func TestCopies(t *testing.T) {
	for _, k := range []wire.Kind{wire.KindBroadcast, wire.KindReplicate} {
		to := func(receivers uint32, by ...string) func(*scene) {
			return func(s *scene) {
				s.send(10, 1, kind(k))
				s.add("p", 12, Receivers, 1, kind(k), count(receivers))
				for i, p := range by {
					s.add(p, 20+int64(i), Taken, 1, kind(k))
				}
			}
		}
		and := func(play, more func(*scene)) func(*scene) { return func(s *scene) { play(s); more(s) } }
		runScenes(t, []sceneCase{
			{"all", to(3, "r1", "r2", "r3"), nil},
			{"nobody", to(0), nil},
			{"one missing", to(3, "r1", "r2"), []Clause{Copies}},
			{"one missing, its deadline passed and its sender was killed", and(to(3, "r1", "r2"), func(s *scene) {
				s.of("p").Events[0].Count = 500
				s.end("p", 300, true)
			}), nil},
			{"one missing, its deadline passed long before its sender ended", and(to(3, "r1", "r2"), func(s *scene) {
				s.of("p").Events[0].Count = 500
				s.end("p", 5000, false)
			}), []Clause{Copies}},
			{"one missing, reported", and(to(3, "r1", "r2"), func(s *scene) { s.add("p", 50, MaybeFailed, 1, kind(k)) }), nil},
			{"one missing, its server ended", and(to(3, "r1", "r2"), func(s *scene) { s.end("s3", 30, true) }), nil},
			{"one missing, another server ended", and(to(3, "r1", "r2"), func(s *scene) { s.end("s2", 30, true) }), []Clause{Copies}},
			{"one missing, its server had ended and was admitted afterwards", and(to(3, "r1", "r2"), admittedAgain(t, 60)), nil},
			{"one missing, its server had been admitted before", and(to(3, "r1", "r2"), admittedAgain(t, 8)), []Clause{Copies}},
			{"one missing, its server left", and(to(3, "r1", "r2"), func(s *scene) {
				s.observe(5, "s3", 10, 10, "up:1 up:2 up:3")
				s.observe(30, "s3", 11, 11, "up:1 up:2 out:3")
			}), nil},
			{"one missing, its program was killed", and(to(3, "r1", "r2"), func(s *scene) { s.end("r3", 30, true) }), nil},
			{"one too many", to(2, "r1", "r2", "r3"), []Clause{Copies}},
			{"one too many, its sender's node ended", and(to(2, "r1", "r2", "r3"), func(s *scene) { s.end("c1", 15, true); s.start("c1", 16) }), nil},
			{"again on one server", and(to(2, "r1", "r2"), func(s *scene) { s.add("r2", 50, Taken, 1, marked, kind(k)) }), []Clause{Cause}},
			{"again on one server that stood in, by a program that is cut off for that", and(to(2, "r1", "r2"), againAfterStandIn(t, k, true)), nil},
			{"again on one server that stood in, and had it for good", and(to(2, "r1", "r2"), againAfterStandIn(t, k, false)), []Clause{Cause}},
			{"again on one server that ended", and(to(2, "r1", "r2"), func(s *scene) {
				s.add("r2", 50, Taken, 1, marked, kind(k))
				s.end("s2", 40, true)
			}), []Clause{Cause}},
			{"again on one server, the sender's node ended", and(to(2, "r1", "r2"), func(s *scene) {
				s.add("r2", 50, Taken, 1, marked, kind(k))
				s.end("c1", 30, true)
				s.start("c1", 40)
			}), nil},
			{"again without mark", and(to(2, "r1", "r2"), func(s *scene) {
				s.add("r2", 50, Taken, 1, kind(k))
				s.end("c1", 30, true)
				s.start("c1", 40)
			}), []Clause{Marked}},
			{"replies of all", and(to(2, "r1", "r2"), func(s *scene) {
				s.add("p", 30, Replied, 1, kind(k))
				s.add("p", 31, Replied, 1, kind(k))
			}), nil},
			{"a reply too many", and(to(2, "r1", "r2"), func(s *scene) {
				for i := range int64(3) {
					s.add("p", 30+i, Replied, 1, kind(k))
				}
			}), []Clause{OneReply}},
			{"a reply too many, its sender's node ended", and(to(1, "r1", "r2"), func(s *scene) {
				s.add("p", 30, Replied, 1, kind(k))
				s.add("p", 31, Replied, 1, kind(k))
				s.end("c1", 15, true)
				s.start("c1", 16)
			}), nil},
			{"not delivered, and taken", and(to(2, "r1", "r2"), func(s *scene) { s.add("p", 30, Failed, 1, kind(k)) }), []Clause{NotDelivered}},
		})
	}
}
