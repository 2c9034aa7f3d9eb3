package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// history is the lines that were typed, oldest first.
type history struct {
	lines []string
	max   int
}

func (h *history) add(line string) {
	if h.lines = append(h.lines, line); len(h.lines) > h.max {
		h.lines = h.lines[1:]
	}
}

func (h *history) replaceLast(line string) {
	if n := len(h.lines); n > 0 {
		h.lines[n-1] = line
	}
}

// find returns what "!what" stands for; the last line is this very command.
func (h *history) find(what string) (string, error) {
	earlier := h.lines[:max(0, len(h.lines)-1)]
	n, err := strconv.Atoi(what)
	if what == "!" {
		n, err = len(earlier), nil
	}
	if err != nil || n < 1 || n > len(earlier) {
		return "", fmt.Errorf("no history number(%s)", what)
	}
	return earlier[n-1], nil
}

// typed is history as the editor wants it, which adds nothing to it.
type typed struct{ *history }

func (t typed) Add(string)      {}
func (t typed) Len() int        { return len(t.lines) }
func (t typed) At(i int) string { return t.lines[len(t.lines)-1-i] }

// input reads lines: from a terminal with editing, else as they come.
type input struct {
	out      io.Writer
	file     *os.File // the terminal; nil: it is none
	terminal *term.Terminal
	lines    *bufio.Scanner
	reading  chan result // of the read under way; nil: there is none
}

type result struct {
	line string
	err  error
}

// lineBytesMax bounds a line that does not come from a terminal.
const lineBytesMax = 64 << 10

func newInput(in io.Reader, out io.Writer, h *history, candidates func(line string) []string) *input {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		i := &input{out: out, file: f}
		i.terminal = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{in, out}, "")
		i.terminal.History = typed{h}
		i.terminal.AutoCompleteCallback = i.completion(candidates)
		return i
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, lineBytesMax)
	return &input{out: out, lines: lines}
}

// read returns the next line, io.EOF at the end of the input and for Ctrl-C and
// Ctrl-D at a terminal. When ctx ends it returns at once, and the line that
// comes then is the next one.
func (i *input) read(ctx context.Context, prompt string) (string, error) {
	var restore func()
	if i.file != nil {
		state, err := term.MakeRaw(int(i.file.Fd()))
		if err != nil {
			return "", fmt.Errorf("prepare the terminal: %w", err)
		}
		restore = func() { _ = term.Restore(int(i.file.Fd()), state) } // it was possible a moment ago
		defer restore()
		if width, height, err := term.GetSize(int(i.file.Fd())); err == nil && width > 0 {
			_ = i.terminal.SetSize(width, height) // an error is one of the output, which the next write has again
		}
		i.terminal.SetPrompt(prompt)
	} else {
		fmt.Fprint(i.out, prompt)
	}
	if i.reading == nil {
		i.reading = make(chan result, 1)
		go func() { i.reading <- i.next() }() // ended by the next line or the end of the input
	}
	select {
	case r := <-i.reading:
		i.reading = nil
		if i.file == nil && r.err == nil {
			fmt.Fprintln(i.out, r.line) // as a terminal shows what is typed
		}
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (i *input) next() result {
	if i.file != nil {
		line, err := i.terminal.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			err = nil
		}
		return result{line, err}
	}
	if i.lines.Scan() {
		return result{line: i.lines.Text()}
	}
	if err := i.lines.Err(); err != nil {
		return result{err: fmt.Errorf("read a line: %w", err)}
	}
	return result{err: io.EOF}
}

// completion returns what the editor calls for every key: Tab completes the
// last word as far as it is clear, and lists what it can be.
func (i *input) completion(candidates func(line string) []string) func(line string, pos int, key rune) (string, int, bool) {
	return func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' || pos != len(line) {
			return "", 0, false
		}
		last := line[strings.LastIndexAny(line, " \t")+1:]
		all := candidates(line)
		if len(all) == 0 {
			return line, pos, true
		}
		more := commonPrefix(all)[len(last):]
		if len(all) == 1 {
			more += " "
		}
		if more == "" {
			fmt.Fprintln(i.terminal, strings.Join(all, "  "))
		}
		return line + more, pos + len(more), true
	}
}

func commonPrefix(all []string) string {
	prefix := all[0]
	for _, s := range all[1:] {
		for !strings.HasPrefix(s, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}

// candidates returns the words that the last one of a line can become, sorted.
func (c *Console) candidates(line string) []string {
	at := strings.LastIndexAny(line, " \t") + 1
	words, last := strings.Fields(line[:at]), line[at:]
	var all []string
	if len(words) == 0 {
		for _, command := range c.commands {
			all = append(all, command.Names[0])
		}
	} else if command := c.find(words[0]); command != nil {
		all = append(all, command.Words...)
	}
	if c.o.Complete != nil {
		all = append(all, c.o.Complete(words)...)
	}
	all = slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, last) })
	slices.Sort(all)
	return slices.Compact(all)
}
