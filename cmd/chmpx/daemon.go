package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/node"
	"github.com/chmpx/chmpx/ops"
)

// daemon is one run of the command.
type daemon struct {
	args           []string
	stdout, stderr io.Writer
	signals        <-chan os.Signal
	again          bool // set by run: the process is to be started anew
}

// settings is what the options say.
type settings struct {
	source  config.Source
	ctlPort int // 0: as the file says
	cuk     string
	level   ops.Level
	logFile string
	boot    bool // start a ring of one if there is none
}

// errUsage asks for the usage text behind the error.
var errUsage = errors.New("wrong options")

// run returns the exit code.
func (d *daemon) run() int {
	code := exitStopped
	app := &cli.App{
		Name: "chmpx", Flags: flags(), HideHelp: true, HideVersion: true, HideHelpCommand: true,
		CustomAppHelpTemplate: usage, // urfave/cli prints it for -h
		Writer:                d.stdout, ErrWriter: d.stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return fmt.Errorf("%w: %w", errUsage, err) },
		Action:         func(c *cli.Context) error { return d.act(c, &code) },
	}
	known, unknown, err := options.Normalize(d.args, app.Flags)
	for _, word := range unknown {
		fmt.Fprintf(d.stderr, "WARNING: unknown option %q is ignored.\n", word)
	}
	if err == nil {
		err = app.Run(append([]string{app.Name}, known...))
	} else {
		err = fmt.Errorf("%w: %w", errUsage, err)
	}
	if err != nil {
		d.printError(err)
		if code == exitStopped {
			code = exitStart
		}
	}
	if errors.Is(err, errUsage) {
		fmt.Fprint(d.stderr, "\n", usage)
	}
	return code
}

// printError writes an error, a line for each mistake and each warning.
func (d *daemon) printError(err error) {
	for _, line := range strings.Split(err.Error(), "\n") {
		if warning, ok := strings.CutPrefix(line, "warning: "); ok {
			fmt.Fprintf(d.stderr, "WARNING: %s\n", warning)
			continue
		}
		fmt.Fprintf(d.stderr, "ERROR: %s\n", line)
	}
}

// act does what the options ask for and sets the exit code where it is not
// the common one of an error.
func (d *daemon) act(c *cli.Context, code *int) error {
	if c.Bool("v") {
		fmt.Fprintf(d.stdout, "CHMPX Version %s\n", version)
		return nil
	}
	s, err := parse(c)
	if err != nil {
		return err
	}
	logger, closeLog, err := ops.OpenLog(s.level, s.logFile)
	if err != nil {
		return err
	}
	defer closeLog()
	n, err := node.New(node.Options{Config: s.source, CtlPort: s.ctlPort, CUK: s.cuk, Logger: logger, Version: version, Bootstrap: s.boot})
	if errors.Is(err, config.ErrConfig) {
		return err
	}
	if err != nil {
		return fmt.Errorf("could not initialize process: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }() // ends with ctx; awaited below
	for _, w := range n.Info().Warnings {
		fmt.Fprintf(d.stderr, "WARNING: %s\n", w)
	}
	printStart(d.stdout, n.Info())
	err = d.await(stop, ended, code)
	if err != nil && *code == exitStopped {
		*code = exitFailed
	}
	return err
}

// await returns when the node has ended: by itself, in order after a signal,
// or left alone after a second one.
func (d *daemon) await(stop func(), ended <-chan error, code *int) error {
	select {
	case err := <-ended:
		if errors.Is(err, node.ErrRestart) {
			d.again, err = true, nil
		}
		return err
	case <-d.signals:
		stop()
	}
	select {
	case err := <-ended:
		if errors.Is(err, node.ErrRestart) { // the signal came later, and counts
			err = nil
		}
		return err
	case sig := <-d.signals:
		*code = exitSignal
		if n, ok := sig.(syscall.Signal); ok {
			*code += int(n)
		}
		return fmt.Errorf("ended at once by a second signal: %v", sig)
	}
}

// parse checks the options.
func parse(c *cli.Context) (settings, error) {
	s := settings{cuk: c.String("cuk"), logFile: c.String("dfile"), boot: c.Bool("bootstrap")}
	var err error
	if s.source, err = config.FindSource(c.String("conf"), c.String("json")); err != nil {
		return s, fmt.Errorf(`%w: must specify option "-conf" or "-json", or set CHMCONFFILE or CHMJSONCONF`, errUsage)
	}
	if p := c.String("ctlport"); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return s, fmt.Errorf(`option "-ctlport" is specified with invalid value %q: use 1 to 65535`, p)
		}
		s.ctlPort = int(n)
	}
	s.level = ops.LevelError
	if word := c.String("d"); word != "" {
		level, err := ops.ParseLevel(word)
		if err != nil {
			return s, fmt.Errorf("%w: %w", errUsage, err)
		}
		s.level = level
	}
	return s, nil
}
