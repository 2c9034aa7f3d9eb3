package main

import (
	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
)

// The exit codes, as usage documents them.
const (
	exitStopped = 0   // a signal ended the node in order
	exitStart   = 1   // it could not start
	exitFailed  = 2   // it failed while running
	exitSignal  = 128 // plus the number of the second signal
)

const usage = `Usage: chmpx -conf <file> | -json <text> [options]

One node of a ring, server or slave as the configuration says. It stays in the
foreground; HUP, TERM and INT stop it in order, a second one ends it at once.

Options (one dash or two, names in any case)
  -conf, -f <file>     configuration file (.ini, .yaml, .json)
  -json <text>         configuration as JSON text
  -ctlport <port>      own control port, in place of SELFCTLPORT of the file
  -cuk <text>          own CUK, in place of SELFCUK of the file
  -bootstrap           start a ring of one, unless a server answers with a ring
                       of this group: that one is joined then. With a ring on
                       disk: go on with it alone if most of its voters have
                       answered with an empty disk, else no effect. Servers only
  -d, -g <level>       log: silent, err, wan, msg or dump (default: err)
  -dfile <file>        write the log to this file (default: standard error)
  -v, -version         print the version
  -h, -help            print this text

Environment, where the option is not given
  CHMCONFFILE          like -conf
  CHMJSONCONF          like -json
  CHMDBGMODE           like -d
  CHMDBGFILE           like -dfile

Exit codes
  0    a signal stopped the node in order; after "chmpxctl node restart" it goes
       on as the same process with the program that is installed now
  1    it could not start: a wrong option or configuration, a port in use
  2    it failed while running; the reason is on standard error
  128+n  a second signal, number n, ended it at once
`

// flags are the options of the command.
func flags() []cli.Flag {
	return options.Explained([]cli.Flag{
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}},
		&cli.StringFlag{Name: "json"},
		&cli.StringFlag{Name: "ctlport", Aliases: []string{"cntlport", "cntrlport"}},
		&cli.StringFlag{Name: "cuk"},
		&cli.StringFlag{Name: "d", Aliases: []string{"g"}, EnvVars: []string{"CHMDBGMODE"}},
		&cli.StringFlag{Name: "dfile", Aliases: []string{"gfile"}, EnvVars: []string{"CHMDBGFILE"}},
		&cli.BoolFlag{Name: "bootstrap"},
		&cli.BoolFlag{Name: "v", Aliases: []string{"ver", "version"}},
		&cli.BoolFlag{Name: "h", Aliases: []string{"help"}},
	})
}
