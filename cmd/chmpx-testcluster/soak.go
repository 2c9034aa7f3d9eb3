package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/testcluster"
)

func soakCommand() *cli.Command {
	return &cli.Command{
		Name:  "soak",
		Usage: "let programs and nodes of a ring die many times, and judge",
		Flags: []cli.Flag{
			binFlag(),
			&cli.IntFlag{Name: "rounds", Value: 1000, Usage: "in each a client and a server program die in mid-message, and a stranger writes garbage"},
			&cli.IntFlag{Name: "kills", Value: 100, Usage: "of nodes under load, whose programs live on"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "draws the same faults again"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the directories with configurations and logs"},
		},
		Action: func(c *cli.Context) error {
			if c.Int("rounds") < 0 || c.Int("kills") < 0 {
				return fmt.Errorf("-rounds %d, -kills %d: use 0 or more", c.Int("rounds"), c.Int("kills"))
			}
			self, bin, err := binaries(c)
			if err != nil {
				return err
			}
			return testcluster.Soak(c.Context, testcluster.SoakOptions{
				Bin: bin, Self: self, Rounds: c.Int("rounds"), Kills: c.Int("kills"), Seed: c.Uint64("seed"),
				Out: c.App.Writer, Keep: c.Bool("keep"),
			})
		},
	}
}
