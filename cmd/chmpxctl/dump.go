package main

import (
	"errors"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

func dumpCommand() *cli.Command {
	return &cli.Command{
		Name: "dump", Usage: "print all that a node knows, as its control port says it",
		Description: "With -json the labels are keys, lists are arrays and all values strings.",
		Flags:       append(targetFlags(), jsonFlag()),
		Action: answering("dump", func(c *cli.Context) (answer, error) {
			t, err := targetOf(c)
			if err != nil {
				return nil, err
			}
			text, err := ringview.Look(c.Context, t.host, t.ctlPort, "DUMP")
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(text, "ERROR") {
				return nil, errors.New(strings.TrimSpace(text))
			}
			dump, err := ringview.ParseDump(text)
			if err != nil {
				return nil, err
			}
			return dumpAnswer{Node: t.String(), Dump: dump, text: text}, nil
		}),
	}
}

type dumpAnswer struct {
	Node string            `json:"node"`
	Dump *ringview.Section `json:"dump"`

	text string
}

func (a dumpAnswer) print(w io.Writer, _ bool) error {
	_, err := io.WriteString(w, a.text)
	return err
}
