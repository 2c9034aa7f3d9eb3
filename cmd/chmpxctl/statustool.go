package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ops"
)

// statusToolName is what this binary is called to be CHMPX's tool of that name.
const statusToolName = "chmpxstatus"

const statusToolUsage = `
Usage: chmpxstatus -conf <configuration file path> [-ctlport <port>] [-cuk <cuk>] [-self] [-d [silent|err|wan|msg|dump]] [-dfile <debug file path>]
Usage: chmpxstatus -conf <configuration file path> [-ctlport <port>] [-cuk <cuk>] -wait -live [down|up] -ring [serviceout|servicein|slave] -(no)suspend [-timeout <second>] [-d [silent|err|wan|msg|dump]] [-dfile <debug file path>]
Usage: chmpxstatus -h

Option
  -conf <file name>    configuration file( .ini / .json / .yaml ) path
  -json <json>         configuration JSON string

  -ctlport <port>      specify the self control port(*)
  -cuk <cuk>           specify the self CUK
  -self                print only self chmpx
  -wait                to wait until the state changes to the specified value
  -live <param>        Specify live status by waiting mode
                        up         - chmpx process up
                        down       - chmpx process down; -ring and -suspend do not count then
  -ring <param>        specify ring status by waiting mode
                        servicein  - server chmpx joined ring
                        serviceout - server chmpx NOT joined ring
                        slave      - slave chmpx
  -suspend             specify suspend status by waiting mode
  -nosuspend           specify nosuspend status by waiting mode
  -timeout <second>    how long to wait; without it or with 0 there is no limit
  -d <param>           silent, err, wan, msg or dump; has no effect
  -dfile <path>        has no effect
  -h(help)             display this usage.

(*) if ctlport option is specified, chmpx searches same ctlport in configuration
    file and ignores "CTLPORT" directive in "GLOBAL" section. and chmpx will
    start in the mode indicated by the server entry that has been detected.

`

func statusToolFlags() []cli.Flag {
	return options.Explained([]cli.Flag{
		&cli.BoolFlag{Name: "h", Aliases: []string{"help"}},
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}},
		&cli.StringFlag{Name: "json"},
		&cli.GenericFlag{Name: "ctlport", Aliases: []string{"cntlport", "cntrlport"}, Value: new(port)},
		&cli.StringFlag{Name: "cuk"},
		&cli.BoolFlag{Name: "self"},
		&cli.BoolFlag{Name: "wait"},
		&cli.StringFlag{Name: "live"},
		&cli.StringFlag{Name: "ring"},
		&cli.BoolFlag{Name: "suspend"},
		&cli.BoolFlag{Name: "nosuspend"},
		options.Between(&cli.UintFlag{Name: "timeout"}, 0, yearSeconds),
		&cli.StringFlag{Name: "d", Aliases: []string{"g"}, Value: "silent"},
		&cli.StringFlag{Name: "dfile", Aliases: []string{"gfile"}},
	})
}

// runStatusTool returns the exit code of chmpxstatus.
func runStatusTool(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := &cli.App{
		Name: statusToolName, HideHelp: true, HideVersion: true, HideHelpCommand: true,
		CustomAppHelpTemplate: statusToolUsage, // urfave/cli prints it for -h
		Flags:                 statusToolFlags(),
		Writer:                stdout, ErrWriter: stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         statusToolAction,
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
	}
	known, _, err := options.Normalize(args, app.Flags) // unknown options are passed over, as in CHMPX
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, known...))
	}
	switch {
	case err == nil:
		return exitDone
	case !errors.Is(err, errPrinted):
		fmt.Fprintf(stderr, "[ERR] %v.\n", err)
	}
	return exitFailed
}

func statusToolAction(c *cli.Context) error {
	if c.Bool("h") {
		_, err := io.WriteString(c.App.Writer, statusToolUsage)
		return err
	}
	if _, err := ops.ParseLevel(c.String("d")); err != nil {
		return fmt.Errorf(`wrong parameter value "-d"("-g") %s`, c.String("d"))
	}
	want, err := statusToolWant(c)
	if err != nil {
		return err
	}
	t, err := statusToolTarget(c)
	if err != nil {
		return err
	}
	if want != nil {
		return statusToolWait(c, t, want)
	}
	text, err := ringview.Look(c.Context, t.host, t.ctlPort, "DUMP")
	if err != nil {
		return fmt.Errorf("the node cannot be asked: %w", err)
	}
	dump, err := ringview.ParseDump(text)
	if err != nil {
		return err
	}
	if c.Bool("self") {
		return writeSelf(c.App.Writer, dump)
	}
	return writeAll(c.App.Writer, dump)
}

// statusToolTarget finds this host's node in the configuration.
func statusToolTarget(c *cli.Context) (target, error) {
	source, err := config.FindSource(c.String("conf"), c.String("json"))
	if err != nil {
		return target{}, err
	}
	cfg, _, err := config.Load(source)
	if err != nil {
		return target{}, fmt.Errorf("read configuration: %w", err)
	}
	self, err := cfg.SelfNode(int(*c.Generic("ctlport").(*port)), c.String("cuk"))
	if err != nil {
		return target{}, fmt.Errorf("find the node in %s: %w", source, err)
	}
	return target{"localhost", uint16(self.CtlPort)}, nil
}

// statusToolWant reads what is to be waited for; nil: nothing.
func statusToolWant(c *cli.Context) (*want, error) {
	w := &want{state: state{Live: strings.ToLower(c.String("live")), Ring: strings.ToLower(c.String("ring"))},
		timeout: time.Duration(min(c.Uint("timeout"), secondsMax)) * time.Second}
	suspend, nosuspend := c.Bool("suspend"), c.Bool("nosuspend")
	switch {
	case !c.Bool("wait"):
		return nil, nil
	case w.Live == "" || w.Ring == "" || !suspend && !nosuspend:
		return nil, errors.New("wait mode(-wait) needs -live, -ring and -nosuspend(or -suspend) option")
	case nosuspend: // counts, where both are given
		w.Suspend = "nosuspend"
	default:
		w.Suspend = "suspend"
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("wrong parameter is specified: %w", err)
	}
	if w.Live == "down" { // a node that does not run tells nothing else
		w.state = state{Live: "down"}
	}
	return w, nil
}

// secondsMax bounds a timeout: ten years.
const secondsMax = 10 * 365 * 86400

// statusToolWait prints how the wait ended.
func statusToolWait(c *cli.Context, t target, w *want) error {
	_, err := w.wait(c.Context, t)
	text := "SUCCEED"
	if err != nil {
		text = "FAILED"
		err = fmt.Errorf("%w: %w", errPrinted, err)
	}
	if _, failed := fmt.Fprintln(c.App.Writer, text); failed != nil {
		return failed
	}
	return err
}
