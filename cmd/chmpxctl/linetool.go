package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/console"
	"github.com/chmpx/chmpx/cmd/internal/options"
	"github.com/chmpx/chmpx/config"
)

// lineToolName is what this binary is called to be CHMPX's tool of that name.
const lineToolName = "chmpxlinetool"

// lineTool is one run of chmpxlinetool.
type lineTool struct {
	in        io.Reader
	out, errs io.Writer
	// listen has signals end the context, and interrupts come through the channel,
	// from when the nodes are known; nil: there are none.
	listen func(context.Context) (context.Context, <-chan os.Signal)

	colour  bool
	level   int  // of messages on errs
	library bool // dchmpx: shown, and without effect
	atOnce  int  // how many nodes are asked at the same time
	seed    idSeed
	source  config.Source
	host    *lineNode  // -host: the one node that the tool was started with; nil: -conf
	initial []lineNode // known from the start
	nodes   []lineNode // found since, by asking those
}

// The levels of messages.
const (
	lineSilent = iota
	lineError
	lineWarning
	lineMessage
	lineDump
)

var lineLevels = map[string]int{
	"SILENT": lineSilent, "SLT": lineSilent, "ERROR": lineError, "ERR": lineError, "WARNING": lineWarning, "WAN": lineWarning,
	"INFO": lineMessage, "MSG": lineMessage, "DUMP": lineDump, "DMP": lineDump,
}

// yearSeconds bounds options that are seconds.
const yearSeconds = 365 * 24 * 3600

func lineFlags() []cli.Flag {
	return options.Explained([]cli.Flag{
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}},
		&cli.StringFlag{Name: "conf"},
		&cli.StringFlag{Name: "json"},
		&cli.StringFlag{Name: "group"},
		&cli.StringFlag{Name: "host", Aliases: []string{"hostname"}},
		&cli.StringFlag{Name: "type"},
		&cli.GenericFlag{Name: "ctrlport", Aliases: []string{"port", "ctlport", "cntlport", "cntrlport"}, Value: new(port)},
		&cli.StringFlag{Name: "cuk"},
		&cli.StringFlag{Name: "ctlendpoints", Aliases: []string{"ctleps", "ceps"}},
		&cli.StringFlag{Name: "custom_seed", Aliases: []string{"custom", "seed", "cs"}},
		&cli.BoolFlag{Name: "server", Aliases: []string{"svr"}},
		&cli.BoolFlag{Name: "slave", Aliases: []string{"slv"}},
		&cli.UintFlag{Name: "threadcnt", Aliases: []string{"threadcount", "thread", "thcnt", "tcnt"}},
		options.Between(&cli.UintFlag{Name: "check"}, 0, yearSeconds),
		options.Between(&cli.UintFlag{Name: "status"}, 0, yearSeconds),
		&cli.BoolFlag{Name: "nocolor", Aliases: []string{"noclr"}},
		&cli.BoolFlag{Name: "lap"},
		&cli.StringFlag{Name: "d", Aliases: []string{"g"}, Value: "err"},
		&cli.BoolFlag{Name: "dchmpx"},
		options.Between(&cli.UintFlag{Name: "his", Aliases: []string{"history"}}, 0, 1_000_000),
		&cli.StringFlag{Name: "run"},
	})
}

// runLineTool returns the exit code of chmpxlinetool: 1 where it could not
// start, else 0, as CHMPX's.
func runLineTool(ctx context.Context, args []string, t *lineTool) int {
	app := &cli.App{
		Name: lineToolName, HideHelp: true, HideVersion: true, HideHelpCommand: true,
		CustomAppHelpTemplate: lineUsage, // urfave/cli prints it for -h
		Flags:                 lineFlags(),
		Writer:                t.out, ErrWriter: t.errs,
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         func(c *cli.Context) error { return t.start(c) },
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
	}
	t.level = lineError
	known, unknown, err := options.Normalize(args, app.Flags)
	if err == nil && len(unknown) > 0 {
		err = fmt.Errorf("unknown option(%s)", unknown[0])
	}
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, known...))
	}
	if err != nil {
		t.say(lineError, "%v", err)
		return exitFailed
	}
	return exitDone
}

