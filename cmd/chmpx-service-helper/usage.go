package main

import (
	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
)

const usage = `Usage: chmpx-service-helper start | stop | restart [options]

Runs chmpx as a service: waits for what must be there first, starts it, starts
it again when it ends, and stops it in order. The files chmpx-service-helper.conf
and override.conf say how; docs/service.md explains their keywords.

Commands (in any case)
  start                run the service in the foreground until HUP, INT, QUIT,
                       ABRT or TERM ends it
  stop                 stop the service that runs, and wait for its end
  restart              stop it, then start it in the foreground

Options (one dash or two, names in any case)
  -confdir <dir>       directory of both files (default: /etc/antpickax)
  -program <file>      the program (default: chmpx, looked up in PATH)
  -h, -help            print this text

Environment
  NOTIFY_SOCKET        systemd is told READY, STATUS and STOPPING there

Exit codes
  0    the service was stopped in order; for stop: it does not run any more
  1    wrong arguments or files, it runs already, chmpx could not be started or
       ended within WAIT_SEC_AFTER_SUBPROCESS_UP, or could not be stopped
`

// flags are the options of the command.
func flags() []cli.Flag {
	return options.Explained([]cli.Flag{
		&cli.StringFlag{Name: "confdir", Value: "/etc/antpickax"},
		&cli.StringFlag{Name: "program", Value: "chmpx"},
		&cli.BoolFlag{Name: "h", Aliases: []string{"help"}},
	})
}
