package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/testcluster"
)

func transitionsCommand() *cli.Command {
	return &cli.Command{
		Name:  "transitions",
		Usage: "how long changes of a ring of three servers and two slaves take, as JSON lines",
		Flags: []cli.Flag{
			binFlag(),
			&cli.IntFlag{Name: "commands", Usage: "committed changes to time at each of two servers", Value: 1000},
			&cli.IntFlag{Name: "rounds", Usage: "how often a server ends in each way", Value: 5},
		},
		Action: func(c *cli.Context) error {
			self, bin, err := binaries(c)
			if err != nil {
				return err
			}
			o := testcluster.TransitionsOptions{Bin: bin, Self: self, Commands: c.Int("commands"), Rounds: c.Int("rounds"), Out: c.App.Writer}
			if o.Commands < 1 || o.Rounds < 1 {
				return fmt.Errorf("--commands %d --rounds %d: at least 1 each", o.Commands, o.Rounds)
			}
			return testcluster.MeasureTransitions(c.Context, o)
		},
	}
}
