package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/console"
)

func shellCommand() *cli.Command {
	return &cli.Command{
		Name: "shell", Usage: "a prompt for all verbs, with history, completion, loops and files of commands",
		Description: "Its options hold for every verb that names no node itself. \"help\" lists what it has\n" +
			"beside the verbs. With -run it runs the commands of a file and ends; the exit code is\n" +
			"that of the first one that failed.",
		Flags: append(targetFlags(), &cli.StringFlag{Name: "run", Usage: "run the commands of a `file` and end"}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("shell: %q is no option; options begin with a dash", c.Args().First())
			}
			interrupts := make(chan os.Signal, 1)
			signal.Reset(syscall.SIGINT) // which would end the whole command
			signal.Notify(interrupts, syscall.SIGINT)
			defer signal.Stop(interrupts)
			s := &shell{out: c.App.Writer, errs: c.App.ErrWriter, at: givenTarget(c)}
			return s.run(c.Context, c.App.Reader, c.String("run"), interrupts)
		},
	}
}

// targetNames are the options that name a node.
var targetNames = []string{"conf", "f", "host", "ctlport", "cuk"}

// givenTarget returns the options that name a node as they were given.
func givenTarget(c *cli.Context) []string {
	var all []string
	for _, name := range targetNames {
		if name != "f" && c.IsSet(name) { // which is conf
			all = append(all, "-"+name, fmt.Sprint(c.Value(name)))
		}
	}
	return all
}

// shell is a console for the verbs.
type shell struct {
	out, errs io.Writer
	at        []string // options that name the node for verbs that name none
}

func (s *shell) run(ctx context.Context, in io.Reader, file string, interrupts <-chan os.Signal) error {
	c := console.New(console.Options{
		Prompt: "chmpx> ", LoopPrompt: "chmpx loop", In: in, Out: s.out, Interrupts: interrupts,
		Commands: []console.Command{
			{Names: []string{"help", "h"}, Max: -1, Words: verbNames(nil), Run: s.help},
		},
		Other:    s.verb,
		Complete: verbNames,
		Complain: func(err error) {
			if !said(err) {
				fmt.Fprintf(s.errs, "chmpxctl: %v\n", err)
			}
		},
	})
	if file == "" {
		return c.Interact(ctx)
	}
	if err := c.RunFile(ctx, file); err != nil && !errors.Is(err, console.ErrQuit) {
		return err
	}
	if err := c.Failed(); err != nil {
		return fmt.Errorf("%w: %w", errPrinted, err)
	}
	return nil
}

// verb runs words as the command line of chmpxctl.
func (s *shell) verb(ctx context.Context, words []string) error {
	app := newApp()
	app.Writer, app.ErrWriter = s.out, s.errs
	if verb, _ := findVerb(app.Commands, words); verb == nil || verb.Name == "shell" {
		return usagef("unknown command %q; help lists them", words[0])
	}
	return app.RunContext(ctx, slices.Concat([]string{"chmpxctl"}, s.withTarget(app.Commands, words)))
}

// withTarget puts the shell's options about the node behind the verb, unless it
// takes none or the words have such options.
func (s *shell) withTarget(commands []*cli.Command, words []string) []string {
	verb, n := findVerb(commands, words)
	if verb == nil || !slices.ContainsFunc(verb.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "conf") }) {
		return words
	}
	var at []string
	for i := 0; i < len(s.at); i += 2 {
		if slices.ContainsFunc(verb.Flags, func(f cli.Flag) bool { return "-"+f.Names()[0] == s.at[i] }) {
			at = append(at, s.at[i], s.at[i+1])
		}
	}
	for _, w := range words[n:] {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(w, "-"), "-"), "=")
		if strings.HasPrefix(w, "-") && slices.Contains(targetNames, name) {
			return words
		}
	}
	return slices.Concat(words[:n], at, words[n:])
}

// findVerb returns the command that words begin with, and how many words name it.
func findVerb(commands []*cli.Command, words []string) (verb *cli.Command, n int) {
	for n < len(words) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(words[n]) })
		if i < 0 {
			break
		}
		verb, commands = commands[i], commands[i].Subcommands
		n++
	}
	return verb, n
}

// verbNames returns what may follow words: verbs, or the options of one.
func verbNames(words []string) []string {
	commands := newApp().Commands
	verb, n := findVerb(commands, words)
	if verb != nil {
		commands = verb.Subcommands
	}
	var all []string
	for _, c := range commands {
		if n == len(words) && c.Name != "shell" && c.Name != "help" {
			all = append(all, c.Name)
		}
	}
	if verb != nil {
		for _, f := range verb.Flags {
			all = append(all, "-"+f.Names()[0])
		}
	}
	return all
}

const shellHelp = `Verbs of chmpxctl, with their options; help VERB tells more:
  %s
and
  loop SECONDS [TIMES]   ask for commands, up to a line with a dot, and repeat them
  loopcmd COMMAND        in a file: belongs to the loop before it
  history, his           what was typed; !N and !! do it again
  save FILE, load FILE   the history into a file, the commands of a file
  echo WORDS, sleep SECONDS
  shell, sh, !           the shell of this host
  quit, q, exit
`

func (s *shell) help(ctx context.Context, words []string) error {
	if len(words) > 0 {
		return s.verb(ctx, append(slices.Clone(words), "-h"))
	}
	_, err := fmt.Fprintf(s.out, shellHelp, strings.Join(verbNames(nil), ", "))
	return err
}
