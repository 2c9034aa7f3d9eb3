package check

import (
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// A server that stands in for another one takes beside it, with marks, as long as
// its trace says so; where servers are not to stand in nothing of that is excused.
func TestStandInsByTrace(t *testing.T) {
	trace := func(events ...fault.Event) string {
		return traceFile(t, append([]fault.Event{{AtNs: msec, What: fault.TableInstalled, Era: 1, Index: 10}}, events...))
	}
	in := func(at int64, what fault.What) fault.Event {
		return fault.Event{AtNs: at * msec, What: what, Peer: uint64(idOf("s1"))}
	}
	play := func(mark bool, events ...fault.Event) func(s *scene) {
		return func(s *scene) {
			s.StandIns = true
			beside(s)
			for i := range s.of("r2").Events {
				s.of("r2").Events[i].Marked = mark
			}
			s.Traces = map[string]string{"s1": trace(), "s2": trace(events...)}
		}
	}
	again := func(by, then string, events ...fault.Event) func(s *scene) {
		return func(s *scene) {
			s.StandIns = true
			s.observe(5, "s1", 10, 10, "up:1 up:2 up:3")
			s.observe(6, "s2", 10, 10, "up:1 up:2 up:3")
			s.send(10, 1)
			s.add(by, 20, Taken, 1, func(e *Event) { e.Marked = by == "r2" })
			s.add(then, 1050, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
			s.Earlier = []string{sessionOf("x").String()}
			s.add(then, 1060, Taken, 1, func(e *Event) { e.Marked = then == "r2" })
			s.Traces = map[string]string{"s1": trace(), "s2": trace(events...)}
		}
	}
	never := func(play func(s *scene)) func(s *scene) {
		return func(s *scene) { play(s); s.StandIns = false }
	}
	runScenes(t, []sceneCase{
		{"it stands in", play(true, in(1000, fault.StandIn)), nil},
		{"it stands in, and must not", never(play(true, in(1000, fault.StandIn))), []Clause{OneOwner}},
		{"repeated there, and must not", never(again("r1", "r2", in(1000, fault.StandIn))), []Clause{Cause}},
		{"taken there, then by the owner, and must not", never(again("r2", "r1", in(15, fault.StandIn), in(30, fault.StandInOver))), []Clause{Marked}},
		{"it does not", play(true), []Clause{OneOwner}},
		{"not yet", play(true, in(1040, fault.StandIn)), []Clause{OneOwner}},
		{"no longer", play(true, in(2, fault.StandIn), in(10, fault.StandInOver)), []Clause{OneOwner}},
		{"for another one", play(true, fault.Event{AtNs: 1000 * msec, What: fault.StandIn, Peer: uint64(idOf("s3"))}), []Clause{OneOwner}},
		{"no longer, by its restart", play(true, in(2, fault.StandIn), fault.Event{AtNs: 10 * msec, What: fault.Started}), []Clause{OneOwner}},
		{"unmarked", play(false, in(1000, fault.StandIn)), []Clause{OneOwner}},
		{"repeated there", again("r1", "r2", in(1000, fault.StandIn)), nil},
		{"repeated, and nobody stood in", again("r1", "r2"), []Clause{Cause}},
		{"taken there, then by the owner, which had it", again("r2", "r1", in(15, fault.StandIn), in(30, fault.StandInOver)), nil},
		{"taken by two, and nobody stood in", again("r2", "r1"), []Clause{Marked}},
	})
}

// stoodScene has r2 take message 1 at 30 ms in the place of s1, whose process ended
// at 15 ms unless it lives, and r1 take message 2 at 2,000 ms. Traces say what s1
// and s2 went by; more adds to that of s1 or s2.
type stoodScene struct {
	unmarked, lives bool
	s1, s2          []fault.Event
	later           func(s *scene)
}

const (
	lacks   = 1
	nothing = 2
)

func (c stoodScene) play(t *testing.T) func(s *scene) {
	return func(s *scene) {
		s.StandIns = true
		name := [16]byte(sessionOf("p"))
		owner := uint64(idOf("s1"))
		mark := uint16(wire.FlagMaybeRepeat)
		if c.unmarked {
			mark = 0
		}
		s.observe(5, "s1", 10, 10, "up:1 up:2 up:3")
		s.observe(6, "s2", 10, 10, "up:1 up:2 up:3")
		s.send(10, 1)
		s.add("r2", 25, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
		s.Earlier = []string{sessionOf("x").String()}
		s.add("r2", 30, Taken, 1, func(e *Event) { e.Marked = true })
		s.add("r1", 1990, Taken, 9, func(e *Event) { e.Session = sessionOf("x") })
		s.send(1000, 2)
		s.add("r1", 2000, Taken, 2)
		one := []fault.Event{{AtNs: 1, What: fault.Admitted, Incarnation: 1}, tableAt(2, 10, 0)}
		two := []fault.Event{{AtNs: 1, What: fault.Admitted, Incarnation: 2}, tableAt(2, 10, 0),
			{AtNs: 20 * msec, What: fault.StandIn, Peer: owner, Hash: 1},
			{AtNs: 27 * msec, What: fault.InPlace, Peer: owner, Session: name, Seq: 1, Flags: mark}}
		if !c.lives {
			s.end("s1", 15, true)
			s.start("s1", 100)
			one = append(one, fault.Event{AtNs: 101 * msec, What: fault.Started}, fault.Event{AtNs: 1500 * msec, What: fault.Admitted, Incarnation: 5})
		}
		if c.later != nil {
			c.later(s)
		}
		s.Traces = map[string]string{"s1": traceFile(t, append(one, c.s1...)), "s2": traceFile(t, append(two, c.s2...))}
	}
}

// tableAt is the installation of a table at a time in ms.
func tableAt(at int64, index uint64, flags uint16) fault.Event {
	return fault.Event{AtNs: at * msec, What: fault.TableInstalled, Era: 1, Index: index, Flags: flags, Attempt: 77}
}

// After a server has taken something in the place of another one, marked, one of the two lacks
// data: the other one if it had ended, and then before it acts again.
func TestBehind(t *testing.T) {
	over := fault.Event{AtNs: 40 * msec, What: fault.StandInOver, Peer: uint64(idOf("s1"))}
	other := tableAt(1600, 14, 0)
	other.Attempt = 78
	runScenes(t, []sceneCase{
		{"it had ended, and lacks data", stoodScene{s1: []fault.Event{tableAt(1550, 12, lacks), tableAt(1600, 14, 0)}}.play(t), nil},
		{"it had ended, and owned nothing", stoodScene{s1: []fault.Event{tableAt(1550, 12, nothing), tableAt(1600, 14, 0)}}.play(t), nil},
		{"it had ended, and acts at once", stoodScene{s1: []fault.Event{tableAt(1600, 14, 0)}}.play(t), []Clause{Behind}},
		{"it had ended, acts at once, and the other one lacks data", stoodScene{s1: []fault.Event{tableAt(1600, 14, 0)},
			s2: []fault.Event{over, tableAt(1600, 14, lacks)}}.play(t), []Clause{Behind}},
		{"it had ended, and lacked data before", stoodScene{s1: []fault.Event{tableAt(1600, 14, 0), tableAt(3000, 15, lacks)}}.play(t), []Clause{Behind}},
		{"it had ended, and the other one, too", stoodScene{s1: []fault.Event{tableAt(1600, 14, 0)}, s2: []fault.Event{over, tableAt(1700, 14, lacks)},
			later: func(s *scene) { s.end("s2", 50, true); s.start("s2", 1650) }}.play(t), nil},
		{"it lives, the other one lacks data", stoodScene{lives: true, s2: []fault.Event{over, tableAt(1600, 14, lacks)}}.play(t), nil},
		{"it lives, nobody lacks data", stoodScene{lives: true, s2: []fault.Event{over, tableAt(1600, 14, 0)}}.play(t), []Clause{Behind}},
		{"it lives, slots have moved", stoodScene{lives: true, s2: []fault.Event{over, other}}.play(t), nil},
		{"it lives, the other one lost its disk", stoodScene{lives: true, s2: []fault.Event{over, tableAt(1700, 14, 0)}, later: func(s *scene) {
			s.end("s2", 50, true)
			s.start("s2", 1650)
			s.Processes[len(s.Processes)-1].Empty = true
		}}.play(t), nil},
		{"it lives, the other one was started again", stoodScene{lives: true, s2: []fault.Event{over, tableAt(1700, 14, 0)}, later: func(s *scene) {
			s.end("s2", 50, true)
			s.start("s2", 1650)
		}}.play(t), []Clause{Behind}},
		{"it lives, and nobody is to stand in", stoodScene{lives: true, s2: []fault.Event{over, tableAt(1600, 14, 0)},
			later: func(s *scene) { s.StandIns = false }}.play(t), []Clause{OneOwner}},
		{"given without mark", stoodScene{unmarked: true, lives: true, s2: []fault.Event{over, tableAt(1600, 14, lacks)}}.play(t), []Clause{Marked}},
	})
}
