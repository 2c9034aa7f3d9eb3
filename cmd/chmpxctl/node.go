package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/controlplane"
)

// nodeCommands restart, replace and remove servers.
func nodeCommands() []*cli.Command {
	const called = "HOST is a server's NAME, or any name or address that resolves to it; X as for serviceout. HOST\n" +
		"or CTLPORT alone will do where only one server has it. The options name the node that is asked,\n" +
		"which may be any server."
	return []*cli.Command{{
		Name: "node", Usage: "restart, replace or forget a server",
		Subcommands: []*cli.Command{
			nodeRestartCommand(called),
			{
				Name: "replace", Usage: "let a new server take exactly the place of another one, which leaves",
				ArgsUsage: "HOST:CTLPORT[:X] HOST:CTLPORT[:X]",
				Description: "The first server is up or down and in service, the second one is configured, and out\n" +
					"of service or not started yet: it takes its place with the merge in which it joins.\n" + called,
				Flags: commandFlags(),
				Action: func(c *cli.Context) error {
					return nodeVerb(c, "replace", 2, 2, func(c *cli.Context, words string) (answer, error) {
						return sendCommand(c, "NODEREPLACE "+words)
					})
				},
			},
			{
				Name: "forget", Usage: "remove a server that is out of service and down from the ring",
				ArgsUsage:   "HOST:CTLPORT[:X]",
				Description: "Take it out of the configuration files too: it joins again when it is started.\n" + called,
				Flags:       append(commandFlags(), noWaitFlag()),
				Action: func(c *cli.Context) error {
					return nodeVerb(c, "forget", 1, 1, func(c *cli.Context, words string) (answer, error) {
						if c.Bool("no-wait") {
							return sendCommand(c, "NODEFORGET "+words)
						}
						return forgetNode(c, "NODEFORGET "+words)
					})
				},
			},
		},
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("unknown command \"node %s\"; chmpxctl node -h lists them", c.Args().First())
			}
			return usagef("node: what of it? write node restart, node replace or node forget")
		},
	}}
}

func nodeRestartCommand(called string) *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "restart a server's process without moving data, and wait until it is back",
		ArgsUsage: "[HOST:CTLPORT[:X]]",
		Description: "Where no server is named it is the one that is asked. It starts the program that is installed\n" +
			"now. Until it is back nobody acts for what it owns, so that nobody has to copy anything\n" +
			"afterwards: messages wait. " + called,
		Flags: append(commandFlags(),
			&cli.GenericFlag{Name: "hold", Value: newDuration(30 * time.Second), Usage: "how long the ring waits for it before others act, 1s to 1h"},
			noWaitFlag()),
		Action: func(c *cli.Context) error {
			return nodeVerb(c, "restart", 0, 1, func(c *cli.Context, words string) (answer, error) {
				command := "NODERESTART " + strings.TrimLeft(words+" "+c.Duration("hold").String(), " ")
				if c.Bool("no-wait") {
					return sendCommand(c, command)
				}
				return restartNode(c, command)
			})
		},
	}
}

// nodeVerb checks that from least to most servers are named and runs do with
// their names.
func nodeVerb(c *cli.Context, name string, least, most int, do func(c *cli.Context, words string) (answer, error)) error {
	words := c.Args().Slice()
	if len(words) < least || len(words) > most {
		needed := map[int]string{0: "HOST:CTLPORT of one server, or nothing, is", 1: "HOST:CTLPORT of one server is", 2: "HOST:CTLPORT of two servers are"}[least]
		return usagef("node %s: %s needed behind the options, not %d words", name, needed, len(words))
	}
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\r\n\x00") {
			return usagef("node %s: %q: a server's name has no blanks", name, w)
		}
	}
	return show(c, func(c *cli.Context) (answer, error) { return do(c, strings.Join(words, " ")) })
}

func noWaitFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-wait", Usage: "return as soon as the command is in the ring's log"}
}

// forgetLimit is what the ring may take to remove a server, with a change of leaders on the way.
const forgetLimit = 15 * time.Second

// forgetNode sends NODEFORGET, as it is given, and waits until the ring no longer
// lists the server.
func forgetNode(c *cli.Context, command string) (answer, error) {
	var waits []string
	failing := func() string {
		if len(waits) == 0 {
			return "whether the server is removed is not known"
		}
		return "not removed yet: " + strings.Join(waits, ", ") + " (the ring goes on with it when it can decide)"
	}
	return sendAndAwait(c, command, forgetLimit, "whether the server is removed is not known", failing,
		func(before controlplane.Status) func(controlplane.Status) (bool, error) {
			return func(now controlplane.Status) (bool, error) {
				waits = toForget(before, now)
				return len(waits) == 0, nil
			}
		})
}

// toForget names whom a command waits for that has asked the ring to forget a server: those
// that are to be forgotten by now and were not before. Who was already is of another
// command, unless there is nobody else: then it was asked for again.
func toForget(before, now controlplane.Status) (names []string) {
	asked := false
	var old []string
	for _, b := range before.Servers {
		i := slices.IndexFunc(now.Servers, func(s controlplane.ServerStatus) bool { return s.ID == b.ID })
		marked := i >= 0 && now.Servers[i].Forget
		name := fmt.Sprintf("%s:%d", b.Name, b.CtlPort)
		switch {
		case b.Forget && marked:
			old = append(old, name)
		case !b.Forget && marked:
			names = append(names, name)
		case !b.Forget && i < 0:
			asked = true
		}
	}
	if len(names) == 0 && !asked {
		return old
	}
	return names
}

// restartSlack is what a restart may take beside the time that the ring waits for.
const restartSlack = 15 * time.Second

// restartNode sends NODERESTART, as it is given, and waits until the server is
// back.
func restartNode(c *cli.Context, command string) (answer, error) {
	return sendAndAwait(c, command, c.Duration("hold")+restartSlack, "whether the server is back is not known", saying("the server is not back"),
		func(before controlplane.Status) func(controlplane.Status) (bool, error) {
			return func(now controlplane.Status) (bool, error) { return restarted(before, now) }
		})
}

// restarted reports whether a server is another process than before, and nobody is to
// restart any more, who would be the one that was asked; it fails when nobody is
// and nobody did.
func restarted(before, now controlplane.Status) (bool, error) {
	waits, back := false, false
	for _, s := range now.Servers {
		waits = waits || s.Restarting
		for _, b := range before.Servers {
			back = back || b.ID == s.ID && s.Up && s.Incarnation > b.Incarnation
		}
	}
	if !waits && !back {
		return false, errors.New("the ring waits for it no longer; others act for what it owned, if it is down")
	}
	return !waits, nil
}
