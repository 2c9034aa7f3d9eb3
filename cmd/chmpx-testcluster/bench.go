package main

import (
	"errors"
	"strconv"
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
			&cli.GenericFlag{Name: "size", Usage: "`bytes` of a message; more than once for several (default: 128)", Value: new(sizes)},
			&cli.DurationFlag{Name: "duration", Usage: "of each case", Value: 3 * time.Second},
			&cli.BoolFlag{Name: "cold-wait", Usage: "with HOTWAIT = off, to compare"},
		},
		Action: func(c *cli.Context) error {
			_, bin, err := binaries(c)
			if err != nil {
				return err
			}
			return testcluster.Measure(c.Context, testcluster.MeasureOptions{
				Bin: bin, Sizes: c.Generic("size").(*sizes).or(128), Duration: c.Duration("duration"), ColdWait: c.Bool("cold-wait"), Out: c.App.Writer,
			})
		},
	}
}

// sizes is the value of an option that may come more than once.
type sizes []int

// Set implements flag.Value.
func (s *sizes) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 22)
	if err != nil {
		return errors.New("use a number of bytes from 0 to 4194303")
	}
	*s = append(*s, int(n))
	return nil
}

// String implements flag.Value.
func (s *sizes) String() string { return "" }

// or returns the sizes, or the one that counts without any.
func (s *sizes) or(n int) []int {
	if len(*s) == 0 {
		return []int{n}
	}
	return *s
}
