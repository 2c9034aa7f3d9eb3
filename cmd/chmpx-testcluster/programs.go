package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/testcluster"
)

// The arguments of these verbs are made by testcluster, in launch.go.

func serverCommand() *cli.Command {
	return &cli.Command{
		Name:   "_server",
		Hidden: true,
		Flags:  []cli.Flag{&cli.StringFlag{Name: "conf"}, &cli.StringFlag{Name: "name"}, &cli.StringFlag{Name: "records"}},
		Action: func(c *cli.Context) error {
			name := c.String("name")
			if len(name) != 1 {
				return errors.New("-name must be one letter")
			}
			return testcluster.ServerProgram(c.Context, c.String("conf"), name[0], c.String("records"))
		},
	}
}

func clientCommand() *cli.Command {
	return &cli.Command{
		Name:   "_client",
		Hidden: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "conf"}, &cli.StringFlag{Name: "records"},
			&cli.IntFlag{Name: "requests"}, &cli.IntFlag{Name: "rate"}, &cli.IntFlag{Name: "keys"},
			&cli.DurationFlag{Name: "patience"}, &cli.BoolFlag{Name: "one-way"}, &cli.IntFlag{Name: "first-key"},
		},
		Action: func(c *cli.Context) error {
			load := testcluster.Load{
				Requests: c.Int("requests"), PerSecond: c.Int("rate"), Keys: c.Int("keys"),
				Patience: c.Duration("patience"), OneWay: c.Bool("one-way"), FirstKey: c.Int("first-key"),
			}
			return testcluster.ClientProgram(c.Context, c.String("conf"), load, c.String("records"), c.App.Writer)
		},
	}
}

func floodCommand() *cli.Command {
	return &cli.Command{
		Name:   "_flood",
		Hidden: true,
		Flags:  []cli.Flag{&cli.StringFlag{Name: "conf"}, &cli.StringFlag{Name: "role"}},
		Action: func(c *cli.Context) error {
			role := client.RoleClient
			if c.String("role") == "server" {
				role = client.RoleServer
			}
			return testcluster.FloodProgram(c.Context, c.String("conf"), role, c.App.Writer)
		},
	}
}
