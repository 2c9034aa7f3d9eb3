package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// INI_CONF_FILE, by both of its names, absolute, relative to the directory of
// the file also with a directory in it, and left out: chmpx gets that file.
func TestIniConfFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ line, file string }{
		"left out":         {"", "chmpx.ini"},
		"relative":         {"INI_CONF_FILE = a.ini", "a.ini"},
		"with a directory": {"INI_CONF_FILE = sub/x.ini", "sub/x.ini"},
		"CHMPX's name":     {"CHMPX_INI_CONF_FILE = sub/x.ini", "sub/x.ini"},
		"absolute":         {"INI_CONF_FILE = <dir>/sub/x.ini", "sub/x.ini"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			conf, err := os.ReadFile(r.path("chmpx-service-helper.conf"))
			if err != nil {
				t.Fatal(err)
			}
			r.write("chmpx-service-helper.conf", string(conf)+strings.ReplaceAll(c.line, "<dir>", r.dir))
			r.write(c.file, r.ini())
			h := r.start("start")
			if got, want := r.arguments(h.runs()), []string{program, "-conf", r.path(c.file)}; !slices.Equal(got, want) {
				t.Errorf("it runs %q, want %q", got, want)
			}
			h.stop(syscall.SIGHUP)
		})
	}
}

// PIDDIR is created; both pid files have their names in it, say who runs, and
// are gone behind the end.
func TestPidFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, "SERVICE_PIDFILE = s.pid", "SUBPROCESS_PIDFILE = c.pid")
	r.write("chmpx-service-helper.conf", strings.ReplaceAll(r.read("chmpx-service-helper.conf"), r.path("pid"), r.path("x/pid")))
	h := r.start("start")
	h.expect("chmpx runs as process")
	for file, want := range map[string]string{
		"x/pid/s.pid": fmt.Sprintln(h.cmd.Process.Pid),
		"x/pid/c.pid": fmt.Sprintln(r.child(h)),
	} {
		if got := r.read(file); got != want {
			t.Errorf("%s holds %q, want %q", file, got, want)
		}
	}
	h.stop(syscall.SIGTERM)
	if left, err := os.ReadDir(r.path("x/pid")); err != nil || len(left) > 0 {
		t.Errorf("left in PIDDIR: %v, %v", left, err)
	}
}

// SUBPROCESS_USER runs chmpx as that user, with the user's groups and home, in
// directories that systemd made for root; an unknown user is an error.
func TestSubprocessUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, "SUBPROCESS_USER = nobody")
	if os.Geteuid() != 0 {
		h := r.start("start")
		h.exits(1)
		if !h.said("SUBPROCESS_USER \"nobody\"") {
			t.Errorf("got %q, want the keyword and the value", h.seen)
		}
		return
	}
	r.write("state/old/file", "")
	if err := os.Chmod(r.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.path("run"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(r.path("run"), 65534, 65534); err != nil { // RUNDIR of the file is the operator's affair
		t.Fatal(err)
	}
	h := r.start("start")
	pid := h.runs()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !strings.Contains(string(status), "Uid:\t65534\t65534\t65534\t65534") || !strings.Contains(string(status), "Gid:\t65534\t65534") {
		t.Errorf("chmpx runs as %s (%v), want nobody's ids", status, err)
	}
	if env := r.proc(pid, "environ"); !strings.Contains(env, "\x00USER=nobody") || strings.Contains(env, "NOTIFY_SOCKET") {
		t.Errorf("environment %q, want USER=nobody and no NOTIFY_SOCKET", env)
	}
	if info, err := os.Stat(r.path("state/old/file")); err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
		t.Errorf("STATE_DIRECTORY does not belong to the user (%v)", err)
	}
	h.stop(syscall.SIGHUP)

	r = newRig(t, "SUBPROCESS_USER = no-such-user")
	h = r.start("start")
	h.exits(1)
	if !h.said(`SUBPROCESS_USER "no-such-user"`) {
		t.Errorf("got %q, want the keyword and the value", h.seen)
	}
	r.clean()
}

