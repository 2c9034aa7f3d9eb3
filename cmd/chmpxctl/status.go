package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the ring as one node sees it",
		Flags: append(targetFlags(), &cli.BoolFlag{Name: "json", Usage: "print the node's answer as it comes, in JSON"}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("status: %q is no option; options begin with a dash", c.Args().First())
			}
			t, err := targetOf(c)
			if err != nil {
				return err
			}
			status, raw, err := ringview.Fetch(c.Context, t.host, t.ctlPort)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				_, err = c.App.Writer.Write(raw)
				return err
			}
			return ringview.Print(c.App.Writer, status)
		},
	}
}
