package check

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/fault"
	nodes "github.com/chmpx/chmpx/node"
)

// alike lets all servers answer alike twice, the second time a newer version.
func alike(s *scene) {
	for i, n := range []string{"s1", "s2", "s3"} {
		s.observe(10+int64(i), n, 20, 20, "up:1 up:2 up:3")
		s.observe(50+int64(i), n, 25, 22, "up:1 up:2 up:3")
	}
}

// after plays alike and changes what it did.
func after(change func(s *scene)) func(*scene) {
	return func(s *scene) { alike(s); change(s) }
}

// Nothing goes back on a node, also not across its starts once it is admitted.
func TestForward(t *testing.T) {
	again := func(more ...func(*State)) func(*scene) {
		return after(func(s *scene) {
			s.end("s1", 60, true)
			s.start("s1", 70)
			s.observe(80, "s1", 20, 20, "up:1 up:2 up:3", more...)
		})
	}
	unadmitted := func(st *State) { st.Incarnation = 0 }
	runScenes(t, []sceneCase{
		{"forward", alike, nil},
		{"table", after(func(s *scene) {
			s.observe(80, "s1", 26, 21, "up:1 up:2 up:3", func(st *State) { st.Data.Epoch.Index = 22 })
		}), []Clause{Forward}},
		{"version", after(func(s *scene) { s.observe(80, "s1", 24, 22, "up:1 up:2 up:3") }), []Clause{Forward}},
		{"an answer that came late", after(func(s *scene) {
			s.observe(80, "s1", 24, 22, "up:1 up:2 up:3")
			s.Observations[len(s.Observations)-1].AtNs = 20 * msec
		}), nil},
		{"the table that routes", after(func(s *scene) {
			s.observe(80, "s1", 26, 26, "up:1 up:2 up:3", func(st *State) { st.Data.Epoch.Index = 21 })
		}), []Clause{Forward}},
		{"term", after(func(s *scene) {
			s.observe(80, "s1", 26, 26, "up:1 up:2 up:3", func(st *State) { st.Raft.Term = 5 })
			s.observe(90, "s1", 26, 26, "up:1 up:2 up:3", func(st *State) { st.Raft.Term = 4 })
		}), []Clause{Forward}},
		{"era", after(func(s *scene) {
			s.observe(80, "s1", 27, 27, "up:1 up:2 up:3", func(st *State) { st.Epoch.Era, st.RingID = 2, 6 })
			s.observe(90, "s1", 28, 28, "up:1 up:2 up:3")
		}), []Clause{Forward}},
		{"a later era", after(func(s *scene) {
			s.observe(80, "s1", 2, 2, "up:1 up:2 up:3", func(st *State) { st.Epoch.Era, st.Data.Epoch.Era, st.RingID = 2, 2, 6 })
		}), nil},
		{"another ring of the same era", after(func(s *scene) {
			s.observe(80, "s1", 27, 27, "up:1 up:2 up:3", func(st *State) { st.RingID = 6 })
		}), []Clause{Forward}},
		{"started again, not admitted yet", again(unadmitted), nil},
		{"started again and admitted", again(func(st *State) { st.Incarnation = 30 }), []Clause{Forward}},
		{"its own incarnation", after(func(s *scene) {
			s.observe(80, "s1", 40, 40, "up:30 up:2 up:3")
			s.end("s1", 85, true)
			s.start("s1", 86)
			s.observe(90, "s1", 40, 40, "up:30 up:2 up:3", unadmitted)
			s.observe(100, "s1", 45, 45, "up:30 up:2 up:3", func(st *State) { st.Incarnation = 29 })
		}), []Clause{Forward}},
		{"an incarnation in later versions", after(func(s *scene) {
			s.observe(80, "s2", 40, 40, "up:30 up:2 up:3")
			s.observe(90, "s3", 41, 41, "up:29 up:2 up:3")
		}), []Clause{Forward}},
	})
}

