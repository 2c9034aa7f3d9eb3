package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

// mergeCommands start and end merges, and switch AUTOMERGE.
func mergeCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "merge", Usage: "start, complete or abort a merge",
			Description: "SUCCEED means that the command is in the ring's log; \"chmpxctl status\" shows how far\nthe merge is.",
			Subcommands: []*cli.Command{
				ringVerb("start", "start the merge: data is copied, the owners serve on", "MERGE"),
				completeCommand(),
				ringVerb("abort", "end the merge, or take a SERVICEOUT back", "ABORTMERGE"),
			},
			HideHelpCommand: true,
			Action: func(c *cli.Context) error { // help alone would pass for a merge that was started
				if c.NArg() > 0 {
					return fmt.Errorf("unknown command \"merge %s\"; chmpxctl merge -h lists them", c.Args().First())
				}
				return errors.New("merge: what of it? write merge start, merge complete or merge abort")
			},
		},
		ringVerb("suspend", "have the ring ignore AUTOMERGE", "SUSPENDMERGE"),
		ringVerb("nosuspend", "have the ring heed AUTOMERGE again", "NOSUSPENDMERGE"),
	}
}
