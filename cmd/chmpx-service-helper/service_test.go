package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A stop is obeyed at every moment, whatever is waited for, and leaves no pid
// file and no process; every signal that stops does.
func TestStopAtEveryMoment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines  []string
		moment string // a line that is said there
		sig    syscall.Signal
	}{
		"before the start":       {[]string{"WAIT_SEC_STARTUP = 3600"}, "starting chmpx in 1h", syscall.SIGHUP},
		"without configuration":  {[]string{"INI_CONF_FILE = no.ini", "INTERVAL_SEC_FOR_LOOP = 3600"}, "waiting for configuration", syscall.SIGTERM},
		"without dependency":     {[]string{"WAIT_DEPENDPROC_PIDFILE = /no.pid", "INTERVAL_SEC_FOR_LOOP = 3600"}, "waiting for the process of", syscall.SIGINT},
		"behind the dependency":  {[]string{"WAIT_DEPENDPROC_PIDFILE = <dir>/d.pid", "WAIT_SEC_AFTER_DEPENDPROC_UP = 3600"}, "looking at it again in 1h", syscall.SIGQUIT},
		"in the command before":  {[]string{"BEFORE_RUN_SUBPROCESS = echo in it; sleep 3600; sleep 3600"}, "in it", syscall.SIGABRT},
		"while chmpx must stay":  {[]string{"WAIT_SEC_AFTER_SUBPROCESS_UP = 3600"}, "looking at it again in 1h", syscall.SIGHUP},
		"while all is well":      {nil, "chmpx runs as process", syscall.SIGTERM},
		"while chmpx just began": {nil, "chmpx has process id", syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.lines...)
			r.write("d.pid", fmt.Sprintln(os.Getpid()))
			r.write("chmpx-service-helper.conf", strings.ReplaceAll(r.read("chmpx-service-helper.conf"), "<dir>", r.dir))
			h := r.start("start")
			h.expect(c.moment)
			h.stop(c.sig)
			r.gets("STOPPING=1")
		})
	}
	t.Run("between two starts", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "INTERVAL_SEC_FOR_LOOP = 3600")
		h := r.start("start")
		if err := syscall.Kill(h.runs(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.expect("starting chmpx again in 1h")
		h.stop(syscall.SIGHUP)
	})
}

// One service runs at a time; stop ends it, and is content when there is none;
// restart puts itself in its place. Words count in upper case, too.
func TestStartStopRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.start("START")
	pid := h.runs()
	second := r.start("start")
	second.exits(1)
	if want := fmt.Sprintf("process %d of %s has not stopped yet", h.cmd.Process.Pid, r.path("pid/chmpx-service-helper.pid")); !second.said(want) {
		t.Errorf("a second start says %q, want %q", second.seen, want)
	}
	if gone(pid) {
		t.Error("the second start ended chmpx")
	}
	again := r.start("restart")
	again.expect(fmt.Sprintf("stopping chmpx-service-helper, process %d", h.cmd.Process.Pid))
	h.exits(0)
	if next := again.runs(); next == pid || !gone(pid) {
		t.Errorf("behind restart process %d runs, and %d has ended: %v", next, pid, gone(pid))
	}
	s := r.start("Stop")
	s.exits(0)
	again.exits(0)
	r.clean()
	s = r.start("stop")
	s.exits(0)
	if !s.said("chmpx-service-helper does not run") {
		t.Errorf("stop without service says %q", s.seen)
	}
}

// A service that is killed takes chmpx with it, and the pid files that it leaves
// keep nobody from starting; neither does one that names a stranger.
func TestKilledService(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.start("start")
	pid := h.runs()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Wait()
	r.until("the end of chmpx", func() bool { return gone(pid) })
	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()
	r.write("pid/chmpx-service-helper.pid", fmt.Sprintln(stranger.Process.Pid))
	r.write("pid/chmpx.pid", fmt.Sprintln(stranger.Process.Pid))
	s := r.start("stop")
	s.exits(0)
	h = r.start("start")
	h.runs()
	h.stop(syscall.SIGHUP)
	if gone(stranger.Process.Pid) {
		t.Error("a stranger was ended")
	}
}

