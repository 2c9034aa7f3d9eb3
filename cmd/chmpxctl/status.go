package main

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
)

// viewCommands look and change nothing.
func viewCommands() []*cli.Command {
	return []*cli.Command{statusCommand(), nodesCommand(), checkCommand(), dumpCommand(), versionCommand()}
}

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the ring as one node sees it, or wait for a state of a node",
		Description: "With -wait it waits until the node that is asked, or the server -of, is as the options\n" +
			"say: -live, -ring, -suspend or -nosuspend, -settled, one of them or several. A node that\n" +
			"cannot be reached counts as down; nothing else is known of it.",
		Flags: append(append(targetFlags(),
			&cli.BoolFlag{Name: "json", Usage: "print the node's answer as it comes, in JSON"}), waitFlags()...),
		Action: answering("status", func(c *cli.Context) (answer, error) {
			want, err := wantOf(c)
			if err != nil {
				return nil, err
			}
			t, err := targetOf(c)
			if err != nil {
				return nil, err
			}
			if want != nil {
				return want.wait(c.Context, t)
			}
			status, raw, err := ringview.Fetch(c.Context, t.host, t.ctlPort)
			if err != nil {
				return nil, err
			}
			return statusAnswer{status, raw}, nil
		}),
	}
}

// statusAnswer is the status of a node.
type statusAnswer struct {
	status controlplane.Status
	raw    json.RawMessage
}

// MarshalJSON returns the answer as it came.
func (a statusAnswer) MarshalJSON() ([]byte, error) { return a.raw, nil }

func (a statusAnswer) print(w io.Writer, colour bool) error {
	if !colour {
		return ringview.Print(w, a.status)
	}
	var b strings.Builder
	if err := ringview.Print(&b, a.status); err != nil {
		return err
	}
	_, err := statusColours.WriteString(w, b.String())
	return err
}
