//go:build faults

package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says whether this build has faults.
const Enabled = true

// lookEvery is how often the files in the directory of faults are looked at.
const lookEvery = 20 * time.Millisecond

// state is what is switched on in this process.
type state struct {
	env   Env
	point Point
	left  atomic.Int64 // passes of point until the end
	calls atomic.Int64 // of Every
	trace *tracer      // nil: none
	stop  chan struct{}

	offset atomic.Int64 // of the wall clock, in ns
	disk   atomic.Pointer[diskState]
	stacks string // last file that goroutines were written to; of who looks
}

// Env is what the environment variables of the same names say.
type Env struct{ Dir, Crash, Bug, Trace, TraceBytes string }

// current is never nil. It is set when the process starts, and by tests.
var current atomic.Pointer[state]

// A process without a working environment must not run as if nothing were wrong.
func init() {
	s, err := open(Env{
		Dir: os.Getenv(EnvDir), Crash: os.Getenv(EnvCrash), Bug: os.Getenv(EnvBug),
		Trace: os.Getenv(EnvTrace), TraceBytes: os.Getenv(EnvTraceBytes),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	current.Store(s)
}

// Use switches this process to e and returns what switches it back. For tests.
func Use(e Env) (restore func()) {
	s, err := open(e)
	if err != nil {
		panic(err)
	}
	before := current.Swap(s)
	return func() {
		current.Store(before)
		close(s.stop)
		s.trace.close()
	}
}

// open makes the state that e describes, and looks at the directory for the
// first time before it returns.
func open(e Env) (*state, error) {
	s := &state{env: e, stop: make(chan struct{})}
	s.disk.Store(&diskState{changed: make(chan struct{})})
	if e.Bug != "" && !slices.ContainsFunc(bugs, func(b BugInfo) bool { return string(b.Bug) == e.Bug }) {
		return nil, fmt.Errorf("fault: %s names no bug: %q", EnvBug, e.Bug)
	}
	if e.Crash != "" {
		point, times, counted := strings.Cut(e.Crash, ":")
		n := 1
		if counted {
			var err error
			if n, err = strconv.Atoi(times); err != nil || n < 1 {
				return nil, fmt.Errorf("fault: %s: %q is no number of times", EnvCrash, times)
			}
		}
		if !slices.ContainsFunc(points, func(p PointInfo) bool { return string(p.Point) == point }) {
			return nil, fmt.Errorf("fault: %s names no point: %q", EnvCrash, point)
		}
		s.point = Point(point)
		s.left.Store(int64(n))
	}
	if e.Trace != "" {
		size := TraceBytes
		if e.TraceBytes != "" {
			var err error
			if size, err = strconv.Atoi(e.TraceBytes); err != nil {
				return nil, fmt.Errorf("fault: %s: %q is no number of bytes", EnvTraceBytes, e.TraceBytes)
			}
		}
		var err error
		if s.trace, err = openTrace(e.Trace, size); err != nil {
			return nil, fmt.Errorf("fault: open trace: %w", err)
		}
	}
	if e.Dir != "" {
		var err error
		if s.stacks, err = s.read(FileStacks); err != nil { // of others, before this process
			return nil, err
		}
		if err := s.look(); err != nil {
			return nil, err
		}
		go s.watch() // ended by the restore of Use, else it lives as long as the process
	}
	return s, nil
}

// watch looks at the directory until stop. What cannot be understood is said
// once and changes nothing: the writer may be in the middle of it.
func (s *state) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if err := s.look(); err != nil && err.Error() != said {
			said = err.Error()
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// look brings the state up to date with the directory.
func (s *state) look() error {
	clock, err := s.read(FileClock)
	if err != nil {
		return err
	}
	var offset time.Duration
	if clock != "" {
		if offset, err = time.ParseDuration(clock); err != nil {
			return fmt.Errorf("fault: file %s: %w", FileClock, err)
		}
	}
	s.offset.Store(int64(offset))
	disk, err := s.read(FileDisk)
	if err != nil {
		return err
	}
	if err := s.setDisk(disk); err != nil {
		return err
	}
	return s.writeStacks()
}

// stacksBytesMax bounds what is written of the goroutines.
const stacksBytesMax = 4 << 20

// writeStacks writes what all goroutines do to the file that FileStacks names,
// with the number of the process behind it: several may look at the directory.
func (s *state) writeStacks() error {
	to, err := s.read(FileStacks)
	if err != nil || to == s.stacks {
		return err
	}
	s.stacks = to
	if to == "" {
		return nil
	}
	to = fmt.Sprintf("%s.%d", to, os.Getpid())
	buf := make([]byte, stacksBytesMax)
	if err := os.WriteFile(to+".new", buf[:runtime.Stack(buf, true)], 0o640); err != nil {
		return fmt.Errorf("fault: write stacks: %w", err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		return fmt.Errorf("fault: write stacks: %w", err)
	}
	return nil
}

// read returns what a file says, "" for nothing.
func (s *state) read(file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.env.Dir, file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("fault: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// diskState is how the disk is; it is replaced, never changed.
type diskState struct {
	text    string
	slow    time.Duration
	hang    bool
	full    bool
	changed chan struct{} // closed when another one takes its place
}

func (s *state) setDisk(text string) error {
	before := s.disk.Load()
	if text == before.text {
		return nil
	}
	d := &diskState{text: text, changed: make(chan struct{})}
	words := strings.Fields(text)
	switch {
	case text == "", text == "ok":
	case text == "hang":
		d.hang = true
	case text == "full":
		d.full = true
	case len(words) == 2 && words[0] == "slow":
		var err error
		if d.slow, err = time.ParseDuration(words[1]); err != nil {
			return fmt.Errorf("fault: file %s: %w", FileDisk, err)
		}
	default:
		return fmt.Errorf("fault: file %s: %q, known are ok, slow <duration>, hang and full", FileDisk, text)
	}
	s.disk.Store(d)
	close(before.changed)
	return nil
}

// Disk is called before each write to disk. It waits if the disk is slow or
// hangs, and returns an error that wraps syscall.ENOSPC if it is full.
func Disk() error {
	s := current.Load()
	for {
		d := s.disk.Load()
		switch {
		case d.hang:
			select {
			case <-d.changed:
				continue
			case <-s.stop:
			}
		case d.slow > 0:
			time.Sleep(d.slow)
		case d.full:
			return &fs.PathError{Op: "write", Path: "fault", Err: syscall.ENOSPC}
		}
		return nil
	}
}

// Now is the wall clock as this process sees it. It is for times that other
// processes see; what measures durations here uses package time.
func Now() time.Time { return Wall(time.Now()) }

// Wall turns a time of the true wall clock into one as this process sees it.
func Wall(t time.Time) time.Time {
	return t.Round(0).Add(time.Duration(current.Load().offset.Load())) // without the monotonic part, which is nobody else's
}

// Dial returns the address to dial in place of another one.
func Dial(hostport string) string {
	s := current.Load()
	if s.env.Dir == "" {
		return hostport
	}
	text, err := s.read(FileDial)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == hostport {
			return words[1]
		}
	}
	return hostport
}

// Crash ends the process if this is the point and the time for it.
func Crash(p Point) {
	s := current.Load()
	if p != s.point || s.left.Add(-1) != 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // not one step past the point
}

// Bug reports whether a deliberate bug is on.
func Bug(b BugName) bool { return current.Load().env.Bug == string(b) }

// Every reports whether a deliberate bug is on, once in n calls of it.
func Every(b BugName, n int) bool {
	s := current.Load()
	return s.env.Bug == string(b) && s.calls.Add(1)%int64(n) == 0
}

// Trace adds an event to the trace. It sets Number and, if it is 0, AtNs.
func Trace(e *Event) { current.Load().trace.add(e) }

// Describe says what is switched on, "" for nothing.
func Describe() string {
	e := current.Load().env
	var words []string
	for _, w := range [][2]string{{EnvDir, e.Dir}, {EnvCrash, e.Crash}, {EnvBug, e.Bug}, {EnvTrace, e.Trace}} {
		if w[1] != "" {
			words = append(words, w[0]+"="+w[1])
		}
	}
	return strings.Join(words, " ")
}