// A chmpx that runs already, and is not ours, is not joined by a second one.
func TestProgramRunsAlready(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := exec.Command(program, "-conf", r.path("chmpx.ini"))
	other.Env = []string{"STATE_DIRECTORY=" + r.path("state")}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	r.write("pid/chmpx.pid", fmt.Sprintln(other.Process.Pid))
	h := r.start("start")
	h.exits(1)
	if want := fmt.Sprintf("process %d of %s has not stopped yet", other.Process.Pid, r.path("pid/chmpx.pid")); !h.said(want) {
		t.Errorf("it says %q, want %q", h.seen, want)
	}
}

// What override.conf says reaches chmpx, the rest keeps its value; a file that
// gets wrong while the service runs is named, and the old settings go on; a new
// one counts from the next start of chmpx.
func TestOverrideAndReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, "SUBPROCESS_OPTIONS = -d msg")
	r.write("custom.ini", r.ini())
	r.write("other.conf", "CHMPX_INI_CONF_FILE = custom.ini\n")
	r.write("override.conf", r.path("chmpx-service-helper.conf")+":CHMPX_INI_CONF_FILE = "+r.path("other.conf")+":CHMPX_INI_CONF_FILE\n")
	h := r.start("start")
	pid := h.runs()
	check := func(pid int, want ...string) {
		t.Helper()
		if got := strings.Join(r.arguments(pid)[1:], " "); got != strings.Join(want, " ") {
			t.Errorf("chmpx has the arguments %q, want %q", got, want)
		}
	}
	next := func() int {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return h.runs()
	}
	check(pid, "-conf", r.path("custom.ini"), "-d", "msg")
	r.write("override.conf", "chmpx-service-helper.conf:WAIT_SEC_STARTUP = soon\n")
	pid = next()
	check(pid, "-conf", r.path("custom.ini"), "-d", "msg")
	if !h.said("the old settings go on: ") || !h.said("override.conf:1: WAIT_SEC_STARTUP: \"soon\"") {
		t.Errorf("got %q, want the mistake", h.seen)
	}
	r.write("override.conf", "chmpx-service-helper.conf:SUBPROCESS_OPTIONS = -d err\nchmpx-service-helper.conf:NO_KEY = 1\n")
	pid = next()
	check(pid, "-conf", r.path("chmpx.ini"), "-d", "err")
	if !h.said(`override.conf:2: unknown keyword "NO_KEY" is ignored`) {
		t.Errorf("got %q, want a warning", h.seen)
	}
	h.stop(syscall.SIGHUP)
	r.write("chmpx-service-helper.conf", "INTERVAL_SEC_FOR_LOOP = x\n")
	h = r.start("start")
	h.exits(1)
	if !h.said(r.path("chmpx-service-helper.conf") + `:1: INTERVAL_SEC_FOR_LOOP: "x": a number from 1 to 86400 is allowed`) {
		t.Errorf("got %q, want the mistake", h.seen)
	}
}

// Arguments: help exits with 0, what is missing, unknown or too much with 1 and
// the usage text.
func TestArguments(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, words := range [][]string{{"-h"}, {"--help"}, {"start", "-HELP"}} {
		h := r.start(words...)
		h.exits(0)
		if !h.said("Exit codes") {
			t.Errorf("%q says %q", words, h.seen)
		}
	}
	for _, words := range [][]string{nil, {"begin"}, {"start", "stop"}, {"start", "-x"}} {
		h := r.start(words...)
		h.exits(1)
		if !h.said("wrong arguments") || !h.said("Usage: chmpx-service-helper") {
			t.Errorf("%q says %q", words, h.seen)
		}
	}
}
