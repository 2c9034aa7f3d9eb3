package console

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// builtins are the commands that every console has.
func (c *Console) builtins() []Command {
	return []Command{
		{Names: []string{"quit", "q", "exit"}, Run: func(context.Context, []string) error {
			fmt.Fprintln(c.o.Out, "Quit.")
			return ErrQuit
		}},
		{Names: []string{"loop"}, Min: 1, Max: 2, NoLoop: true, Run: c.loop},
		{Names: []string{"loopcmd", "lcmd"}, Min: 1, Max: -1, NoLoop: true, Run: func(context.Context, []string) error {
			return errors.New("loopcmd belongs into a command file, behind loop")
		}},
		{Names: []string{"history", "his"}, Run: func(context.Context, []string) error {
			for i, line := range c.history.lines {
				fmt.Fprintf(c.o.Out, " %d  %s\n", i+1, line)
			}
			return nil
		}},
		{Names: []string{"save"}, Min: 1, Max: 1, Run: c.save},
		{Names: []string{"load"}, Min: 1, Max: 1, NoFile: true, Run: func(ctx context.Context, params []string) error {
			return c.RunFile(ctx, params[0])
		}},
		{Names: []string{"shell", "sh"}, NoFile: true, Run: c.shell},
		{Names: []string{"echo"}, Min: 1, Max: -1, Run: func(_ context.Context, params []string) error {
			_, err := fmt.Fprintln(c.o.Out, strings.Join(params, " "))
			return err
		}},
		{Names: []string{"sleep"}, Min: 1, Max: 1, Run: func(ctx context.Context, params []string) error {
			d, err := seconds(params[0])
			if err != nil {
				return err
			}
			return pause(ctx, d)
		}},
	}
}

// secondsMax bounds pauses: a day.
const secondsMax = 86400

func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > secondsMax {
		return 0, fmt.Errorf("%q: seconds from 0 to %d are needed", text, secondsMax)
	}
	return time.Duration(n) * time.Second, nil
}

// pause waits for d or until ctx ends, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// save writes the history into a file, without what a file may not have.
func (c *Console) save(_ context.Context, params []string) error {
	var b strings.Builder
	for _, line := range c.history.lines {
		words, _ := split(line)
		if len(words) == 0 || strings.HasPrefix(line, "!") {
			continue
		}
		switch command := c.find(words[0]); {
		case command != nil && (command.NoFile || command.Names[0] == "history" || command.Names[0] == "save"):
		default:
			b.WriteString(line + "\n")
		}
	}
	if err := os.WriteFile(params[0], []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	return nil
}

// shell runs the shell of the user until that ends.
func (c *Console) shell(context.Context, []string) error {
	name := os.Getenv("SHELL")
	if name == "" {
		name = "/bin/sh"
	}
	cmd := exec.Command(name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.o.In, c.o.Out, c.o.Out
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) { // with whatever code its last command had
		return nil
	}
	if err != nil {
		return fmt.Errorf("run the shell %s: %w", name, err)
	}
	return nil
}

// fileBytesMax bounds files of commands.
const fileBytesMax = 1 << 20

// RunFile runs the commands of a file. Those that fail do not end it; ErrQuit
// and ErrInterrupted do, and are returned.
func (c *Console) RunFile(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("load commands: %w", err)
	}
	defer f.Close()
	var lines []string
	scanner := bufio.NewScanner(io.LimitReader(f, fileBytesMax+1))
	read := 0
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if read += len(scanner.Bytes()) + 1; read > fileBytesMax {
			return fmt.Errorf("file(%s) for reading commands has more than %d bytes", path, fileBytesMax)
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if !c.allowed(line, func(command *Command) bool { return !command.NoFile }) {
			fmt.Fprintf(c.o.Out, "ERROR: %s command is not allowed in command file, then skip this command.\n", line)
			c.failed = cmp.Or(c.failed, fmt.Errorf("%q in %s was not run", line, path))
			continue
		}
		lines = append(lines, line)
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("file(%s) for reading commands has a line of more than %d bytes", path, bufio.MaxScanTokenSize)
	} else if err != nil {
		return fmt.Errorf("read commands of %s: %w", path, err)
	}
	return c.interruptible(ctx, func(ctx context.Context) error { return c.series(ctx, c.o.Prompt, lines, 0, 1) })
}

