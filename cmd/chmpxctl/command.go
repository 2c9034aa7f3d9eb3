package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

// errPrinted says that a command failed and that JSON which says why has been
// printed.
var errPrinted = errors.New("the command failed")

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
	switch {
	case c.Bool("json"):
		return printReply(c.App.Writer, command, r, err)
	case err != nil:
		return err
	case r.OK:
		_, err = fmt.Fprintln(c.App.Writer, r.Reply)
		return err
	case r.Reason != "":
		return fmt.Errorf("%s (%s)", r.Reply, r.Reason)
	}
	return errors.New(r.Reply)
}

// printReply prints in JSON what became of a command; failed is why there is no reply.
func printReply(w io.Writer, command string, r ringview.Reply, failed error) error {
	out := struct {
		Command string `json:"command"`
		ringview.Reply
		Error string `json:"error,omitempty"` // there is no reply
	}{Command: command, Reply: r}
	if failed != nil {
		out.Error = failed.Error()
	}
	b, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode the reply: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s\n", b); err != nil || r.OK {
		return err
	}
	return errPrinted
}
