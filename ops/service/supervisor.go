package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// ErrNotStopped is wrapped when a process outlives every try to stop it.
var ErrNotStopped = errors.New("service: could not be stopped")

// supervisor is one run of the service. One goroutine has it.
type supervisor struct {
	options  Options
	settings Settings
	log      serviceLog
	notify   notifier
	ready    bool // the program has lived through its first wait once, and systemd knows
	stopping bool // ctx has ended, and that has been said
}

// warn logs what Load passed over.
func (v *supervisor) warn(notes []string) {
	for _, note := range notes {
		v.log.Warn(note)
	}
}

// status says what the service does now, to the log and to systemd.
func (v *supervisor) status(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	v.log.Info(text)
	v.tell("STATUS=" + text)
}

// tell sends assignments to systemd.
func (v *supervisor) tell(assignments ...string) {
	if err := v.notify.send(assignments...); err != nil {
		v.log.Warn(err.Error())
	}
}

// run starts the program again and again until ctx ends, which is no error.
// Errors end it as long as the program has never lived through its first wait.
func (v *supervisor) run(ctx context.Context) error {
	v.status("starting chmpx in %v", v.settings.Startup)
	err := sleep(ctx, v.settings.Startup)
	for err == nil {
		if v.ready {
			v.reload()
		}
		err = v.round(ctx)
		if err != nil && v.ready && ctx.Err() == nil {
			v.log.Error(err.Error())
			err = nil
		}
		if err == nil {
			v.status("starting chmpx again in %v", v.settings.Interval)
			err = sleep(ctx, v.settings.Interval)
		}
	}
	if ctx.Err() == nil || errors.Is(err, ErrNotStopped) {
		return err
	}
	v.sayStop(ctx)
	return nil
}

// sayStop says, once, that ctx has ended.
func (v *supervisor) sayStop(ctx context.Context) {
	if v.stopping {
		return
	}
	v.stopping = true
	v.log.Info(fmt.Sprintf("Caught %v, try to stop subprocess and exit.", context.Cause(ctx)))
	v.tell("STOPPING=1", "STATUS=stopping", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", v.stopTime().Microseconds()))
}

// reload reads the files again. Where they are wrong the old settings go on.
func (v *supervisor) reload() {
	s, notes, err := Load(v.options.ConfDir)
	v.warn(notes)
	if err != nil {
		v.log.Error(fmt.Sprintf("the old settings go on: %v", err))
		return
	}
	s.PidDir, s.ServicePidFile = v.settings.PidDir, v.settings.ServicePidFile // are in use
	v.settings = s
}

// round waits for what the program needs, runs it, and returns when it has
// ended: nil after it had started well. When ctx ends it stops the program and
// returns ctx's error.
func (v *supervisor) round(ctx context.Context) error {
	if err := v.waitFor(ctx, "configuration "+v.settings.IniFile, func() bool {
		info, err := os.Stat(v.settings.IniFile)
		return err == nil && info.Mode().IsRegular()
	}); err != nil {
		return err
	}
	if err := v.waitForDependency(ctx); err != nil {
		return err
	}
	if err := v.beforeRun(ctx); err != nil {
		return err
	}
	pidFile := filepath.Join(v.settings.PidDir, v.settings.SubprocessPidFile)
	if pid := readPid(pidFile); isProgram(pid, v.options.Program) {
		return fmt.Errorf("%w: process %d of %s has not stopped yet", ErrRunning, pid, pidFile)
	}
	p, err := v.launch()
	if err != nil {
		return err
	}
	if err := os.WriteFile(pidFile, fmt.Appendln(nil, p.pid()), 0o644); err != nil {
		return errors.Join(fmt.Errorf("write SUBPROCESS_PIDFILE: %w", err), v.end(p))
	}
	err = v.watch(ctx, p)
	if !errors.Is(err, ErrNotStopped) {
		_ = os.Remove(pidFile) // one that stays names a process that has ended, which counts as none
	}
	return err
}

// watch returns when the program has ended, by itself or because ctx has.
func (v *supervisor) watch(ctx context.Context, p *process) error {
	v.status("chmpx has process id %d, looking at it again in %v", p.pid(), v.settings.AfterUp)
	up := time.NewTimer(v.settings.AfterUp)
	defer up.Stop()
	started := false
	for {
		select {
		case <-ctx.Done():
			v.sayStop(ctx)
			return errors.Join(ctx.Err(), v.end(p))
		case <-p.ended:
			if !started {
				return fmt.Errorf("%w: %v", ErrExitedSoon, p.state())
			}
			v.log.Warn(fmt.Sprintf("Process(%d) exited.", p.pid()), "state", p.state())
			return nil
		case <-up.C:
			started, v.ready = true, true
			v.status("chmpx runs as process %d", p.pid())
			v.tell("READY=1")
		}
	}
}

// stopTime is what stopping the program may take.
func (v *supervisor) stopTime() time.Duration {
	return time.Duration(v.settings.StopTries) * 2 * v.settings.Interval
}

// end stops the program: by SIGHUP, which lets it leave its ring in order,
// then by SIGKILL, each with an interval to wait, as often as the settings say.
func (v *supervisor) end(p *process) error {
	for range v.settings.StopTries {
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGKILL} {
			p.signal(sig)
			select {
			case <-p.ended:
				v.log.Info(fmt.Sprintf("Process(%d) stopped.", p.pid()), "state", p.state())
				return nil
			case <-time.After(v.settings.Interval):
				v.log.Warn(fmt.Sprintf("Process(%d) has not stopped after signal %d.", p.pid(), sig))
			}
		}
	}
	return fmt.Errorf("%w: process %d, tried %d times", ErrNotStopped, p.pid(), v.settings.StopTries)
}

// waitFor looks at a condition every interval until it holds or ctx ends.
func (v *supervisor) waitFor(ctx context.Context, what string, holds func() bool) error {
	for said := false; !holds(); said = true {
		if !said {
			v.status("waiting for %s", what)
		}
		if err := sleep(ctx, v.settings.Interval); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// waitForDependency returns when the process that must be there first has run
// for as long as it has to.
func (v *supervisor) waitForDependency(ctx context.Context) error {
	file := v.settings.DependPidFile
	if file == "" {
		return nil
	}
	runs := func() bool { return alive(readPid(file)) }
	for {
		if err := v.waitFor(ctx, "the process of "+file, runs); err != nil {
			return err
		}
		pid := readPid(file)
		v.status("the process of %s runs, looking at it again in %v", file, v.settings.AfterDepend)
		if err := sleep(ctx, v.settings.AfterDepend); err != nil {
			return err
		}
		if runs() && readPid(file) == pid {
			return nil
		}
	}
}

// beforeRun runs the command that comes first. That it fails is only logged;
// when ctx ends it is killed, with what it has started.
func (v *supervisor) beforeRun(ctx context.Context) error {
	if v.settings.BeforeRun == "" {
		return nil
	}
	v.status("running BEFORE_RUN_SUBPROCESS")
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", v.settings.BeforeRun)
	cmd.Stdout, cmd.Stderr, cmd.Env = v.log.out, v.log.out, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		v.log.Warn(fmt.Sprintf("BEFORE_RUN_SUBPROCESS failed: %v", err))
	}
	return ctx.Err()
}

// sleep waits for d; ctx's error says that it ended first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
