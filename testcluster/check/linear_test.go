package check

import (
	"strings"
	"testing"
)

// op adds a command that was done, or may have been.
func (s *scene) op(at, until int64, command, target string, change ...func(*Op)) {
	o := Op{CallNs: at * msec, ReturnNs: until * msec, Client: len(s.Ops) % 3, Node: "s1", Command: command, Target: target, OK: true, Reply: "SUCCEED"}
	for _, f := range change {
		f(&o)
	}
	s.Ops = append(s.Ops, o)
}

// read adds a consistent read.
func (s *scene) read(at, until int64, version uint64, suspended bool, status string) {
	s.observe(at, "s1", version, version, status, func(st *State) { st.SuspendMerge = suspended })
	st := s.Observations[len(s.Observations)-1].State
	s.Observations = s.Observations[:len(s.Observations)-1]
	s.op(at, until, "READ", "", func(o *Op) { o.Read = &st })
}

func unknownOp(o *Op) { o.OK, o.Unknown, o.ReturnNs = false, true, 0 }
func refusedOp(o *Op) { o.OK = false }

const allUp = "up:1 up:2 up:3"

// Commands and consistent reads have an order in which each read shows what was
// commanded before.
func TestLinearizable(t *testing.T) {
	suspended := func(more func(s *scene)) func(*scene) {
		return func(s *scene) {
			alike(s)
			s.read(100, 110, 30, false, allUp)
			s.op(120, 130, "SUSPENDMERGE", "")
			more(s)
		}
	}
	leaving := func(more func(s *scene)) func(*scene) {
		return func(s *scene) {
			alike(s)
			s.read(100, 110, 30, false, allUp)
			s.op(120, 130, "SERVICEOUT", "s2")
			more(s)
		}
	}
	coming := func(more func(s *scene)) func(*scene) {
		return func(s *scene) {
			alike(s)
			s.read(100, 110, 30, false, "up:1 out:2 up:3")
			s.op(120, 130, "SERVICEIN", "s2")
			more(s)
		}
	}
	runScenes(t, []sceneCase{
		{"flag shown", suspended(func(s *scene) { s.read(140, 150, 31, true, allUp) }), nil},
		{"flag forgotten", suspended(func(s *scene) { s.read(140, 150, 31, false, allUp) }), []Clause{Linearizable}},
		{"flag not shown yet to who asks meanwhile", suspended(func(s *scene) { s.read(125, 150, 31, false, allUp) }), nil},
		{"flag shown, then not", suspended(func(s *scene) {
			s.read(140, 150, 31, true, allUp)
			s.read(160, 170, 32, false, allUp)
		}), []Clause{Linearizable}},
		{"flag taken back", suspended(func(s *scene) {
			s.op(140, 150, "NOSUSPENDMERGE", "")
			s.read(160, 170, 32, false, allUp)
		}), nil},
		{"flag refused to be taken back", suspended(func(s *scene) {
			s.op(140, 150, "NOSUSPENDMERGE", "", refusedOp)
			s.read(160, 170, 32, false, allUp)
		}), []Clause{Linearizable}},
		{"unknown, and happened late", suspended(func(s *scene) {
			s.op(140, 150, "NOSUSPENDMERGE", "", unknownOp)
			s.read(160, 170, 32, true, allUp)
			s.read(180, 190, 33, false, allUp)
		}), nil},
		{"unknown, happened once only", suspended(func(s *scene) {
			s.op(140, 150, "NOSUSPENDMERGE", "", unknownOp)
			s.read(160, 170, 32, false, allUp)
			s.op(180, 190, "SUSPENDMERGE", "")
			s.read(200, 210, 33, false, allUp)
		}), []Clause{Linearizable}},
		{"version back", func(s *scene) {
			alike(s)
			s.read(100, 110, 30, false, allUp)
			s.read(120, 130, 29, false, allUp)
		}, []Clause{Linearizable}},
		{"version back, read beside each other", func(s *scene) {
			alike(s)
			s.read(100, 125, 30, false, allUp)
			s.read(120, 130, 29, false, allUp)
		}, nil},
		{"leaving", leaving(func(s *scene) { s.read(140, 150, 31, false, "up:1 del:2 up:3") }), nil},
		{"left", leaving(func(s *scene) { s.read(140, 150, 31, false, "up:1 out:2 up:3") }), nil},
		{"stays", leaving(func(s *scene) { s.read(140, 150, 31, false, allUp) }), []Clause{Linearizable}},
		{"comes back", leaving(func(s *scene) {
			s.read(140, 150, 31, false, "up:1 out:2 up:3")
			s.read(160, 170, 32, false, "up:1 add:2 up:3")
		}), []Clause{Linearizable}},
		{"comes back after it was started again", leaving(func(s *scene) {
			s.read(140, 150, 31, false, "up:1 out:2 up:3")
			s.read(160, 170, 35, false, "up:1 add:33 up:3")
		}), nil},
		{"called back", leaving(func(s *scene) {
			s.op(140, 150, "ABORTMERGE", "")
			s.read(160, 170, 32, false, allUp)
		}), nil},
		{"perhaps called back", leaving(func(s *scene) {
			s.op(140, 150, "ABORTMERGE", "", unknownOp)
			s.read(160, 170, 32, false, allUp)
		}), nil},
		{"another server is asked out", leaving(func(s *scene) {
			s.read(140, 150, 31, false, "up:1 del:2 up:3")
			s.op(151, 152, "SERVICEOUT", "s3", refusedOp)
		}), nil},
		{"coming", coming(func(s *scene) { s.read(140, 150, 31, false, "up:1 add:2 up:3") }), nil},
		{"in", coming(func(s *scene) { s.read(140, 150, 31, false, allUp) }), nil},
		{"not coming", coming(func(s *scene) { s.read(140, 150, 31, false, "up:1 out:2 up:3") }), []Clause{Linearizable}},
		{"not coming, down", coming(func(s *scene) { s.read(140, 150, 31, false, "up:1 gone:2 up:3") }), nil},
	})
}

