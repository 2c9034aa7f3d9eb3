// Command chmpxctl asks and commands the nodes of a ring over their control
// ports. Each verb is a file of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	app := newApp()
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "chmpxctl: %v\n", err)
		os.Exit(1)
	}
}

func newApp() *cli.App {
	return &cli.App{
		Name:  "chmpxctl",
		Usage: "ask and command the nodes of a ring",
		Description: "Every command goes to the control port of one node: -host and -ctlport name it,\n" +
			"or -conf names its configuration file.\n\n" +
			"Exit codes: 0 done, 1 the node could not be reached or refused, or an option is wrong.",
		HideVersion: true,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("unknown command %q; chmpxctl -h lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands:       []*cli.Command{statusCommand(), hashCommand()},
		ExitErrHandler: func(*cli.Context, error) {}, // main prints it
	}
}
