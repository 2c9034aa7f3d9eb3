// Command chmpxctl asks and commands the nodes of a ring over their control
// ports. Each group of verbs is a file of its own. By the name that it is called
// by it is one of CHMPX's tools: chmpxconftest, chmpxlinetool or chmpxstatus.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
)

// version is what the verb of that name prints; the build may replace it.
var version = "0.1.0"

func main() {
	if isConfTest(os.Args[0]) {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
		os.Exit(runConfTest(os.Args[1:], os.Stdout, os.Stderr, signals))
	}
	if filepath.Base(os.Args[0]) == lineToolName {
		os.Exit(lineToolMain())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if filepath.Base(os.Args[0]) == statusToolName {
		os.Exit(runStatusTool(ctx, os.Args[1:], os.Stdout, os.Stderr))
	}
	err := newApp().RunContext(ctx, os.Args)
	if err != nil && !said(err) {
		fmt.Fprintf(os.Stderr, "chmpxctl: %v\n", err)
	}
	os.Exit(exitCode(err))
}

// lineToolMain returns the exit code of chmpxlinetool. Until it has its nodes
// signals end it as they end any process, whatever it waits for.
func lineToolMain() int {
	stop := func() {}
	defer func() { stop() }()
	listen := func(ctx context.Context) (context.Context, <-chan os.Signal) {
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, syscall.SIGINT)
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGTERM)
		return ctx, interrupts
	}
	return runLineTool(context.Background(), os.Args[1:], &lineTool{in: os.Stdin, out: os.Stdout, errs: os.Stderr, listen: listen})
}

// said reports whether an error has been printed.
func said(err error) bool { return errors.Is(err, errBad) || errors.Is(err, errPrinted) }

func newApp() *cli.App {
	app := &cli.App{
		Name:  "chmpxctl",
		Usage: "ask and command the nodes of a ring",
		Description: "Commands go to the control port of one node: -host and -ctlport name it, or\n" +
			"-conf names its configuration file (default: CHMCONFFILE, then CHMJSONCONF).\n" +
			"Called as chmpxconftest, chmpxlinetool or chmpxstatus it is CHMPX's tool of that name.\n\n" +
			"Exit codes: 0 done, 1 refused or found to be wrong, 2 the command line is wrong,\n" +
			"3 no node answers, nothing was changed, 4 what came of a command is not known, it may\n" +
			"have been done, 5 what was waited for did not happen in time.",
		HideVersion: true,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("unknown command %q; chmpxctl -h lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands:       slices.Concat(viewCommands(), []*cli.Command{hashCommand(), confCommand(), reloadCommand(), shellCommand()}, serviceCommands(), mergeCommands(), nodeCommands()),
		ExitErrHandler: func(*cli.Context, error) {}, // main prints it
		OnUsageError:   wrongOption,
	}
	sayOnce(app.Commands)
	options.ExplainAll(app.Commands)
	return app
}

// wrongOption is in place of the help that hides an error about an option.
func wrongOption(c *cli.Context, err error, _ bool) error {
	return usagef("%w; %s -h lists the options", err, c.Command.HelpName)
}

// sayOnce sets wrongOption for all commands.
func sayOnce(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = wrongOption
		sayOnce(c.Subcommands)
	}
}
