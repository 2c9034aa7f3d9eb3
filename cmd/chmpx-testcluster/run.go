package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	inside "github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/testcluster/run"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "break a ring of real processes and judge what became of its promises",
		Description: "Needs binaries that are built with faults: make build-faults, then bin/faults/chmpx-testcluster run.\n" +
			"Exit codes: 0 no promise was broken, 1 it could not run, 2 promises were broken.",
		Flags: []cli.Flag{
			binFlag(),
			&cli.IntFlag{Name: "servers", Value: 5, Usage: "server nodes, 2 to 26"},
			&cli.IntFlag{Name: "slaves", Value: 3, Usage: "slave nodes, 0 to 26"},
			&cli.IntFlag{Name: "replica", Value: 1, Usage: "further owners of every hash"},
			&cli.StringFlag{Name: "faults", Value: "all", Usage: "`names` with commas between them, all, or all,-name; see list"},
			&cli.DurationFlag{Name: "duration", Value: 2 * time.Minute, Usage: "rounds begin until this is over"},
			&cli.IntFlag{Name: "rounds", Usage: "exactly so many rounds, whatever the duration"},
			&cli.DurationFlag{Name: "round", Value: run.DefaultRound, Usage: "length of a round; healing, settling and judging come on top"},
			&cli.DurationFlag{Name: "gap", Value: run.DefaultGap, Usage: "between the begins of two faults, on average"},
			&cli.Uint64Flag{Name: "seed", Usage: "draws the same schedules again; 0: another one each time"},
			&cli.IntFlag{Name: "rate", Value: run.DefaultRate, Usage: "messages per second"},
			&cli.IntFlag{Name: "operators", Value: run.DefaultOperators, Usage: "who give commands to the control ports meanwhile"},
			&cli.DurationFlag{Name: "rest", Value: run.DefaultRest, Usage: "between two commands of an operator, on average"},
			&cli.BoolFlag{Name: "netns", Usage: "each host in a network namespace of its own, instead of forwarders; as root"},
			&cli.DurationFlag{Name: "stand-in-after", Usage: "STANDINAFTER of all nodes, at least 1s: servers stand in for each other, and the judge allows what is promised then; 0: they do not"},
			&cli.StringFlag{Name: "bug", Usage: "deliberate bug that the nodes have; see list"},
			firstFlag(), keepFlag(), reportFlag(),
		},
		Action: func(c *cli.Context) error {
			o := run.Options{
				Servers: c.Int("servers"), Slaves: c.Int("slaves"), Replica: c.Int("replica"), Faults: c.String("faults"),
				Duration: c.Duration("duration"), Rounds: c.Int("rounds"), Round: c.Duration("round"), Gap: c.Duration("gap"), Seed: c.Uint64("seed"),
				Rate: c.Int("rate"), Operators: c.Int("operators"), OperatorRest: c.Duration("rest"), Netns: c.Bool("netns"), Bug: c.String("bug"),
				StandInAfter: c.Duration("stand-in-after"),
			}
			if o.Seed == 0 {
				o.Seed = uint64(time.Now().UnixNano())
			}
			if o.Servers < 2 || o.Round < 3*time.Second || o.Rate < 1 || o.Rounds < 0 || o.Operators < 0 || min(o.OperatorRest, o.Gap) < time.Millisecond {
				return fmt.Errorf("--servers %d --round %v --gap %v --rate %d --rounds %d --operators %d --rest %v: at least 2, 3s, 1ms, 1, 0, 0, 1ms",
					o.Servers, o.Round, o.Gap, o.Rate, o.Rounds, o.Operators, o.OperatorRest)
			}
			if o.StandInAfter != 0 && o.StandInAfter < time.Second {
				return fmt.Errorf("--stand-in-after %v: at least 1s, or 0 for never", o.StandInAfter)
			}
			return runOnce(c, o)
		},
	}
}

func keepFlag() cli.Flag {
	return &cli.BoolFlag{Name: "keep", Usage: "keep the directory of the ring with all histories and logs"}
}

func firstFlag() cli.Flag {
	return &cli.BoolFlag{Name: "first", Usage: "end with the first round in which a promise is broken"}
}

func reportFlag() cli.Flag {
	return &cli.StringFlag{Name: "report", Usage: "`directory` of the report (default: chmpx-report-<seed>)"}
}

// runOnce adds to the options what is not recorded, and runs.
func runOnce(c *cli.Context, o run.Options) error {
	if !inside.Enabled {
		return fmt.Errorf("this binary is built without faults: make build-faults, then bin/faults/%s", filepath.Base(os.Args[0]))
	}
	var err error
	if o.Self, o.Bin, err = binaries(c); err != nil {
		return err
	}
	if o.ReportDir = c.String("report"); o.ReportDir == "" {
		o.ReportDir = fmt.Sprintf("chmpx-report-%d", o.Seed)
	}
	o.First, o.Keep, o.Out, o.Terminal = c.Bool("first"), c.Bool("keep"), c.App.Writer, isTerminal(os.Stdout)
	return run.Run(c.Context, o)
}

// isTerminal reports whether a person looks at the file.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
}
