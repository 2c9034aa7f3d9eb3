package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Stop stops the service that runs with these files and waits for its end,
// longer than it may take itself; then it kills service and program. It says
// on w what it does. That none runs is no error. ErrNotStopped says that a
// process is still there, ctx's error that ctx ended first.
func Stop(ctx context.Context, o Options, w io.Writer) error {
	s, _, err := Load(o.ConfDir)
	if err != nil {
		return err
	}
	servicePid := filepath.Join(s.PidDir, s.ServicePidFile)
	programPid := filepath.Join(s.PidDir, s.SubprocessPidFile)
	pid, err := running(servicePid)
	if err != nil {
		return err
	}
	if pid == 0 {
		fmt.Fprintf(w, "%s does not run.\n", name)
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	fmt.Fprintf(w, "stopping %s, process %d\n", name, pid)
	gone := func() bool { now, err := running(servicePid); return err == nil && now != pid }
	patience := time.Duration(2*s.StopTries+1) * s.Interval
	if ok, err := await(ctx, patience, gone); ok || err != nil {
		return err
	}
	fmt.Fprintf(w, "process %d has not stopped after %v, killing it\n", pid, patience)
	child := readPid(programPid)
	for _, victim := range []struct {
		pid  int
		gone func() bool
	}{{pid, gone}, {child, func() bool { return !isProgram(child, o.Program) }}} {
		if victim.gone() {
			continue
		}
		_ = syscall.Kill(victim.pid, syscall.SIGKILL) // gone says whether it helped
		if ok, err := await(ctx, patience, victim.gone); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%w: process %d", ErrNotStopped, victim.pid)
		}
	}
	return removeStale(servicePid, programPid)
}

// await looks at a condition until it holds, d is over or ctx ends.
func await(ctx context.Context, d time.Duration, holds func() bool) (bool, error) {
	const pause = 50 * time.Millisecond
	for end := time.Now().Add(d); !holds(); {
		if time.Now().After(end) {
			return false, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return false, err
		}
	}
	return true, nil
}

// removeStale removes pid files of a service that was killed, unless another
// one has begun.
func removeStale(servicePid, programPid string) error {
	if pid, err := running(servicePid); err != nil || pid != 0 {
		return err
	}
	for _, file := range []string{servicePid, programPid} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove pid file: %w", err)
		}
	}
	return nil
}
