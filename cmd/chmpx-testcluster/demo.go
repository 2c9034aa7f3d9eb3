package main

import (
	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/testcluster"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "a ring that delivers, loses a server and goes on delivering",
		Flags: []cli.Flag{
			binFlag(),
			&cli.IntFlag{Name: "requests", Value: 100_000},
			&cli.IntFlag{Name: "rate", Value: 5_000, Usage: "requests per second"},
			&cli.IntFlag{Name: "keys", Value: 300},
			&cli.BoolFlag{Name: "follower", Usage: "kill a server that does not lead the ring"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the directory with configurations and logs"},
		},
		Action: func(c *cli.Context) error {
			self, bin, err := binaries(c)
			if err != nil {
				return err
			}
			return testcluster.Demo(c.Context, testcluster.DemoOptions{
				Bin: bin, Self: self, Requests: max(1, c.Int("requests")), PerSecond: max(1, c.Int("rate")), Keys: max(1, c.Int("keys")),
				Out: c.App.Writer, Keep: c.Bool("keep"), Follower: c.Bool("follower"),
			})
		},
	}
}
