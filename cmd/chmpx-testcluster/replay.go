package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/testcluster/run"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name:      "replay",
		Usage:     "run the schedules of earlier runs again",
		ArgsUsage: "DIR|SEED...",
		Description: "A directory is that of a report: everything is as it was recorded there. A seed stands for run with that seed.\n" +
			"The schedules are the same; what they meet is up to the machine. Exit codes as of run.",
		Flags: []cli.Flag{binFlag(), firstFlag(), keepFlag(), reportFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return errors.New("give the directory of a report, or seeds")
			}
			var violated error
			for _, arg := range c.Args().Slice() {
				o, err := recorded(arg)
				if err != nil {
					return err
				}
				switch err := runOnce(c, o); {
				case errors.Is(err, run.ErrViolated):
					violated = err
				case err != nil:
					return err
				}
			}
			return violated
		},
	}
}

// recorded returns the options of the run that an argument of replay means.
func recorded(arg string) (run.Options, error) {
	if seed, err := strconv.ParseUint(arg, 10, 64); err == nil {
		return run.Options{Servers: 5, Slaves: 3, Replica: 1, Faults: "all", Rounds: 5, Round: run.DefaultRound, Seed: seed,
			Rate: run.DefaultRate, Operators: run.DefaultOperators, OperatorRest: run.DefaultRest, Gap: run.DefaultGap}, nil
	}
	rec, err := run.ReadRecorded(arg)
	if err != nil {
		return run.Options{}, fmt.Errorf("%s: %w", arg, err)
	}
	o := rec.Options
	o.Schedules, o.Rounds = rec.Schedules, len(rec.Schedules)
	return o, nil
}

func judgeCommand() *cli.Command {
	return &cli.Command{
		Name:      "judge",
		Usage:     "judge rounds again that a run has kept",
		ArgsUsage: "DIR...",
		Action: func(c *cli.Context) error {
			var violated error
			for _, dir := range c.Args().Slice() {
				rep, err := run.Rejudge(dir)
				if err != nil {
					return err
				}
				if err := rep.Text(c.App.Writer); err != nil {
					return err
				}
				if !rep.OK() {
					violated = run.ErrViolated
				}
			}
			return violated
		},
	}
}
