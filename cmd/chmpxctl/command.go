package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

// errRefused says that a node answered a command with an error, which has been
// printed in JSON.
var errRefused = errors.New("the node refused the command")

// ringVerb is a verb that sends one text command to a node; nothing may follow
// its options.
func ringVerb(name, usage, command string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Flags: commandFlags(),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("%s: %q is no option; options begin with a dash", name, c.Args().First())
			}
			return sendCommand(c, command)
		},
	}
}

// commandFlags are the options of every verb that changes the ring.
func commandFlags() []cli.Flag {
	return append(targetFlags(), &cli.BoolFlag{Name: "json", Usage: "print command, ok, reply and reason in JSON"})
}

// sendCommand sends a text command to the node that the options name, and
// prints what it answers. Only SUCCEED is no error.
func sendCommand(c *cli.Context, command string) error {
	t, err := targetOf(c)
	if err != nil {
		return err
	}
	r, err := ringview.Command(c.Context, t.host, t.ctlPort, command)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		b, err := json.Marshal(struct {
			Command string `json:"command"`
			ringview.Reply
		}{command, r})
		if err != nil {
			return fmt.Errorf("encode the reply: %w", err)
		}
		if _, err := fmt.Fprintf(c.App.Writer, "%s\n", b); err != nil || r.OK {
			return err
		}
		return errRefused
	}
	switch {
	case r.OK:
		_, err = fmt.Fprintln(c.App.Writer, r.Reply)
		return err
	case r.Reason != "":
		return fmt.Errorf("%s (%s)", r.Reply, r.Reason)
	}
	return errors.New(r.Reply)
}
