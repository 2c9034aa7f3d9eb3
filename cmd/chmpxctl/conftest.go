package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ops"
)

// confTestName is what this binary is called to be CHMPX's tool of that name.
const confTestName = "chmpxconftest"

const confTestUsage = `Usage: chmpxconftest [options]
Option  -conf [file name]       Configuration file( .ini / .json / .yaml ) path
        -json [json string]     Configuration JSON string
        -no_check_update        not check configuration file updating
        -print_default          print the default values
        -d [debug level]        "ERR" / "WAN" / "INF"
        -h                      display help

Environment CHMCONFFILE and CHMJSONCONF are used without -conf and -json.
Exit code: 0; 1 for a wrong option or a bad configuration.
`

// pollEvery is how often files are looked at for changes. One that changed is
// read when it has been left alone for as long.
const pollEvery = 300 * time.Millisecond

// confTest is one run of chmpxconftest.
type confTest struct {
	stdout, stderr io.Writer
	signals        <-chan os.Signal
	source         config.Source
	warn           bool // print warnings
}

func confTestFlags() []cli.Flag {
	return options.Explained([]cli.Flag{
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}},
		&cli.StringFlag{Name: "json"},
		&cli.BoolFlag{Name: "no_check_update"},
		&cli.BoolFlag{Name: "print_default"},
		&cli.StringFlag{Name: "d", Aliases: []string{"g"}, Value: "silent"},
		&cli.BoolFlag{Name: "h", Aliases: []string{"help"}},
	})
}

// runConfTest returns the exit code of chmpxconftest.
func runConfTest(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	t := confTest{stdout: stdout, stderr: stderr, signals: signals}
	app := &cli.App{
		Name: confTestName, HideHelp: true, HideVersion: true, HideHelpCommand: true,
		CustomAppHelpTemplate: confTestUsage, // urfave/cli prints it for -h
		Flags:                 confTestFlags(),
		Writer:                stdout, ErrWriter: stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         t.act,
	}
	known, _, err := options.Normalize(args, app.Flags) // unknown options are passed over, as in CHMPX
	if err == nil {
		err = app.Run(append([]string{app.Name}, known...))
	}
	if err == nil {
		return 0
	}
	if !errors.Is(err, errBad) {
		fmt.Fprintf(stderr, "[CHMPX-ERR] %s.\n", strings.Join(texts(err), "\n"))
	}
	return 1
}

func (t *confTest) act(c *cli.Context) error {
	if c.Bool("h") {
		_, err := io.WriteString(t.stdout, confTestUsage)
		return err
	}
	level, err := ops.ParseLevel(c.String("d"))
	if err != nil {
		return fmt.Errorf(`wrong parameter value "-d"("-g") %s (ERR, WAN or INF)`, c.String("d"))
	}
	t.warn = level >= ops.LevelWarning
	if c.Bool("print_default") {
		return printDefaults(t.stdout)
	}
	if t.source, err = config.FindSource(c.String("conf"), c.String("json")); err != nil {
		return err
	}
	if c.Bool("no_check_update") || t.source.Path == "" {
		return t.once()
	}
	return t.watch()
}

// once prints the configuration, or what is wrong with it. Like CHMPX's it does
// not ask whether the node is on this host.
func (t *confTest) once() error {
	ck := check(t.source, 0, "", true)
	if t.warn {
		for _, text := range ck.warnings {
			fmt.Fprintf(t.stderr, "[CHMPX-WAN] %s\n", text)
		}
	}
	for _, text := range ck.errs {
		fmt.Fprintf(t.stderr, "[CHMPX-ERR] %s\n", text)
	}
	if len(ck.errs) > 0 {
		return errBad
	}
	return printConf(t.stdout, ck.cfg, ck.role)
}

// watch prints the configuration now and after each change of its files, until
// a signal comes. It ends at once when the configuration is bad at the start.
func (t *confTest) watch() error {
	seen := t.files(t.paths())
	err := t.once()
	if err != nil {
		return err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	paths, changing := t.paths(), false
	for {
		select {
		case <-t.signals:
			return err
		case <-tick.C:
		}
		now := t.files(paths)
		switch {
		case now != seen:
			seen, changing = now, true
		case changing: // and left alone since the last look
			changing = false
			paths = t.paths() // it may include others now
			seen = t.files(paths)
			err = t.once()
		}
	}
}

// paths returns the files that the configuration is made of, as far as it can be read.
func (t *confTest) paths() []string {
	paths := []string{t.source.Path}
	if cfg, _, err := config.Load(t.source); err == nil {
		paths = append(paths, cfg.Files...)
	}
	return paths
}

// files describes the present state of files.
func (t *confTest) files(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
			continue
		}
		fmt.Fprintf(&b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}

// printDefaults writes the value of each key of [GLOBAL] that has a default.
func printDefaults(w io.Writer) error {
	var b strings.Builder
	b.WriteString("================================================================\n Default values of [GLOBAL]\n" +
		"----------------------------------------------------------------\n")
	for _, k := range config.Keys() {
		if k.Section == "GLOBAL" && k.Default != "" && k.Default != "required" {
			fmt.Fprintf(&b, "%-20s %s\n", k.Name, k.Default)
		}
	}
	b.WriteString("----------------------------------------------------------------\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// isConfTest reports whether the command was called as chmpxconftest.
func isConfTest(arg0 string) bool { return filepath.Base(arg0) == confTestName }