// The trace of a node shows also what lasts for a moment only.
func TestForwardByTrace(t *testing.T) {
	routes := func(events ...fault.Event) func(*scene) {
		for i := range events {
			events[i].AtNs, events[i].Era = int64(100+i)*msec, 1
		}
		return func(s *scene) { s.Traces = map[string]string{"s1": traceFile(t, events)} }
	}
	table := func(index uint64) fault.Event { return fault.Event{What: fault.TableInstalled, Index: index} }
	runScenes(t, []sceneCase{
		{"forward", routes(table(10), table(10), table(12)), nil},
		{"back", routes(table(10), table(12), table(11), table(13)), []Clause{Forward}},
		{"back with another process", routes(table(12), fault.Event{What: fault.Started}, table(11)), nil},
		{"back before the round", func(s *scene) {
			s.StartNs = 105 * msec
			routes(table(12), table(11))(s)
		}, nil},
	})
}

// A node routes by the table that it has applied, as long as it runs.
func TestCurrent(t *testing.T) {
	stale := func(until, gap int64, now uint64) func(*scene) {
		return func(s *scene) {
			for at := int64(100); at < until; at += gap {
				s.observe(at, "s1", 30, 30, allUp, func(st *State) { st.Data.Epoch.Index = now })
			}
		}
	}
	runScenes(t, []sceneCase{
		{"for long", stale(2500, 250, 29), []Clause{Current}},
		{"for a moment", stale(1500, 250, 29), nil},
		{"while it does not answer", stale(9000, 2000, 29), nil},
		{"not at all", stale(2500, 250, 30), nil},
		{"with a newer one", stale(2500, 250, 31), nil},
		{"with one that follows", func(s *scene) {
			for at := int64(100); at < 9000; at += 250 {
				i := uint64(30 + at/250)
				s.observe(at, "s1", i, i, allUp, func(st *State) { st.Data.Epoch.Index = i - 1 })
			}
		}, nil},
		{"of a process that was started again", func(s *scene) {
			stale(1500, 250, 29)(s)
			s.end("s1", 1500, true)
			s.start("s1", 1501)
			for at := int64(1600); at < 3000; at += 250 {
				s.observe(at, "s1", 30, 30, allUp, func(st *State) { st.Data.Epoch.Index, st.Incarnation = 29, 0 })
			}
		}, nil},
	})
}

// A version of the ring is the same on all nodes.
func TestAgreement(t *testing.T) {
	runScenes(t, []sceneCase{
		{"status", after(func(s *scene) { s.observe(80, "s1", 25, 22, "up:1 down:2 up:3") }), []Clause{Agreement}},
		{"epoch", after(func(s *scene) { s.observe(80, "s1", 25, 23, "up:1 up:2 up:3") }), []Clause{Agreement}},
		{"number", after(func(s *scene) {
			s.observe(80, "s1", 25, 22, "up:1 up:2 up:3", func(st *State) { st.Servers[2].PendingHash = 4 })
		}), []Clause{Agreement}},
		{"members", after(func(s *scene) { s.observe(80, "s1", 25, 22, "up:1 up:2") }), []Clause{Agreement}},
		{"the flag is not part of the table", after(func(s *scene) {
			s.observe(80, "s1", 25, 22, "up:1 up:2 up:3", func(st *State) { st.SuspendMerge = true })
		}), nil},
		{"of another ring", after(func(s *scene) {
			s.observe(80, "s1", 25, 22, "up:1 down:2 up:3", func(st *State) { st.RingID, st.Epoch.Era = 6, 2 })
		}), nil},
	})
}

