package check

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// scene builds small histories. Its time is in milliseconds.
type scene struct {
	Round
}

// msec is a millisecond of a scene.
const msec = int64(1e6)

// sessionOf returns the session of a program of a scene.
func sessionOf(program string) (id wire.SessionID) {
	copy(id[:], program)
	return id
}

// newScene has a slave c1 with the sender p, and servers s1, s2, s3 with the
// receivers r1, r2, r3, all alive from 0 to 100 s.
func newScene() *scene {
	s := &scene{Round{Name: "scene", EndNs: 100_000 * msec}}
	for i, n := range []string{"c1", "s1", "s2", "s3"} {
		s.Processes = append(s.Processes, Process{Name: n, PID: 100 + i, StartNs: -10_000 * msec})
	}
	s.program("p", "c1")
	s.program("r1", "s1")
	s.program("r2", "s2")
	s.program("r3", "s3")
	return s
}

func (s *scene) program(name, node string) *History {
	pid := 1000 + len(s.Histories)
	s.Histories = append(s.Histories, History{Header: Header{Program: name, Node: node, Server: node[0] == 's', PID: pid,
		Session: sessionOf(name).String(), StartNs: -9_000 * msec}})
	s.Processes = append(s.Processes, Process{Name: name, Program: true, PID: pid, StartNs: -10_000 * msec})
	return &s.Histories[len(s.Histories)-1]
}

func (s *scene) of(program string) *History {
	i := slices.IndexFunc(s.Histories, func(h History) bool { return h.Program == program })
	return &s.Histories[i]
}

// add writes an event about a message of p into the history of a program.
func (s *scene) add(program string, at int64, what What, seq uint64, change ...func(*Event)) {
	e := Event{AtNs: at * msec, What: what, Session: sessionOf("p"), Seq: seq, Hash: 7}
	for _, f := range change {
		f(&e)
	}
	h := s.of(program)
	h.Events = append(h.Events, e)
}

// send lets p send and be told that it is accepted.
func (s *scene) send(at int64, seq uint64, change ...func(*Event)) {
	s.add("p", at, Sending, seq, change...)
	s.add("p", at+1, Accepted, seq, change...)
}

// end ends the newest process of that name.
func (s *scene) end(name string, at int64, killed bool) {
	for i := range slices.Backward(s.Processes) {
		if p := &s.Processes[i]; p.Name == name {
			p.EndNs, p.Killed, p.Wanted = at*msec, killed, true
			return
		}
	}
}

// start starts a node again.
func (s *scene) start(name string, at int64) {
	s.Processes = append(s.Processes, Process{Name: name, PID: 5000 + len(s.Processes), StartNs: at * msec})
}

// observe lets a node answer. status has for each of s1, s2, s3 a word (up,
// down, out) and an incarnation.
func (s *scene) observe(at int64, name string, version uint64, epoch uint64, status string, change ...func(*State)) {
	st := State{ID: ring.HexID(idOf(name)), RingID: 5, Epoch: ring.Epoch{Era: 1, Index: epoch}, Version: version,
		Process: ProcessState{PID: s.pid(name, at*msec)}}
	st.Data.Epoch = st.Epoch
	for i, w := range strings.Fields(status) {
		var word string
		var inc uint64
		word, num, _ := strings.Cut(w, ":")
		fmt.Sscan(num, &inc)
		id := idOf(fmt.Sprintf("s%d", i+1))
		st.Servers = append(st.Servers, ServerState{ID: ring.HexID(id), Name: "localhost", CtlPort: uint16(id), Incarnation: ring.Incarnation(inc),
			Status: map[string]string{
				"up":   "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]",
				"down": "SAFE -> [SERVICE IN][DOWN][n/a][Nothing][NoSuspend]",
				"out":  "SAFE -> [SERVICE OUT][UP][n/a][Nothing][NoSuspend]",
				"gone": "SAFE -> [SERVICE OUT][DOWN][n/a][Nothing][NoSuspend]",
				"add":  "SAFE -> [SERVICE IN][UP][ADD][Pending][NoSuspend]",
				"del":  "SAFE -> [SERVICE IN][UP][DELETE][Pending][NoSuspend]",
			}[word]})
		if id == ring.ID(st.ID) && word != "down" && word != "gone" {
			st.Incarnation = ring.Incarnation(inc)
		}
	}
	for _, f := range change {
		f(&st)
	}
	s.Observations = append(s.Observations, Observation{AtNs: (at - 1) * msec, DoneNs: at * msec, Node: name, State: st})
}

// pid returns the process of a node at a time.
func (s *scene) pid(name string, at int64) int {
	for _, p := range slices.Backward(s.Processes) {
		if p.Name == name && p.StartNs <= at {
			return p.PID
		}
	}
	return 0
}

func idOf(node string) ring.ID { return ring.ID(node[0])<<8 | ring.ID(node[1]) }

func marked(e *Event)             { e.Marked = true }
func hash(h uint64) func(*Event)  { return func(e *Event) { e.Hash = h } }
func count(n uint32) func(*Event) { return func(e *Event) { e.Count = n } }
func kind(k wire.Kind) func(*Event) {
	return func(e *Event) {
		if e.What < Taken { // receivers do not know it
			e.Kind = k
		}
		if k != wire.KindReplicate {
			e.Hash = 0
		}
	}
}

// sceneCase is a history and the clauses that it breaks.
type sceneCase struct {
	name string
	play func(s *scene)
	want []Clause
}

// runScenes judges histories of which each breaks just the clauses that it says.
func runScenes(t *testing.T, cases []sceneCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newScene()
			c.play(s)
			r := Judge(s.Round)
			got := slices.Sorted(maps.Keys(r.Count))
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(got, want) {
				var b bytes.Buffer
				_ = r.Text(&b)
				t.Errorf("violated: %q, want %q\n%s", got, want, b.String())
			}
		})
	}
}
