// Command chmpx-testcluster runs rings of real processes on this host: it breaks
// them and judges what became of their promises, demonstrates and measures.
// Each verb is a file of its own; verbs that begin with "_" are the programs of
// those rings.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
	"github.com/chmpx/chmpx/testcluster/run"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	app := &cli.App{
		Name:           "chmpx-testcluster",
		Usage:          "run rings of real processes on this host",
		Description:    "Exit codes: 0 everything held; 2 run, replay and judge found broken promises; 1 anything else.",
		HideVersion:    true,
		Commands:       allCommands(),
		ExitErrHandler: func(*cli.Context, error) {}, // printed below
	}
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "chmpx-testcluster: %v\n", err)
		if errors.Is(err, run.ErrViolated) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func allCommands() []*cli.Command {
	commands := []*cli.Command{runCommand(), replayCommand(), listCommand(), judgeCommand(),
		demoCommand(), benchCommand(), transitionsCommand(), soakCommand(),
		serverCommand(), clientCommand(), floodCommand(), senderCommand(), receiverCommand()}
	options.ExplainAll(commands)
	return commands
}

// binFlag names the directory of the other binaries.
func binFlag() cli.Flag {
	return &cli.StringFlag{Name: "bin", Usage: "`directory` of the chmpx binaries (default: that of this program)"}
}

// binaries returns this program and the directory of the others.
func binaries(c *cli.Context) (self, bin string, err error) {
	if self, err = os.Executable(); err != nil {
		return "", "", fmt.Errorf("find this program: %w", err)
	}
	if bin = c.String("bin"); bin == "" {
		bin = filepath.Dir(self)
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return "", "", fmt.Errorf("find the binaries: %w", err)
	}
	return self, bin, nil
}
