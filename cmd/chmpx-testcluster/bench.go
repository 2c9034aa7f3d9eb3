package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/testcluster"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "figures of one client, slave, server and server program, as JSON lines",
		Flags: []cli.Flag{
			binFlag(),
			&cli.IntSliceFlag{Name: "size", Usage: "`bytes` of a message; more than once for several", Value: cli.NewIntSlice(128)},
			&cli.DurationFlag{Name: "duration", Usage: "of each case", Value: 3 * time.Second},
		},
		Action: func(c *cli.Context) error {
			_, bin, err := binaries(c)
			if err != nil {
				return err
			}
			return testcluster.Measure(c.Context, testcluster.MeasureOptions{
				Bin: bin, Sizes: c.IntSlice("size"), Duration: c.Duration("duration"), Out: c.App.Writer,
			})
		},
	}
}
