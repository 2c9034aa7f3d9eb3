//go:build faults

package fault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const longStop = time.Minute

// put replaces a file of the directory of faults as a whole.
func put(t *testing.T, dir, file, text string) {
	t.Helper()
	tmp := filepath.Join(dir, "."+file)
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	stop := time.After(longStop)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-stop:
			t.Fatalf("not within %v: %s", longStop, what)
		}
	}
}

// The disk is as the file says, also for a write that hangs already.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	defer Use(Env{Dir: dir})()
	if err := Disk(); err != nil {
		t.Fatalf("no file: %v", err)
	}
	put(t, dir, FileDisk, "full\n")
	until(t, "full", func() bool { return errors.Is(Disk(), syscall.ENOSPC) })
	put(t, dir, FileDisk, "hang")
	until(t, "the file is read", func() bool { return current.Load().disk.Load().hang })
	done := make(chan error)
	go func() { done <- Disk() }()
	put(t, dir, FileDisk, "slow 30ms")
	if err := <-done; err != nil { // a hang that does not end ends the test
		t.Errorf("after a hang: %v", err)
	}
	began := time.Now()
	if err := Disk(); err != nil || time.Since(began) < 30*time.Millisecond {
		t.Errorf("slow: %v after %v, want nil after 30 ms", err, time.Since(began))
	}
	put(t, dir, FileDisk, "ok")
	until(t, "ok", func() bool { d := current.Load().disk.Load(); return d.slow == 0 && !d.hang && !d.full })
}

// The wall clock goes by the file; a file that cannot be read changes nothing.
func TestClock(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, FileClock, "-3h")
	defer Use(Env{Dir: dir})()
	off := func() time.Duration { return time.Until(Now()) }
	if d := off(); d > -3*time.Hour+time.Minute || d < -3*time.Hour-time.Minute {
		t.Errorf("the clock is off by %v, want -3h", d)
	}
	put(t, dir, FileClock, "250s")
	until(t, "250 s", func() bool { d := off(); return d > 240*time.Second && d < 260*time.Second })
	put(t, dir, FileClock, "soon")
	put(t, dir, FileDisk, "full") // looked at after the clock
	if err := current.Load().look(); err == nil {
		t.Error("no error about the clock \"soon\"")
	}
	if d := off(); d < 240*time.Second {
		t.Errorf("the clock is off by %v, want 250s", d)
	}
}

// The map of dials is read at each dial.
func TestDial(t *testing.T) {
	dir := t.TempDir()
	defer Use(Env{Dir: dir})()
	put(t, dir, FileDial, "a:1 b:2\nc:3 d:4\n")
	for in, want := range map[string]string{"a:1": "b:2", "c:3": "d:4", "b:2": "b:2", "a:10": "a:10"} {
		if got := Dial(in); got != want {
			t.Errorf("Dial(%s) = %s, want %s", in, got, want)
		}
	}
	put(t, dir, FileDial, "")
	if got := Dial("a:1"); got != "a:1" {
		t.Errorf("Dial(a:1) with an empty map = %s", got)
	}
}

// One bug is on, and Every counts.
func TestBug(t *testing.T) {
	defer Use(Env{Bug: string(DropAck)})()
	if !Bug(DropAck) || Bug(SkipDedup) {
		t.Errorf("drop-ack is %v, skip-dedup %v", Bug(DropAck), Bug(SkipDedup))
	}
	n := 0
	for range 100 {
		if Every(DropAck, 10) {
			n++
		}
		if Every(SkipDedup, 1) {
			t.Fatal("a bug that is not on")
		}
	}
	if n != 10 {
		t.Errorf("%d of 100, want 10", n)
	}
}

// An environment that names nothing that exists is an error, not a process
// that looks as if all were well.
func TestBadEnvironment(t *testing.T) {
	for _, e := range []Env{
		{Bug: "none"}, {Crash: "nowhere"}, {Crash: string(SendReserved) + ":0"}, {Trace: t.TempDir()},
		{Trace: filepath.Join(t.TempDir(), "t"), TraceBytes: "100"}, {Trace: filepath.Join(t.TempDir(), "t"), TraceBytes: "1M"},
	} {
		if _, err := open(e); err == nil {
			t.Errorf("%+v: no error", e)
		}
	}
}

// child runs this test binary again, only the given test, with what follows in its environment.
func child(t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// A process ends by SIGKILL at the n-th pass of its point, and what it traced
// until then is there, also in the trace of the process that comes after.
func TestCrashKeepsTrace(t *testing.T) {
	const counted = 3
	if os.Getenv(EnvCrash) != "" { // the child
		for i := range uint64(10) {
			Trace(&Event{What: FrameSent, Seq: i + 1})
			Crash(NodeSettled)
			Crash(NodeDelivered)
		}
		os.Exit(0)
	}
	file := filepath.Join(t.TempDir(), "trace")
	var seqs []uint64
	for range 2 {
		err := child(t, "TestCrashKeepsTrace", EnvCrash+"=node-delivered:3", EnvTrace+"="+file, EnvTraceBytes+"=10000").Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("child: %v, want SIGKILL", err)
		}
	}
	events, err := ReadTrace(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if e.Number != uint64(i+1) || i > 0 && e.AtNs < events[i-1].AtNs {
			t.Errorf("event %d has number %d at %d", i, e.Number, e.AtNs)
		}
		if i%(counted+1) == 0 {
			if e.What != Started || e.Seq == 0 {
				t.Errorf("event %d is %+v, want the start of a process", i, e)
			}
			continue
		}
		seqs = append(seqs, e.Seq)
	}
	if len(seqs) != 2*counted || seqs[0] != 1 || seqs[2*counted-1] != counted {
		t.Errorf("traced %v, want 1 to %d twice", seqs, counted)
	}
}

// A full trace is written round and round.
func TestTraceGoesRound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	restore := Use(Env{Trace: file, TraceBytes: "970"}) // nine records
	for i := range uint64(100) {
		Trace(&Event{What: Taken, Seq: i})
	}
	restore()
	events, err := ReadTrace(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 9 || events[8].Seq != 99 || events[0].Seq != 91 {
		t.Errorf("%d events, from %+v", len(events), events[0])
	}
}

// What all goroutines do is written where the file says, by each process that
// was there when it said so.
func TestStacks(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, FileStacks, filepath.Join(dir, "no directory", "before"))
	defer Use(Env{Dir: dir})()
	out := filepath.Join(dir, "out")
	to := fmt.Sprintf("%s.%d", out, os.Getpid())
	put(t, dir, FileStacks, out)
	until(t, "it is written", func() bool { _, err := os.Stat(to); return err == nil })
	text, err := os.ReadFile(to)
	if err != nil || !strings.Contains(string(text), "fault.TestStacks") {
		t.Errorf("%v: %s", err, text)
	}
}