// A violation names the operation that has no place, and comes with porcupine's drawing.
func TestLinearizableShown(t *testing.T) {
	s := newScene()
	s.op(10, 11, "SUSPENDMERGE", "")
	s.read(20, 21, 5, true, allUp)
	s.read(30, 31, 6, false, allUp)
	s.op(40, 41, "NOSUSPENDMERGE", "")
	s.read(50, 51, 7, false, allUp)
	r := Judge(s.Round)
	if len(r.Violations) != 1 {
		t.Fatalf("%d violations, want 1", len(r.Violations))
	}
	v := r.Violations[0]
	var here []Line
	for _, l := range v.Lines {
		if l.Here {
			here = append(here, l)
		}
	}
	if len(here) != 1 || here[0].AtNs != 30*msec || !strings.Contains(v.Text, "version 6") {
		t.Errorf("%s: %+v is blamed, want the read at 30 ms", v.Text, here)
	}
	if !strings.Contains(string(v.Page), "<html") {
		t.Errorf("no drawing: %.80q", v.Page)
	}
}

// What cannot be judged in time is said to be undecided.
func TestUndecided(t *testing.T) {
	s := newScene()
	for i := range int64(40) {
		s.op(10, 0, "SUSPENDMERGE", "", unknownOp)
		s.op(10, 0, "NOSUSPENDMERGE", "", unknownOp)
		s.read(20+i, 21+i, uint64(5+i), i%2 == 0, allUp)
	}
	s.op(90, 91, "SUSPENDMERGE", "")
	j := newJudge(&s.Round)
	j.learn()
	j.linear("the flag", flagModel, j.opsAbout("SUSPENDMERGE", "NOSUSPENDMERGE"), 1)
	if n := j.rep.Numbers.Undecided; n != 1 || len(j.rep.Notes) != 1 || len(j.rep.Count) != 0 {
		t.Errorf("%d undecided, notes %q, violated %v; want 1, one and none", n, j.rep.Notes, j.rep.Count)
	}
}

// Who asks a node that runs has an answer within 5 s.
func TestAnswered(t *testing.T) {
	asked := func(until int64, answers ...int64) func(*scene) {
		return func(s *scene) {
			alike(s)
			for _, at := range answers {
				s.observe(at, "s1", 30, 30, allUp)
			}
			s.op(200, until, "UPDATESTATUS", "", refusedOp)
		}
	}
	often := func(from, to int64) (at []int64) {
		for ; from < to; from += 500 {
			at = append(at, from)
		}
		return at
	}
	runScenes(t, []sceneCase{
		{"in time", asked(5600, often(150, 8000)...), nil},
		{"late", asked(5800, often(150, 8000)...), []Clause{Answered}},
		{"late, by a node that was stopped", asked(5800, append(often(150, 2000), often(4000, 8000)...)...), nil},
		{"late, by a node that was stopped when it was asked", func(s *scene) {
			asked(5800, append(often(150, 2000), often(3500, 8000)...)...)(s)
			for i := range s.Observations {
				if o := &s.Observations[i]; o.Node == "s1" && o.DoneNs == 3500*msec {
					o.AtNs = 1900 * msec
				}
			}
		}, nil},
		{"late, not seen before", func(s *scene) {
			asked(5800, often(1500, 8000)...)(s)
			s.Observations = s.Observations[6:] // what alike has seen
		}, nil},
		{"late, nobody saw what the node did", asked(5800), nil},
		{"late, by a node that ended", func(s *scene) { asked(5800, often(150, 8000)...)(s); s.end("s1", 5700, true) }, nil},
	})
}
