// Command chmpx-service-helper runs chmpx as a service: it starts the program,
// watches it and starts it again. systemd starts it, or a person.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
	"github.com/chmpx/chmpx/ops/service"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { // ends with the process
		sig := <-signals
		n, _ := sig.(syscall.Signal) // what signal.Notify sends is one
		cancel(fmt.Errorf("signal %d", int(n)))
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// errUsage asks for the usage text behind the error.
var errUsage = errors.New("wrong arguments")

// run returns the exit code.
func run(ctx context.Context, args []string) int {
	app := &cli.App{
		Name: "chmpx-service-helper", Flags: flags(), HideHelp: true, HideVersion: true, HideHelpCommand: true,
		CustomAppHelpTemplate: usage, Writer: os.Stdout, ErrWriter: os.Stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return fmt.Errorf("%w: %w", errUsage, err) },
	}
	known, words, err := options.Normalize(args, app.Flags)
	app.Action = func(c *cli.Context) error { return act(ctx, c, words) }
	if err == nil {
		err = app.Run(append([]string{app.Name}, known...))
	} else {
		err = fmt.Errorf("%w: %w", errUsage, err)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Printf("%s: %v\n\n%s", app.Name, err, usage)
	default:
		service.NewLogger(os.Stderr).Error(err.Error())
	}
	return 1
}

// act does what the one word that is no option says.
func act(ctx context.Context, c *cli.Context, words []string) error {
	o := service.Options{ConfDir: c.String("confdir"), Program: c.String("program"), Output: os.Stdout}
	if len(words) != 1 {
		return fmt.Errorf("%w: one of start, stop and restart is needed, got %q", errUsage, words)
	}
	switch strings.ToLower(words[0]) {
	case "start":
		return service.Start(ctx, o)
	case "stop":
		return service.Stop(ctx, o, os.Stdout)
	case "restart":
		if err := service.Stop(ctx, o, os.Stdout); err != nil {
			return err
		}
		return service.Start(ctx, o)
	}
	return fmt.Errorf("%w: %q is none of start, stop and restart", errUsage, words[0])
}
