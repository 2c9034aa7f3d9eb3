package story

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrScript is wrapped by errors about the text of a story.
var ErrScript = errors.New("story: invalid script")

// step is one line of a story with the lines of output that are expected after it.
type step struct {
	line int
	text string // of a command; of a comment or an empty line with blank true
	want []string
	args args
	cmd  *command // nil: a comment or an empty line
}

// outputMark begins a line of output.
const outputMark = "> "

// parse reads a script. Errors name its lines.
func parse(text []byte) ([]step, error) {
	var steps []step
	known := byName()
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " \t")
		if out, ok := strings.CutPrefix(line, strings.TrimSpace(outputMark)); ok {
			if len(steps) == 0 || steps[len(steps)-1].cmd == nil {
				return nil, fmt.Errorf("%w: line %d: output without a command before it", ErrScript, n)
			}
			last := &steps[len(steps)-1]
			last.want = append(last.want, strings.TrimPrefix(out, " "))
			continue
		}
		s := step{line: n, text: line}
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			cmd := known[words[0]]
			if cmd == nil {
				return nil, fmt.Errorf("%w: line %d: unknown command %q; there are %s", ErrScript, n, words[0], strings.Join(names(), ", "))
			}
			var err error
			if s.args, err = parseArgs(words[1:], cmd); err != nil {
				return nil, fmt.Errorf("%w: line %d: %s: %w (usage: %s)", ErrScript, n, words[0], err, cmd.usage)
			}
			s.cmd = cmd
		}
		steps = append(steps, s)
	}
	return steps, lines.Err()
}

// format writes steps as a script.
func format(steps []step) []byte {
	var b bytes.Buffer
	for _, s := range steps {
		b.WriteString(s.text + "\n")
		for _, w := range s.want {
			b.WriteString(strings.TrimRight(outputMark+w, " ") + "\n")
		}
	}
	return b.Bytes()
}

// args are the words after a command: key=value, and the rest in order. Every
// getter notes the first mistake.
type args struct {
	words   []string
	options map[string]string
}

// parseArgs checks words against what a command takes.
func parseArgs(words []string, cmd *command) (a args, err error) {
	a.options = make(map[string]string)
	for _, w := range words {
		key, value, isOption := strings.Cut(w, "=")
		switch {
		case isOption && !cmd.anyOption && !strings.Contains(" "+cmd.usage, key+"="):
			return a, fmt.Errorf("unknown option %s", key)
		case isOption:
			a.options[key] = value
		case !cmd.anyOption && strings.Contains(cmd.usage, "["+w+"]"):
			a.options[w] = "yes"
		default:
			a.words = append(a.words, w)
		}
	}
	if len(a.words) < cmd.least || cmd.most >= 0 && len(a.words) > cmd.most {
		return a, fmt.Errorf("%d words", len(a.words))
	}
	return a, nil
}

func (a args) has(option string) bool { _, ok := a.options[option]; return ok }

func (a args) text(option, otherwise string) string {
	if v, ok := a.options[option]; ok {
		return v
	}
	return otherwise
}

func (a args) number(option string, otherwise int) (int, error) {
	v, ok := a.options[option]
	if !ok {
		return otherwise, nil
	}
	return positive(v)
}

func (a args) duration(option string, otherwise time.Duration) (time.Duration, error) {
	v, ok := a.options[option]
	if !ok {
		return otherwise, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%w: %q is no duration like 1.5s", ErrScript, v)
	}
	return d, nil
}

func positive(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: %q is no number from 1", ErrScript, v)
	}
	return n, nil
}
