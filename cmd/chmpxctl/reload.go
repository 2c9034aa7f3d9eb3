package main

import (
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

// reloadCommand makes a node read its configuration again.
func reloadCommand() *cli.Command {
	return &cli.Command{
		Name: "reload", Usage: "have the node that is asked read its configuration again",
		Description: "Nodes do that by themselves when a file changes; this one waits and says what came\n" +
			"of it. A configuration that is wrong, or says what cannot change while the node runs,\n" +
			"is refused, and the node goes on with the one it has.",
		Flags: commandFlags(),
		Action: answering("reload", func(c *cli.Context) (answer, error) {
			t, err := targetOf(c)
			if err != nil {
				return nil, err
			}
			a := commandAnswer{Command: "reload"}
			err = ringview.Post(c.Context, t.host, t.ctlPort, "/v1/reload", &a.Reply)
			a.OK = err == nil
			switch {
			case errors.Is(err, ringview.ErrRefused):
				a.Reply.Reply = ringview.ErrRefused.Error()
				a.Reason = strings.TrimPrefix(err.Error(), a.Reply.Reply+": ")
			case err != nil:
				a.noReply(err)
			}
			return a, err
		}),
	}
}