// LOGDIR is created; SERVICE_LOGFILE and SUBPROCESS_LOGFILE in it take what
// else went to standard output, also that of the second start.
func TestLogFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, "WAIT_SEC_AFTER_SUBPROCESS_UP = 1")
	r.write("chmpx-service-helper.conf", r.read("chmpx-service-helper.conf")+
		"LOGDIR = "+r.path("a/log")+"\nSERVICE_LOGFILE = s.log\nSUBPROCESS_LOGFILE = c.log\nBEFORE_RUN_SUBPROCESS = echo before\n")
	for start := 1; start <= 2; start++ {
		h := r.start("start")
		r.gets("READY=1")
		r.until("what chmpx prints", func() bool { return strings.Count(r.read("a/log/c.log"), "CHMPX HOSTNAME") == start })
		if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		h.exits(0)
		if len(h.seen) > 0 {
			t.Errorf("standard output has %q, want nothing", h.seen)
		}
	}
	if log := r.read("a/log/s.log"); strings.Count(log, "chmpx runs as process") != 2 || strings.Count(log, "before\n") != 2 {
		t.Errorf("SERVICE_LOGFILE holds\n%s", log)
	}

	r.write("override.conf", "chmpx-service-helper.conf:INI_CONF_FILE = chmpx-service-helper.conf\n")
	h := r.start("start")
	h.exits(1)
	if log := r.read("a/log/s.log"); !h.said("exited soon") || !strings.Contains(log, "exited soon") {
		t.Errorf("why it failed is not on standard error and in SERVICE_LOGFILE: %q,\n%s", h.seen, log)
	}
}

// WAIT_DEPENDPROC_PIDFILE: chmpx waits for the process of that file, and
// WAIT_SEC_AFTER_DEPENDPROC_UP for that it stays.
func TestWaitForDependency(t *testing.T) {
	t.Parallel()
	r := newRig(t, "WAIT_SEC_AFTER_DEPENDPROC_UP = 1")
	r.write("chmpx-service-helper.conf", r.read("chmpx-service-helper.conf")+"WAIT_DEPENDPROC_PIDFILE = "+r.path("d.pid")+"\n")
	h := r.start("start")
	h.expect("waiting for the process of " + r.path("d.pid"))
	r.gets("STATUS=waiting for the process of " + r.path("d.pid"))
	first := exec.Command("sleep", "600")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	r.write("d.pid", fmt.Sprintln(first.Process.Pid))
	h.expect("runs, looking at it again in 1s")
	_ = first.Process.Kill()
	_ = first.Wait()
	h.expect("waiting for the process of " + r.path("d.pid")) // it did not stay
	since := time.Now()
	r.write("d.pid", fmt.Sprintln(os.Getpid()))
	h.runs()
	if d := time.Since(since); d < time.Second {
		t.Errorf("chmpx ran after %v, want 1 s", d)
	}
	h.stop(syscall.SIGHUP)
}

// WAIT_SEC_STARTUP passes before chmpx is started.
func TestWaitStartup(t *testing.T) {
	t.Parallel()
	r := newRig(t, "WAIT_SEC_STARTUP = 1")
	since := time.Now()
	h := r.start("start")
	r.gets("STATUS=starting chmpx in 1s")
	h.expect("chmpx has process id")
	if d := time.Since(since); d < time.Second {
		t.Errorf("chmpx was started after %v, want 1 s", d)
	}
	h.runs()
	h.stop(syscall.SIGHUP)
}

// WAIT_SEC_AFTER_SUBPROCESS_UP must pass before systemd is told READY; a chmpx
// that ends earlier ends the service with 1.
func TestWaitAfterUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, "WAIT_SEC_AFTER_SUBPROCESS_UP = 1")
	since := time.Now()
	h := r.start("start")
	r.gets("READY=1")
	if d := time.Since(since); d < time.Second {
		t.Errorf("READY came after %v, want 1 s", d)
	}
	h.stop(syscall.SIGHUP)
	r.gets("STOPPING=1")

	r = newRig(t, "WAIT_SEC_AFTER_SUBPROCESS_UP = 60")
	r.write("chmpx.ini", "[GLOBAL]\nGROUP = a/b\n")
	h = r.start("start")
	h.exits(1)
	if !h.said("could not start a new process, it was launched but exited soon") || !h.said("chmpx.ini:2: GROUP") {
		t.Errorf("got %q, want that it exited soon, and why", h.seen)
	}
	r.clean()
}

