package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

// ringVerb is a verb that sends one text command to a node; nothing may follow
// its options.
func ringVerb(name, usage, command string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Flags: commandFlags(),
		Action: answering(name, func(c *cli.Context) (answer, error) { return sendCommand(c, command) }),
	}
}

// commandFlags are the options of every verb that changes the ring.
func commandFlags() []cli.Flag {
	return append(targetFlags(), &cli.BoolFlag{Name: "json", Usage: "print command, ok, reply and reason in JSON"})
}

// commandAnswer is what became of a command.
type commandAnswer struct {
	Command string `json:"command"`
	ringview.Reply
	Error string `json:"error,omitempty"` // there is no reply, or it came to nothing after it
}

func (a commandAnswer) print(w io.Writer, _ bool) error {
	if !a.OK { // the error says it
		return nil
	}
	_, err := fmt.Fprintln(w, a.Reply.Reply)
	return err
}

// noReply notes why there is no reply.
func (a *commandAnswer) noReply(err error) {
	a.Error, a.Uncertain = err.Error(), errors.Is(err, ringview.ErrNoAnswer)
}

// failed returns the answer for a command that was taken and came to nothing.
func (a commandAnswer) failed(err error) (answer, error) {
	a.OK, a.Error = false, err.Error()
	return a, err
}

// sendCommand sends a text command to the node that the options name. Only
// SUCCEED is no error.
func sendCommand(c *cli.Context, command string) (answer, error) {
	t, err := targetOf(c)
	if err != nil {
		return nil, err
	}
	r, err := ringview.Command(c.Context, t.host, t.ctlPort, command)
	a := commandAnswer{Command: command, Reply: r}
	switch {
	case err != nil:
		a.noReply(err)
	case r.OK:
	case r.Uncertain:
		err = fmt.Errorf("%w: %s (%s)", errUncertain, r.Reply, r.Reason)
	case r.Reason != "":
		err = fmt.Errorf("%s (%s)", r.Reply, r.Reason)
	default:
		err = errors.New(r.Reply)
	}
	return a, err
}
