package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// completeCommand is "merge complete".
func completeCommand() *cli.Command {
	force := &cli.BoolFlag{Name: "force", Usage: "go on without data that only servers have which are down or without program; it is lost"}
	return &cli.Command{
		Name: "complete", Usage: "let the slots change hands, once all servers are Done",
		Flags: append(commandFlags(), force),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("complete: %q is no option; options begin with a dash", c.Args().First())
			}
			if c.Bool("force") {
				return sendCommand(c, "COMPMERGE FORCE")
			}
			return sendCommand(c, "COMPMERGE")
		},
	}
}
