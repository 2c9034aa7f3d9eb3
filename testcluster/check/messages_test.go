package check

import (
	"slices"
	"testing"
)

// What is accepted is taken in the end, unless its sender was told or program
// and node of the sender have ended.
func TestKept(t *testing.T) {
	runScenes(t, []sceneCase{
		{"taken", func(s *scene) { s.send(10, 1); s.add("r1", 12, Taken, 1) }, nil},
		{"never taken", func(s *scene) { s.send(10, 1) }, []Clause{Kept}},
		{"not accepted", func(s *scene) { s.add("p", 10, Sending, 1); s.add("p", 11, Refused, 1) }, nil},
		{"reported", func(s *scene) { s.send(10, 1); s.add("p", 20, Failed, 1) }, nil},
		{"perhaps reported", func(s *scene) { s.send(10, 1); s.add("p", 20, MaybeFailed, 1) }, nil},
		{"only its sender has ended", func(s *scene) { s.send(10, 1); s.end("p", 20, true) }, []Clause{Kept}},
		{"only its sender's node has ended", func(s *scene) { s.send(10, 1); s.end("c1", 20, true); s.start("c1", 30) }, []Clause{Kept}},
		{"sender, then its node", func(s *scene) { s.send(10, 1); s.end("p", 20, true); s.end("c1", 30, true); s.start("c1", 40) }, nil},
		{"node, then its sender while there is none", func(s *scene) {
			s.send(10, 1)
			s.end("c1", 20, true)
			s.end("p", 30, true)
			s.start("c1", 40)
		}, nil},
		{"node, then its sender when there is one again", func(s *scene) {
			s.send(10, 1)
			s.end("c1", 20, true)
			s.start("c1", 30)
			s.send(40, 2)
			s.add("r1", 50, Taken, 2)
			s.end("p", 60, true)
		}, []Clause{Kept}},
	})
}

// A killed program may have taken one message per goroutine that no record
// shows, and not more.
func TestUnknown(t *testing.T) {
	runScenes(t, []sceneCase{
		{"one message, one goroutine", func(s *scene) { s.send(10, 1); s.end("r1", 20, true) }, nil},
		{"two messages, one goroutine", func(s *scene) { s.send(10, 1); s.send(12, 2); s.end("r1", 20, true) }, []Clause{Kept}},
		{"two messages, two goroutines", func(s *scene) {
			s.send(2, 1)
			s.add("r1", 5, Taken, 1, count(1)) // the second one's
			s.send(10, 2)
			s.send(12, 3)
			s.end("r1", 20, true)
		}, nil},
		{"two messages, two programs", func(s *scene) {
			s.send(10, 1)
			s.send(30, 2)
			s.end("r1", 40, true)
			s.end("r2", 20, true)
		}, nil},
		{"sent after the program was killed", func(s *scene) { s.send(30, 1); s.end("r1", 20, true) }, []Clause{Kept}},
		{"AckOnDone, given and not done yet", func(s *scene) {
			s.of("r1").AckOnDone = true
			s.send(10, 1)
			s.add("r1", 12, Taken, 1)
			s.Processes = slices.Insert(s.Processes, 0, Process{Name: "had its number before", Program: true, PID: s.of("r1").PID,
				StartNs: -90_000 * msec, EndNs: -80_000 * msec, Killed: true, Wanted: true})
		}, nil},
		{"the program ended in order", func(s *scene) { s.send(10, 1); s.end("r1", 20, false) }, []Clause{Kept}},
		{"the killed program is a client", func(s *scene) {
			s.program("q", "c1")
			s.send(10, 1)
			s.end("q", 20, true)
		}, []Clause{Kept}},
		{"settled", func(s *scene) { s.send(10, 1); s.add("p", 30, Settled, 1); s.end("r1", 20, true) }, nil},
		{"with a deadline", func(s *scene) { s.send(10, 1, deadline) }, []Clause{Kept}},
		{"with a deadline, its sender was killed", func(s *scene) { s.send(10, 1, deadline); s.end("p", 5000, true) }, nil},
		{"with a deadline, its sender ended soon", func(s *scene) { s.send(10, 1, deadline); s.end("p", 20, false) }, nil},
		{"with a deadline, its sender ended later", func(s *scene) { s.send(10, 1, deadline); s.end("p", 5000, false) }, []Clause{Kept}},
		{"without deadline, its sender ended", func(s *scene) { s.send(10, 1); s.end("p", 20, true) }, []Clause{Kept}},
		{"AckOnDone, not given", func(s *scene) {
			s.of("r1").AckOnDone = true
			s.send(10, 1)
			s.end("r1", 20, true)
		}, []Clause{Kept}},
		{"AckOnDone, given", func(s *scene) {
			s.of("r1").AckOnDone = true
			s.send(10, 1)
			s.add("r1", 12, Taken, 1)
			s.end("r1", 20, true)
		}, nil},
		{"AckOnDone, two given", func(s *scene) {
			s.of("r1").AckOnDone = true
			s.send(10, 1)
			s.send(12, 2)
			s.add("r1", 15, Taken, 1)
			s.add("r1", 16, Taken, 2)
			s.end("r1", 20, true)
		}, []Clause{Kept}},
		{"AckOnDone, done", func(s *scene) {
			s.of("r1").AckOnDone = true
			s.send(10, 1)
			s.send(12, 2)
			s.add("r1", 15, Taken, 1)
			s.add("r1", 16, Taken, 2)
			s.add("r1", 17, Done, 2)
			s.end("r1", 20, true)
		}, nil},
	})
}

