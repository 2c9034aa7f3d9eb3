// Package story runs rings of real nodes, programs of the real library and
// their messages within one process and in fake time (testing/synctest), by
// scripts that read like stories. Connections are buffers, segments lie on the
// heap; everything else is what users run.
//
// A story is a file of commands, one a line; lines that begin with "> " are
// what the command before printed. The commands are described in
// testcluster/testdata/COMMANDS.md. What a story prints must be so whatever an
// election did. Every message is judged besides: one that was accepted must be
// taken, a repeat must be marked, and the order of a hash must hold, whatever
// the file says.
package story

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chmpx/chmpx/shm"
)

// Run plays the story in a file and fails t where it goes otherwise than the
// file says. With update the file's outputs are replaced.
func Run(t *testing.T, file string, update bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	dir := t.TempDir()
	// Pools of the process may hold timers and channels of the bubble before,
	// which this one must not touch. Two collections empty them.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, dir, steps)
		for i := range steps {
			if !s.play(file, &steps[i], update) {
				break
			}
		}
		s.end(file)
	})
	if update && !t.Failed() {
		if err := os.WriteFile(file, format(steps), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// story is one that is being played. Its fields belong to the goroutine that
// plays, unless a comment says otherwise.
type story struct {
	t        *testing.T
	dir      string
	begin    time.Time
	net      *network
	heap     *shm.Heap
	log      logBuffer
	keys     map[string]string // of GLOBAL
	servers  int               // that the story adds, all in all
	slaves   int
	nodes    []*process // in order of appearance
	programs []*program // alive
	judge    judge
	loads    map[string]*load
	out      []string // of the step
}

func newStory(t *testing.T, dir string, steps []step) *story {
	s := &story{
		t: t, dir: dir, begin: time.Now(), net: newNetwork(), heap: &shm.Heap{}, loads: make(map[string]*load),
		keys: map[string]string{"DELIVERMODE": "HASH", "REPLICA": "1", "DOMERGE": "on", "AUTOMERGE": "on", "RINGBYTES": "65536",
			"HOTWAIT": "off"}, // fake time stands still while anybody looks, and there is no thread to yield to
	}
	for _, st := range steps { // configurations name all servers from the first on
		if st.cmd == nil || len(st.args.words) == 0 {
			continue
		}
		n, err := positive(st.args.words[0])
		switch name := st.cmd.name(); {
		case err != nil:
		case name == "add-servers":
			s.servers += n
		case name == "add-slaves":
			s.slaves += n
		}
	}
	return s
}

// play runs one step and compares. It reports whether the story can go on.
func (s *story) play(file string, st *step, update bool) bool {
	if st.cmd == nil {
		return true
	}
	s.out = nil
	at := time.Since(s.begin)
	err := st.cmd.run(s, st.args)
	if err != nil {
		s.t.Errorf("%s:%d: %s: at %v: %v\nlog:\n%s", file, st.line, st.text, at, err, s.log.tail())
		return false
	}
	if update {
		st.want = s.out
		return true
	}
	if !slices.Equal(s.out, st.want) {
		s.t.Errorf("%s:%d: %s: at %v\n printed:\n\t%s\n expected:\n\t%s\nlog:\n%s", file, st.line, st.text, at,
			strings.Join(s.out, "\n\t"), strings.Join(st.want, "\n\t"), s.log.tail())
		return false
	}
	return true
}

// say prints a line of the step's output.
func (s *story) say(format string, a ...any) { s.out = append(s.out, fmt.Sprintf(format, a...)) }

// Bounds of waiting, in fake time.
const (
	patience  = 2 * time.Minute
	lookEvery = 100 * time.Millisecond
)

// await waits until a condition holds; what is still missing is the error.
func (s *story) await(limit time.Duration, missing func() string) error {
	for end := time.Now().Add(limit); ; {
		why := missing()
		if why == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s", limit, why)
		}
		s.advance(lookEvery)
	}
}

// advance lets time pass.
func (s *story) advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// end ends everything and judges.
func (s *story) end(file string) {
	fail := func(err error) {
		if err != nil {
			s.t.Errorf("%s: at the end: %v", file, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.loads)) {
		fail(s.endLoad(name))
	}
	s.net.heal()
	if !s.t.Failed() {
		fail(s.await(patience, s.judge.missing))
		if s.t.Failed() {
			s.t.Logf("log:\n%s", s.log.tail())
		}
	}
	for _, p := range slices.Clone(s.programs) {
		fail(s.endProgram(p))
	}
	var stopping sync.WaitGroup
	for _, n := range s.nodes {
		stopping.Go(n.stop)
	}
	stopping.Wait()
	for _, n := range s.nodes {
		fail(n.failed())
	}
	s.advance(time.Minute) // what waits out its time ends now
	if n := s.heap.Open(); n != 0 {
		fail(fmt.Errorf("%d descriptors are open", n))
	}
	if n := s.net.connections(); n != 0 {
		fail(fmt.Errorf("%d ends of connections are open", n))
	}
	fail(errors.Join(s.judge.wrongs()...))
}

// logBuffer keeps what nodes and programs log. Any goroutine.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// logTail is how many lines a failed story shows.
const logTail = 60

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) logger(who string) *slog.Logger {
	level := slog.LevelInfo
	if os.Getenv("CHMPX_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level})).With("at", who)
}

func (l *logBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.b.String()), "\n")
	if os.Getenv("CHMPX_TEST_LOG") == "" {
		lines = lines[max(0, len(lines)-logTail):]
	}
	return strings.Join(lines, "\n")
}
