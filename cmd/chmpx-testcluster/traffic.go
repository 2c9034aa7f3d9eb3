package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/testcluster/traffic"
)

// The arguments of these verbs are made by testcluster/rig.

func programFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "conf"}, &cli.StringFlag{Name: "node"}, &cli.StringFlag{Name: "name"}, &cli.StringFlag{Name: "dir"},
		&cli.Uint64Flag{Name: "seed"},
	}, more...)
}

func program(c *cli.Context) traffic.Program {
	return traffic.Program{Conf: c.String("conf"), Node: c.String("node"), Name: c.String("name"), Dir: c.String("dir"), Seed: c.Uint64("seed")}
}

func senderCommand() *cli.Command {
	return &cli.Command{
		Name:   "_sender",
		Hidden: true,
		Flags: programFlags(&cli.IntFlag{Name: "sessions", Value: 1}, &cli.IntFlag{Name: "rate", Value: 100},
			&cli.DurationFlag{Name: "patience", Value: time.Minute}),
		Action: func(c *cli.Context) error {
			if c.Int("sessions") < 1 || c.Int("rate") < 1 {
				return errors.New("-sessions and -rate must be at least 1")
			}
			return traffic.RunSender(c.Context, traffic.SenderOptions{Program: program(c),
				Sessions: c.Int("sessions"), PerSecond: c.Int("rate"), Patience: c.Duration("patience")})
		},
	}
}

func receiverCommand() *cli.Command {
	return &cli.Command{
		Name:   "_receiver",
		Hidden: true,
		Flags:  programFlags(&cli.BoolFlag{Name: "ack-on-done"}),
		Action: func(c *cli.Context) error {
			return traffic.RunReceiver(c.Context, traffic.ReceiverOptions{Program: program(c), AckOnDone: c.Bool("ack-on-done")})
		},
	}
}
