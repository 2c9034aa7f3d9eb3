// Package console is a command line of its own: a prompt with editing, history
// and completion on a terminal, files of commands, loops, and an escape to the
// shell, as CHMPX's line tool has them. What the commands do comes from outside.
//
// A Console belongs to one goroutine. It starts one that reads its input and
// ends with it, and while something runs one that waits for an interrupt.
package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Command is one command and what it is called.
type Command struct {
	Names    []string // any of them, in any case
	Min, Max int      // how many parameters it has; Max -1: any number
	Words    []string // that complete a parameter
	NoFile   bool     // it may not be in files of commands, nor in loops
	NoLoop   bool     // it may not be in loops
	Run      func(ctx context.Context, params []string) error
}

// Options say what a console does. In and Out have to be there.
type Options struct {
	Prompt     string
	LoopPrompt string // begins the prompts of the command loop
	In         io.Reader
	Out        io.Writer // of prompts and of what the console says itself
	Commands   []Command // in addition to those that every console has; the first of a name counts

	// Other runs words that are no command; nil: they are an error.
	Other func(ctx context.Context, words []string) error
	// Complete returns more words that complete the last one of a line, which
	// is not among words; nil: there are none.
	Complete func(words []string) []string
	// Complain prints the error of a command.
	Complain func(err error)

	HistoryMax int              // lines; 0: 1,000
	Lap        bool             // print how long each command took
	Interrupts <-chan os.Signal // ends what runs, or the console at its prompt; nil: nothing does
}

// ErrQuit says that a command has ended the console.
var ErrQuit = errors.New("console: quit")

// ErrInterrupted says that an interrupt has ended a command.
var ErrInterrupted = errors.New("interrupted")

// historyMax is the default of Options.HistoryMax.
const historyMax = 1000

// Console is a command line. Create it with New.
type Console struct {
	o        Options
	commands []Command
	in       *input
	history  *history
	failed   error // the first error of a command
}

// New returns a console; it reads nothing yet.
func New(o Options) *Console {
	c := &Console{o: o, history: &history{max: cmp.Or(o.HistoryMax, historyMax)}}
	c.commands = append(slices.Clone(o.Commands), c.builtins()...)
	c.in = newInput(o.In, o.Out, c.history, c.candidates)
	return c
}

// Failed returns the first error of a command, nil if there was none.
func (c *Console) Failed() error { return c.failed }

// HistoryMax returns how many lines are remembered.
func (c *Console) HistoryMax() int { return c.history.max }

// Interact reads and runs lines until a command ends it, the input ends, it is
// interrupted at its prompt, or ctx ends.
func (c *Console) Interact(ctx context.Context) error {
	for {
		line, err := c.read(ctx, c.o.Prompt)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, ErrInterrupted):
			fmt.Fprintln(c.o.Out)
			return nil
		case err != nil:
			return err
		}
		if line = strings.TrimSpace(line); line != "" {
			c.history.add(line)
		}
		if errors.Is(c.runLine(ctx, line), ErrQuit) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// read is one line from the input.
func (c *Console) read(ctx context.Context, prompt string) (line string, err error) {
	err = c.interruptible(ctx, func(ctx context.Context) error {
		line, err = c.in.read(ctx, prompt)
		return err
	})
	return line, err
}

// interruptible runs f with a context that an interrupt ends; the error is
// ErrInterrupted then, also if f has succeeded meanwhile: who interrupts wants
// what would come next to end, too.
func (c *Console) interruptible(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	waited := make(chan struct{})
	go func() { // ended below
		defer close(waited)
		select {
		case <-c.o.Interrupts:
			cancel(ErrInterrupted)
		case <-ended:
		}
	}()
	err := f(ctx)
	close(ended)
	<-waited
	if interrupted := context.Cause(ctx); errors.Is(interrupted, ErrInterrupted) && !errors.Is(err, ErrQuit) {
		err = ErrInterrupted
	}
	cancel(nil)
	return err
}

// runLine runs a line with everything that may be typed: "!" is the shell, "!!" the
// last line, "!3" the third one.
func (c *Console) runLine(ctx context.Context, line string) error {
	what, ok := strings.CutPrefix(line, "!")
	if !ok {
		return c.run(ctx, line)
	}
	again := "shell"
	if what != "" {
		var err error
		if again, err = c.history.find(what); err != nil {
			return c.complain(err)
		}
		fmt.Fprintf(c.o.Out, " %s\n", again)
	}
	c.history.replaceLast(again)
	return c.run(ctx, again)
}

// run runs one command line and complains of its error, which it returns.
func (c *Console) run(ctx context.Context, line string) error {
	start := time.Now()
	words, err := split(line)
	if err != nil {
		return c.complain(err)
	}
	if len(words) == 0 {
		return nil
	}
	err = c.interruptible(ctx, func(ctx context.Context) error { return c.runWords(ctx, words) })
	if c.o.Lap && !errors.Is(err, ErrQuit) {
		c.printLap(time.Since(start))
	}
	return c.complain(err)
}

func (c *Console) complain(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrQuit):
	case errors.Is(err, ErrInterrupted):
		fmt.Fprintln(c.o.Out)
	default:
		c.failed = cmp.Or(c.failed, err)
		c.o.Complain(err)
	}
	return err
}

func (c *Console) runWords(ctx context.Context, words []string) error {
	name, params := words[0], words[1:]
	command := c.find(name)
	switch {
	case command == nil && c.o.Other != nil:
		return c.o.Other(ctx, words)
	case command == nil:
		return fmt.Errorf("unknown command(%s), see \"help\"", name)
	case len(params) < command.Min:
		return fmt.Errorf("command(%s) needs %d parameter", name, command.Min)
	case command.Max >= 0 && len(params) > command.Max:
		return fmt.Errorf("unknown parameter(%s) for %s command", params[command.Max], name)
	}
	return command.Run(ctx, params)
}

// find returns the command of a name, nil if there is none.
func (c *Console) find(name string) *Command {
	for i := range c.commands {
		for _, n := range c.commands[i].Names {
			if strings.EqualFold(n, name) {
				return &c.commands[i]
			}
		}
	}
	return nil
}

// printLap says how long a command took, as CHMPX does.
func (c *Console) printLap(d time.Duration) {
	us := d.Microseconds()
	s := us / 1e6
	fmt.Fprintf(c.o.Out, "\nLap time: %dh %dm %ds %dms %dus(%ds %dus)\n\n", s/3600, s/60%60, s%60, us/1000%1000, us%1000, s, us%1e6)
}

// split takes a line apart: words in double quotes may have blanks, and a
// backslash takes the next character as it is. What begins with # is a comment.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, quoted, escaped := false, false, false
	end := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\':
			in, escaped = true, true
		case r == '"':
			in, quoted = true, !quoted
		case quoted, r != ' ' && r != '\t' && r != '\r' && r != '\n' && (r != '#' || in):
			in = true
			word.WriteRune(r)
		case r == '#':
			return words, nil
		default:
			end()
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	end()
	return words, nil
}
