package config

import (
	"fmt"
	"strings"
)

// section is one [NAME] of a file with its keys in file order.
type section struct {
	name    string
	line    int
	entries []entry
}

// entry is one KEY = value; the value is trimmed and without quotes.
type entry struct {
	key, value string
	line       int
}

// parsed is a file taken apart into sections, not yet checked key by key.
type parsed struct {
	sections []section
	notes    notes
}

// parse takes the text of an INI file apart. Sections for which known is false
// get a warning and their lines are not looked at: programs of the CHMPX
// family keep sections of their own in the same file. It never panics.
func parse(file, text string, known func(section string) bool) parsed {
	p := parsed{notes: notes{file: file}}
	text = strings.TrimPrefix(text, "\ufeff") // what some editors put first
	open, skip := false, false
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			name, err := parseHeader(line)
			if err != nil {
				p.notes.errorf(n, "%v", err)
				skip = true // the lines below belong to nothing we know
				continue
			}
			open, skip = true, !known(name)
			p.sections = append(p.sections, section{name: name, line: n})
		case skip:
		case !open:
			p.notes.errorf(n, "%s: a line before the first section: put it below [GLOBAL], [SVRNODE] or [SLVNODE]", clip(line))
		default:
			e, err := parseEntry(line)
			if err != nil {
				p.notes.errorf(n, "%v", err)
				continue
			}
			e.line = n
			last := &p.sections[len(p.sections)-1]
			last.entries = append(last.entries, e)
		}
	}
	return p
}

// parseHeader reads the name out of "[NAME]", which a comment may follow.
func parseHeader(line string) (string, error) {
	line = strings.TrimSpace(cutComment(line))
	name, ok := strings.CutSuffix(line[1:], "]")
	name = strings.TrimSpace(name)
	if !ok || name == "" || strings.ContainsAny(name, "[]") {
		return "", fmt.Errorf("%s: a section is written [GLOBAL], [SVRNODE] or [SLVNODE], alone in its line", clip(line))
	}
	return name, nil
}

// cutComment removes what follows a '#' after a blank, for lines without quotes.
func cutComment(line string) string {
	for i := 1; i < len(line); i++ {
		if line[i] == '#' && isBlank(line[i-1]) {
			return line[:i]
		}
	}
	return line
}

// parseEntry reads "KEY = value": the first '=' separates.
func parseEntry(line string) (entry, error) {
	key, rest, ok := strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" || strings.Contains(key, "#") {
		return entry{}, fmt.Errorf("%s: neither a section, nor a comment, nor KEY = value", clip(line))
	}
	value, err := parseValue(rest)
	if err != nil {
		return entry{}, fmt.Errorf("%s: %w", clip(line), err)
	}
	return entry{key: key, value: value}, nil
}

// parseValue removes blanks around the value, quotes and a comment. Quotes may
// be in the middle; inside double ones a backslash takes the next byte as it is.
func parseValue(raw string) (string, error) {
	var out []byte
	var quote byte
	kept := 0 // bytes of out that trailing blanks do not end before
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
			kept = len(out)
		case quote == '"' && c == '\\':
			if i++; i == len(raw) {
				return "", fmt.Errorf("the line ends after a backslash")
			}
			out = append(out, raw[i])
		case quote != 0:
			out = append(out, c)
		case c == '"' || c == '\'':
			quote = c
		case c == '#' && (i == 0 || isBlank(raw[i-1])):
			return string(out[:kept]), nil
		case c == '\\' && i+1 < len(raw) && raw[i+1] == '#':
			return "", fmt.Errorf(`put a value with \# in it between quotes`)
		case isBlank(c) && len(out) == 0 && kept == 0:
		default:
			if out = append(out, c); !isBlank(c) {
				kept = len(out)
			}
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("a quote is not closed")
	}
	return string(out[:kept]), nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// clip quotes a text for a message, shortened when it is long.
func clip(s string) string {
	const max = 80
	if len(s) > max {
		s = s[:max] + "..."
	}
	return fmt.Sprintf("%q", s)
}