// An incarnation belongs to one process, a status is safe, one merge runs.
func TestRingClauses(t *testing.T) {
	merge := func(id uint64) func(*State) {
		return func(st *State) { st.Merge = &MergeState{ID: id, Phase: "copying"} }
	}
	runScenes(t, []sceneCase{
		{"two starts, one incarnation", after(func(s *scene) {
			s.end("s1", 60, true)
			s.start("s1", 70)
			s.observe(80, "s1", 25, 22, "up:1 up:2 up:3")
		}), []Clause{Incarnation}},
		{"two starts, two incarnations", after(func(s *scene) {
			s.end("s1", 60, true)
			s.start("s1", 70)
			s.observe(80, "s1", 30, 30, "up:30 up:2 up:3")
		}), nil},
		{"two servers, one incarnation", after(func(s *scene) {
			s.observe(80, "s1", 30, 30, "up:30 up:2 up:3")
			s.observe(81, "s2", 31, 31, "up:30 up:30 up:3")
		}), []Clause{Incarnation}},
		{"not safe", after(func(s *scene) {
			s.observe(80, "s1", 30, 30, "up:1 up:2 up:3", func(st *State) {
				st.Servers[0].Status = "NOT SAFE -> [SERVICE OUT][UP][ADD][Pending][NoSuspend]"
			})
		}), []Clause{Safe}},
		{"one merge after the other", func(s *scene) {
			s.observe(10, "s1", 10, 10, "up:1 up:2 up:3", merge(10))
			s.observe(20, "s1", 11, 11, "up:1 up:2 up:3", merge(0))
			s.observe(30, "s1", 12, 12, "up:1 up:2 up:3", merge(12))
		}, nil},
		{"two merges", func(s *scene) {
			s.observe(10, "s1", 10, 10, "up:1 up:2 up:3", merge(10))
			s.observe(20, "s1", 12, 12, "up:1 up:2 up:3", merge(12))
			s.observe(30, "s1", 13, 13, "up:1 up:2 up:3", merge(10))
		}, []Clause{OneMerge}},
	})
}

// Processes end only because the harness wants it; nodes use no more than at
// the start and the spares.
func TestProcesses(t *testing.T) {
	before := Usage{AtNs: 1, Node: "s1", Goroutines: 50, Descriptors: 20, HeapBytes: 10 << 20, ResidentBytes: 60 << 20, SegmentBytes: 4 << 20, Attached: 2}
	used := func(f func(u *Usage)) func(*scene) {
		return func(s *scene) {
			u := before
			u.AtNs = 90 * msec
			f(&u)
			s.Before, s.After = []Usage{before}, []Usage{u}
		}
	}
	runScenes(t, []sceneCase{
		{"killed", func(s *scene) { s.end("s1", 20, true) }, nil},
		{"ended by itself", func(s *scene) { s.end("s1", 20, true); s.Processes[1].Wanted = false }, []Clause{Alive}},
		{"as before", used(func(*Usage) {}), nil},
		{"within the spares", used(func(u *Usage) { u.Goroutines += CountsSpare; u.HeapBytes += HeapSpare }), nil},
		{"goroutines", used(func(u *Usage) { u.Goroutines += CountsSpare + 1 }), []Clause{Bounded}},
		{"descriptors", used(func(u *Usage) { u.Descriptors += CountsSpare + 1 }), []Clause{Bounded}},
		{"heap", used(func(u *Usage) { u.HeapBytes += HeapSpare + 1 }), []Clause{Bounded}},
		{"resident memory", used(func(u *Usage) { u.ResidentBytes += ResidentSpare + 1 }), []Clause{Bounded}},
		{"segments", used(func(u *Usage) { u.SegmentBytes++ }), []Clause{Bounded}},
		{"programs", used(func(u *Usage) { u.Attached++ }), []Clause{Bounded}},
		{"of a node without a start", used(func(u *Usage) { u.Node = "s2"; u.Attached++ }), nil},
	})
}

// State has the names that a node's status has.
func TestStateDecodes(t *testing.T) {
	var st nodes.Status
	st.Servers, st.Merge = []controlplane.ServerStatus{{}}, &controlplane.MergeStatus{}
	b, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	var answer any
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	wanted(t, "", reflect.TypeFor[State](), answer)
}

// wanted looks for every field of a type in decoded JSON.
func wanted(t *testing.T, path string, typ reflect.Type, in any) {
	switch typ.Kind() {
	case reflect.Pointer:
		wanted(t, path, typ.Elem(), in)
	case reflect.Slice:
		wanted(t, path, typ.Elem(), in.([]any)[0])
	case reflect.Struct:
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if v, ok := in.(map[string]any)[name]; ok {
				wanted(t, path+"."+name, f.Type, v)
			} else {
				t.Errorf("no %s.%s in a node's status", path, name)
			}
		}
	}
}
