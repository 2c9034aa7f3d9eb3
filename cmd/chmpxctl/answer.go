package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

// Exit codes; docs/chmpxctl.md has the table.
const (
	exitDone       = 0
	exitFailed     = 1 // refused, or something was found to be wrong
	exitUsage      = 2 // the command line is wrong: nothing was sent
	exitNotReached = 3 // no node answers: nothing was changed
	exitNoAnswer   = 4 // what came of a command is not known: it may have been done
	exitTimeout    = 5 // what was waited for did not happen in time
)

// exitCode returns the code of what a verb ended with.
func exitCode(err error) int {
	var wrong *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong):
		return exitUsage
	case errors.Is(err, ringview.ErrNoAnswer), errors.Is(err, errUncertain):
		return exitNoAnswer
	case errors.Is(err, errTimeout):
		return exitTimeout
	case errors.Is(err, ringview.ErrNotSent), errors.Is(err, ringview.ErrStatus):
		return exitNotReached
	}
	return exitFailed
}

// errPrinted is wrapped by errors that have been printed, as JSON.
var errPrinted = errors.New("printed")

// errUncertain is wrapped when the ring was lost with a command on its way.
var errUncertain = errors.New("it may have been done")

// errTimeout is wrapped when a wait ended without what was waited for.
var errTimeout = errors.New("not in time")

// usageError says what is wrong with a command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// usagef returns a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// answer is what a verb has found out or done: its fields are JSON, and it
// prints itself for people.
type answer interface {
	print(w io.Writer, colour bool) error
}

// jsonFlag is an option of every verb.
func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print the answer in JSON"} }

// answering returns the action of a verb whose options are followed by nothing.
// With -json an error is part of the answer, or the answer when run has none.
func answering(name string, run func(c *cli.Context) (answer, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() > 0 {
			return usagef("%s: %q is no option; options begin with a dash", name, c.Args().First())
		}
		return show(c, run)
	}
}

// show runs a verb and prints its answer as the options ask.
func show(c *cli.Context, run func(c *cli.Context) (answer, error)) error {
	return showAs(c, c.Bool("json"), run)
}

func showAs(c *cli.Context, asJSON bool, run func(c *cli.Context) (answer, error)) error {
	a, err := run(c)
	var wrong *usageError
	switch {
	case errors.As(err, &wrong):
		return err
	case asJSON:
		return showJSON(c.App.Writer, a, err)
	case a != nil:
		if printed := a.print(c.App.Writer, colours(c.App.Writer)); printed != nil {
			return printed
		}
	}
	return err
}

func showJSON(w io.Writer, a answer, failed error) error {
	var out any = a
	if a == nil {
		out = struct {
			Error string `json:"error"`
		}{failed.Error()}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil || failed == nil {
		return err
	}
	return fmt.Errorf("%w: %w", errPrinted, failed)
}
