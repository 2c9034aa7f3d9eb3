package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// serviceCommands take servers into and out of service.
func serviceCommands() []*cli.Command {
	out := &cli.Command{
		Name: "serviceout", Usage: "take a server, up or down, out of service with the next merge",
		ArgsUsage: "HOST:CTLPORT[:X]",
		Description: "HOST is the server's NAME, or any name or address that resolves to it; X its CUK,\n" +
			"control endpoints or custom id seed, where CHMPXIDTYPE makes them part of its name.\n" +
			"The options name the node that is asked, which may be any.",
		Flags: commandFlags(),
		Action: func(c *cli.Context) error {
			switch n := c.NArg(); {
			case n == 0:
				return usagef("serviceout: which server? write HOST:CTLPORT behind the options")
			case n > 1:
				return usagef("serviceout: one server is needed, not %d words; options come before it", n)
			case strings.ContainsAny(c.Args().First(), " \t\r\n\x00"):
				return usagef("serviceout: %q: a server's name has no blanks", c.Args().First())
			}
			return show(c, func(c *cli.Context) (answer, error) { return sendCommand(c, "SERVICEOUT "+c.Args().First()) })
		},
	}
	return []*cli.Command{
		ringVerb("servicein", "take the server that is asked into service with the next merge", "SERVICEIN"),
		out,
		ringVerb("updatestatus", "have the server that is asked report its state to the ring again", "UPDATESTATUS"),
	}
}