// deadline gives the message 5 ms.
func deadline(e *Event) { e.Count = 5 }

// What is taken is what was sent, and nothing that was refused.
func TestKnown(t *testing.T) {
	runScenes(t, []sceneCase{
		{"never sent", func(s *scene) { s.add("r1", 12, Taken, 1, hash(0)) }, []Clause{Known}},
		{"of nobody", func(s *scene) {
			s.add("r1", 12, Taken, 1, func(e *Event) { e.Session = sessionOf("x") })
		}, []Clause{Known}},
		{"of an earlier round", func(s *scene) {
			s.Earlier = []string{sessionOf("x").String()}
			s.add("r1", 12, Taken, 1, func(e *Event) { e.Session = sessionOf("x") })
		}, nil},
		{"another hash", func(s *scene) { s.send(10, 1); s.add("r1", 12, Taken, 1, hash(8)) }, []Clause{Known}},
		{"its sender was killed on the way", func(s *scene) {
			s.add("p", 10, Sending, 1)
			s.add("r1", 12, Taken, 1)
			s.end("p", 13, true)
		}, nil},
		{"refused", func(s *scene) {
			s.add("p", 10, Sending, 1)
			s.add("p", 11, Refused, 1)
			s.add("r1", 12, Taken, 1)
		}, []Clause{NotRefused}},
		{"refused, and its sequence used again", func(s *scene) {
			s.add("p", 10, Sending, 1)
			s.add("p", 11, Refused, 1)
			s.send(12, 1)
			s.add("r1", 15, Taken, 1)
		}, nil},
	})
}

// What senders are told is true, and told once.
func TestOutcome(t *testing.T) {
	sent := func(take int64, then ...What) func(*scene) {
		return func(s *scene) {
			s.send(10, 1)
			if take != 0 {
				s.add("r1", 11, Taken, 2, func(e *Event) { e.Session = sessionOf("x") }) // it took something before
				s.Earlier = []string{sessionOf("x").String()}
				s.add("r1", take, Taken, 1)
			}
			for i, w := range then {
				s.add("p", 20+int64(i), w, 1)
			}
		}
	}
	runScenes(t, []sceneCase{
		{"settled", sent(15, Settled), nil},
		{"settled, its record a little late", sent(25, Settled), nil},
		{"settled and not taken", sent(0, Settled), []Clause{Outcome}},
		{"settled before it was taken", func(s *scene) {
			s.send(10, 1)
			s.add("p", 20, Settled, 1)
			s.send(30, 2, hash(8))
			s.add("r1", 35, Taken, 2, hash(8))
			s.add("r1", 40, Taken, 1)
		}, []Clause{Outcome}},
		{"replied", sent(15, Replied), nil},
		{"replied and not taken", sent(0, Replied), []Clause{Outcome}},
		{"replied before it was taken", sent(25, Replied), []Clause{Outcome}},
		{"two replies", sent(15, Replied, Replied), []Clause{OneReply}},
		{"not delivered, and taken", sent(15, Failed), []Clause{NotDelivered}},
		{"not delivered, and taken later", sent(25, Failed), []Clause{NotDelivered}},
		{"perhaps delivered, and taken", sent(15, MaybeFailed), nil},
		{"told twice", sent(15, Settled, MaybeFailed), []Clause{Outcome}},
		{"told twice as given up", sent(0, Failed, Failed), []Clause{Outcome}},
		{"answered and given up", sent(15, Replied, MaybeFailed), []Clause{Outcome}},
	})
}
