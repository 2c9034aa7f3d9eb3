// Command chmpxctl asks and commands the nodes of a ring over their control
// ports. Each verb is a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	if isConfTest(os.Args[0]) {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
		os.Exit(runConfTest(os.Args[1:], os.Stdout, os.Stderr, signals))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	app := newApp()
	if err := app.RunContext(ctx, os.Args); err != nil {
		if !errors.Is(err, errBad) && !errors.Is(err, errPrinted) { // which have been printed
			fmt.Fprintf(os.Stderr, "chmpxctl: %v\n", err)
		}
		os.Exit(1)
	}
}

func newApp() *cli.App {
	app := &cli.App{
		Name:  "chmpxctl",
		Usage: "ask and command the nodes of a ring",
		Description: "Commands go to the control port of one node: -host and -ctlport name it, or\n" +
			"-conf names its configuration file (default: CHMCONFFILE, then CHMJSONCONF).\n" +
			"Called as chmpxconftest it is CHMPX's tool of that name.\n\n" +
			"Exit codes: 0 done, 1 the node could not be reached or refused, an option is\n" +
			"wrong, or the configuration that was checked is bad.",
		HideVersion: true,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("unknown command %q; chmpxctl -h lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands:       slices.Concat([]*cli.Command{statusCommand(), hashCommand(), confCommand()}, serviceCommands(), mergeCommands()),
		ExitErrHandler: func(*cli.Context, error) {}, // main prints it
		OnUsageError:   wrongOption,
	}
	sayOnce(app.Commands)
	return app
}

// wrongOption is in place of the help that hides an error about an option.
func wrongOption(c *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w; %s -h lists the options", err, c.Command.HelpName)
}

// sayOnce sets wrongOption for all commands.
func sayOnce(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = wrongOption
		sayOnce(c.Subcommands)
	}
}