// say prints a message of a level.
func (t *lineTool) say(level int, format string, args ...any) {
	if level <= t.level {
		text := fmt.Sprintf(format, args...)
		if text != "" {
			text = strings.ToUpper(text[:1]) + text[1:]
		}
		fmt.Fprintf(t.errs, "[CCT-%s] %s\n", []string{"", "ERR", "WAN", "MSG", "DMP"}[level], text)
	}
}

// print prints a line of a command's answer.
func (t *lineTool) print(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

// start reads the options and runs the tool.
func (t *lineTool) start(c *cli.Context) error {
	if c.Bool("help") {
		_, err := io.WriteString(t.out, lineUsage)
		return err
	}
	level, ok := lineLevels[strings.ToUpper(c.String("d"))]
	if !ok {
		return fmt.Errorf("unknown parameter(%s) value for \"-d\" option", c.String("d"))
	}
	t.level, t.library = level, c.Bool("dchmpx")
	t.colour = !c.Bool("nocolor") && colours(t.out)
	t.atOnce = int(min(c.Uint("threadcnt"), 1024))
	once := 0
	for _, name := range []string{"run", "check", "status"} {
		if c.IsSet(name) {
			once++
		}
	}
	switch {
	case once > 1:
		return errors.New("option \"-run\" and \"-check\" and \"-status\" are exclusive specifications")
	case c.Bool("server") && c.Bool("slave"):
		return errors.New("both option \"-server\" and \"-slave\" could not be specified")
	}
	if err := t.findInitial(c); err != nil {
		return err
	}
	var interrupts <-chan os.Signal
	if t.listen != nil {
		c.Context, interrupts = t.listen(c.Context)
	}
	k := console.New(console.Options{
		Prompt: "CLT> ", LoopPrompt: "CLT LOOP", In: t.in, Out: t.out, Commands: t.commands(), Interrupts: interrupts,
		Complain: func(err error) { t.say(lineError, "%v", err) },
		Complete: t.complete, HistoryMax: int(c.Uint("his")), Lap: c.Bool("lap"),
	})
	return t.run(c, k)
}

// run does what the options say first, then what is typed.
func (t *lineTool) run(c *cli.Context, k *console.Console) error {
	var err error
	switch every := func(name string) time.Duration { return time.Duration(c.Uint(name)) * time.Second }; {
	case c.IsSet("run"):
		err = k.RunFile(c.Context, c.String("run"))
	case c.IsSet("check"):
		err = k.Repeat(c.Context, "check", every("check"))
	case c.IsSet("status"):
		err = k.Repeat(c.Context, "status", every("status"))
	default:
		t.welcome(c, k)
	}
	switch {
	case errors.Is(err, console.ErrQuit):
		return nil
	case errors.Is(err, console.ErrInterrupted):
		fmt.Fprintln(t.out)
	case err != nil && c.Context.Err() == nil:
		return err
	}
	if err := k.Interact(c.Context); c.Context.Err() == nil {
		return err
	}
	return nil // a signal
}

// welcome prints what an interactive session begins with.
func (t *lineTool) welcome(c *cli.Context, k *console.Console) {
	const rule = "-------------------------------------------------------"
	level := []string{"Silent", "Error", "Warning", "Message(Information)", "Message(Information)"}[t.level]
	library := "Silent"
	if t.library {
		library = level
	}
	t.print("%s\nCHMPX CONTROL TOOL\n%s", rule, rule)
	t.print(" CHMPX library version          : %s", version)
	t.print(" Debug level                    : %s", level)
	t.print(" Chmpx library debug level      : %s", library)
	t.print(" Print command lap time         : %s", yesNo(c.Bool("lap")))
	t.print(" Command line history count     : %d", k.HistoryMax())
	row := func(label, value string, always bool) {
		if value != "" || always {
			t.print("    %-28s: %s", label, value)
		}
	}
	if t.host == nil {
		kind := "configuration file/json"
		if c.String("conf") == "" && c.String("json") == "" {
			kind += " from environment"
		}
		t.print(" Chmpx nodes specified type     : %s", kind)
		row("Load Configuration", t.source.String(), true)
		row("Specified Control port", c.Generic("ctrlport").(*port).String(), false)
		row("Specified CUK", c.String("cuk"), false)
		row("Specified Control Endpoints", c.String("ctlendpoints"), false)
		row("Specified Custom ID Seed", c.String("custom_seed"), false)
	} else {
		mode := "Slave node"
		if t.host.server {
			mode = "Server node"
		}
		t.print(" Chmpx nodes specified type     : hostname")
		row("Hostname is not specified", "("+t.host.name+")", true)
		row("Specified Control port", strconv.Itoa(int(t.host.ctlPort)), true)
		row("Specified CUK", t.host.cuk, true)
		row("Specified Control Endpoints", t.host.ctlEndpoints, true)
		row("Specified Custom ID Seed", t.host.customSeed, true)
		row("Specified Chmpx mode", mode, true)
	}
	t.print("%s\n Chmpx nodes information at start\n%s", rule, rule)
	t.printNodes(t.initial, true, true)
	t.print("%s", rule)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

const lineUsage = `Usage:
       chmpxlinetool -help
Usage: set environment(CHMCONFFILE or CHMJSONCONF)
       chmpxlinetool
Usage: specify configuration file path
       chmpxlinetool -conf <file> [-ctrlport <port>] [-cuk <cuk>] [-ctlendpoints <host:port,...>] [-custom_seed <seed>] [options...]
Usage: specify json configuration string
       chmpxlinetool -json <string> [-ctrlport <port>] [-cuk <cuk>] [-ctlendpoints <host:port,...>] [-custom_seed <seed>] [options...]
Usage: specify hostname and port
       chmpxlinetool [-group <groupname>] -host <hostname> [-type <...>] -ctrlport <port> [-cuk <cuk>] [-ctlendpoints <host:port,...>] [-custom_seed <seed>] {-server | -slave} [options...]

Options:
  -help(h)                      help display
  -conf <filename>              configuration file of a node of this host(.ini .yaml .json)
  -json <string>                configuration of a node of this host as a JSON string
  -group <groupname>            group name of the ring, with -host; nodes tell their ids, so it can be left out
  -host <hostname>              host of the node that is asked; default with -group: localhost
  -type <...>                   CHMPXIDTYPE, with -host: name(default), cuk, endpoint, seed
  -ctrlport <port>              control port of the node
  -cuk <cuk>                    CUK of the node
  -ctlendpoints <host:port,...> control endpoints of the node, which are tried first
  -custom_seed <seed>           custom id seed of the node
  -server                       the node named by -host is a server
  -slave                        the node named by -host is a slave(default)
  -threadcnt <count>            how many nodes are asked at the same time(default is 16)
  -check <second>               run "check" every so many seconds
  -status <second>              run "status" every so many seconds
  -nocolor                      no colors; there are none either in files, in pipes and with NO_COLOR
  -lap                          print how long each command took
  -d <debug level>              SILENT(SLT)/ERROR(ERR, default)/WARNING(WAN)/INFO(MSG)/DUMP(DMP)
  -dchmpx                       has no effect
  -his <count>                  how many lines of history are kept(default 1000)
  -run <file path>              run commands from a file
Environments:
  CHMCONFFILE        configuration file if -conf/-json/-host is not specified
  CHMJSONCONF        configuration as a JSON string, likewise

`
