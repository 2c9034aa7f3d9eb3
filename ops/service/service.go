// Package service runs one chmpx as a service: it waits for what must be
// there first, starts the program, watches it, starts it again when it ends,
// and stops it in order. It reads chmpx-service-helper.conf and override.conf,
// tells systemd how far it is, and knows nothing of rings or messages.
//
// Start blocks until its context ends and may be called once at a time in a
// process; the other functions may be called from any goroutine.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// Options says what is run, and where its files are.
type Options struct {
	ConfDir string   // directory of ConfName and OverrideName
	Program string   // the program, looked up in PATH unless it has a slash
	Output  *os.File // for the log, and for what is run, unless the configuration names files
}

// ErrRunning is wrapped when another process is the service, or is its program.
var ErrRunning = errors.New("service: running already")

// ErrExitedSoon is wrapped by Start's error when the program does not live
// through its first wait.
var ErrExitedSoon = errors.New("service: could not start a new process, it was launched but exited soon")

// Start runs the service until ctx ends; the context's cause, a signal say, is
// logged as what was caught. It returns nil when the program has been stopped in order, and an
// error when the service cannot start, another one runs (ErrRunning), the
// program ends soon after its first start (ErrExitedSoon), or cannot be stopped
// (ErrNotStopped). Once the program has lived through its first wait, only the
// last of these ends the service. It leaves no pid file and no process, except
// after ErrNotStopped.
func Start(ctx context.Context, o Options) error {
	s, notes, err := Load(o.ConfDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.PidDir, 0o755); err != nil {
		return fmt.Errorf("create PIDDIR: %w", err)
	}
	lock, err := lockPidFile(filepath.Join(s.PidDir, s.ServicePidFile))
	if err != nil {
		return err
	}
	defer lock.release()
	log, closeLog, err := openLog(o.Output, s.LogDir, s.ServiceLogFile)
	if err != nil {
		return err
	}
	defer closeLog()
	v := &supervisor{options: o, settings: s, log: log, notify: notifier{os.Getenv("NOTIFY_SOCKET")}}
	v.warn(notes)
	err = v.run(ctx)
	if err != nil && log.out != o.Output {
		v.log.Error(err.Error()) // the caller prints it elsewhere
	}
	return err
}

// serviceLog is a logger and the file behind it.
type serviceLog struct {
	*slog.Logger
	out *os.File
}

// openLog opens the service's log. The returned function is never nil.
func openLog(output *os.File, dir, name string) (serviceLog, func(), error) {
	out, closeOut, err := openOutput(output, dir, name)
	if err != nil {
		return serviceLog{}, closeOut, fmt.Errorf("open SERVICE_LOGFILE: %w", err)
	}
	return serviceLog{NewLogger(out), out}, closeOut, nil
}

// openOutput opens dir/name for appending, or returns output if one of both is
// empty. The returned function closes what was opened.
func openOutput(output *os.File, dir, name string) (*os.File, func(), error) {
	if dir == "" || name == "" {
		return output, func() {}, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, func() {}, fmt.Errorf("create LOGDIR: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, func() {}, err
	}
	return f, func() { _ = f.Close() }, nil
}

// NewLogger returns a logger that writes lines as CHMPX's helper does.
func NewLogger(w io.Writer) *slog.Logger { return slog.New(&lineHandler{w: w}) }