// INTERVAL_SEC_FOR_LOOP is the pause before chmpx is started again, whatever
// ended it and however often, and between two looks for its configuration.
func TestInterval(t *testing.T) {
	t.Parallel()
	r := newRig(t, "INTERVAL_SEC_FOR_LOOP = 1")
	h := r.start("start")
	pid := h.runs()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGHUP, syscall.SIGKILL} {
		killed := time.Now()
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		h.expect(fmt.Sprintf("Process(%d) exited.", pid))
		h.expect("starting chmpx again in 1s")
		next := h.runs()
		if d := time.Since(killed); d < time.Second || next == pid {
			t.Errorf("process %d after %d, %v later; want another one after 1 s", next, pid, d)
		}
		pid = next
	}
	h.stop(syscall.SIGHUP)

	if err := os.Rename(r.path("chmpx.ini"), r.path("later.ini")); err != nil {
		t.Fatal(err)
	}
	h = r.start("start")
	h.expect("waiting for configuration " + r.path("chmpx.ini"))
	r.gets("STATUS=waiting for configuration")
	if err := os.Rename(r.path("later.ini"), r.path("chmpx.ini")); err != nil {
		t.Fatal(err)
	}
	h.runs()
	h.stop(syscall.SIGHUP)
}

// TRYCOUNT_STOP_SUBPROC: a chmpx that does not react to HUP is killed in the
// same try; a service that does not react is killed after all tries, and then
// its chmpx ends, too.
func TestTryCount(t *testing.T) {
	t.Parallel()
	r := newRig(t, "TRYCOUNT_STOP_SUBPROC = 2")
	h := r.start("start")
	pid := h.runs()
	if !h.said("CHMPX HOSTNAME") { // until then HUP ends even a process that is stopped
		h.expect("CHMPX HOSTNAME")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.stop(syscall.SIGHUP)
	if !h.said(fmt.Sprintf("Process(%d) has not stopped after signal 1.", pid)) || !gone(pid) {
		t.Errorf("got %q, want that HUP was in vain and process %d gone", h.seen, pid)
	}

	h = r.start("start")
	pid = h.runs()
	if err := h.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s := r.start("stop")
	s.expect("has not stopped after 5s, killing it")
	s.exits(0)
	if err := h.cmd.Wait(); err == nil || h.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the service ended with %v, want SIGKILL", h.cmd.ProcessState)
	}
	r.until("the end of chmpx", func() bool { return gone(pid) })
	r.clean()
}

// SUBPROCESS_OPTIONS are words of chmpx's command line, and work.
func TestSubprocessOptions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := r.path("chmpx.log")
	r.write("chmpx-service-helper.conf", r.read("chmpx-service-helper.conf")+"SUBPROCESS_OPTIONS = -d  msg -dfile "+log+"\n")
	h := r.start("start")
	if got, want := r.arguments(h.runs())[3:], []string{"-d", "msg", "-dfile", log}; !slices.Equal(got, want) {
		t.Errorf("options %q, want %q", got, want)
	}
	r.until("a line in the file that the options name", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && len(text) > 0
	})
	h.stop(syscall.SIGHUP)
}

// BEFORE_RUN_SUBPROCESS runs in a shell before each start of chmpx; that it
// fails is said and no more.
func TestBeforeRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write("chmpx-service-helper.conf", r.read("chmpx-service-helper.conf")+"BEFORE_RUN_SUBPROCESS = echo one >> "+r.path("before")+"; test -e "+r.path("pid/chmpx.pid")+"\n")
	h := r.start("start")
	h.expect("BEFORE_RUN_SUBPROCESS failed: exit status 1")
	pid := h.runs()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.runs()
	if got := r.read("before"); got != "one\none\n" {
		t.Errorf("the command wrote %q, want a line for each start", got)
	}
	h.stop(syscall.SIGHUP)
}

func (r *rig) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// child returns the process that a helper has started.
func (r *rig) child(h *helper) int {
	r.t.Helper()
	pid := 0
	r.until("a child", func() bool {
		dirs, _ := os.ReadDir("/proc")
		for _, d := range dirs {
			stat, err := os.ReadFile("/proc/" + d.Name() + "/stat")
			if err != nil {
				continue
			}
			var parent int
			_, rest, _ := strings.Cut(string(stat), ") ")
			if _, err := fmt.Sscanf(rest[1:], "%d", &parent); err == nil && parent == h.cmd.Process.Pid {
				_, err := fmt.Sscan(d.Name(), &pid)
				return err == nil
			}
		}
		return false
	})
	return pid
}