// allowed reports whether a line begins with a command that is as it should be.
func (c *Console) allowed(line string, ok func(*Command) bool) bool {
	words, err := split(line)
	if err != nil || len(words) == 0 || words[0][:min(1, len(words[0]))] == "!" {
		return false
	}
	command := c.find(words[0])
	return command == nil && c.o.Other != nil || command != nil && ok(command)
}

// Repeat runs a line every so often until it is interrupted.
func (c *Console) Repeat(ctx context.Context, line string, every time.Duration) error {
	err := c.interruptible(ctx, func(ctx context.Context) error { return c.series(ctx, c.o.Prompt, []string{line}, every, 0) })
	if errors.Is(err, ErrInterrupted) {
		fmt.Fprintln(c.o.Out)
		return nil
	}
	return err
}

// series runs lines one after the other, times times (0: without end) with a
// pause between. A "loop" among them repeats the "loopcmd" lines behind it.
func (c *Console) series(ctx context.Context, prompt string, lines []string, every time.Duration, times int) error {
	if len(lines) == 0 {
		return nil
	}
	for n := 1; ; n++ {
		for i := 0; i < len(lines); i++ {
			fmt.Fprintf(c.o.Out, "%s%s\n", prompt, lines[i])
			var err error
			if loop, ok := c.loopAt(lines, i); ok {
				i += len(loop.lines)
				if err = loop.err; err == nil {
					err = c.series(ctx, prompt, loop.lines, loop.every, loop.times)
				} else {
					_ = c.complain(err)
				}
			} else {
				err = c.run(ctx, lines[i])
			}
			if errors.Is(err, ErrQuit) || errors.Is(err, ErrInterrupted) {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		if n == times {
			return nil
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// loop is a command of that name with the lines that belong to it.
type loop struct {
	every time.Duration
	times int // 0: without end
	lines []string
	err   error // of its parameters
}

// loopAt returns the loop that begins at lines[i], if one does.
func (c *Console) loopAt(lines []string, i int) (l loop, ok bool) {
	words, err := split(lines[i])
	if err != nil || len(words) < 2 || !strings.EqualFold(words[0], "loop") {
		return l, false
	}
	for _, line := range lines[i+1:] {
		name, rest, _ := strings.Cut(line, " ")
		if command := c.find(name); command == nil || command.Names[0] != "loopcmd" {
			break
		}
		l.lines = append(l.lines, strings.TrimSpace(rest))
	}
	l.every, l.times, l.err = loopParams(words[1:])
	return l, true
}

func loopParams(params []string) (every time.Duration, times int, err error) {
	if every, err = seconds(params[0]); err != nil || len(params) == 1 {
		return every, 0, err
	}
	if times, err = strconv.Atoi(params[1]); err != nil || times < 0 {
		return 0, 0, fmt.Errorf("%q: how often? a number is needed, 0 for without end", params[1])
	}
	return every, times, nil
}

// loop asks for lines and repeats them.
func (c *Console) loop(ctx context.Context, params []string) error {
	every, times, err := loopParams(params)
	if err != nil {
		return err
	}
	limit := "nolimit"
	if times > 0 {
		limit = fmt.Sprintf("%dcount", times)
	}
	prompt := fmt.Sprintf("%s(%ds,%s) COMMAND INPUT> ", c.o.LoopPrompt, int(every.Seconds()), limit)
	fmt.Fprintln(c.o.Out, "Please specify the command to loop and enter \".\" to finish command input.")
	fmt.Fprintln(c.o.Out, "When commands input is finished, start to run commands.")
	var lines []string
	for {
		line, err := c.in.read(ctx, prompt)
		if errors.Is(err, io.EOF) { // nothing is to be run
			fmt.Fprintln(c.o.Out)
			return nil
		}
		if err != nil {
			return err
		}
		line = strings.TrimSpace(line)
		switch {
		case line == ".":
			return c.series(ctx, c.o.LoopPrompt+"> ", lines, every, times)
		case line == "":
		case !c.allowed(line, func(command *Command) bool { return !command.NoFile && !command.NoLoop }):
			fmt.Fprintf(c.o.Out, "ERROR: %s command is not allowed in LOOP command.\n", line)
		default:
			c.history.add("loopcmd " + line)
			lines = append(lines, line)
		}
	}
}
