package config

import (
	"fmt"
	"slices"
	"strings"
)

// parseINI takes the text of an INI file apart. Lines of sections that are not
// ours are not looked at: programs of the CHMPX family keep sections of their
// own in the same file.
func parseINI(n *notes, f *file, text string) parsed {
	var p parsed
	open, skip := false, false
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		n.errorf(pos{f, 1}, "the text is in UTF-16; save it as UTF-8")
		n.partial = true
		return p
	}
	for i, line := range strings.Split(text, "\n") {
		at := pos{f, i + 1}
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			name, err := parseHeader(line)
			if err != nil {
				n.errorf(at, "%v", err)
				skip = true // the lines below belong to nothing we know
				continue
			}
			open, skip = true, !slices.Contains(sectionNames, name)
			p.sections = append(p.sections, section{name: name, at: at})
		case skip:
		default:
			e, err := parseEntry(line)
			e.at = at
			switch {
			case err == nil && e.key == keyInclude:
				p.includes = append(p.includes, e)
			case !open:
				n.errorf(at, "%s: a line before the first section: put it below [GLOBAL], [SVRNODE] or [SLVNODE]", clip(line))
			case err != nil:
				n.errorf(at, "%v", err)
			}
			if open && e.key != keyInclude {
				e.unread = err != nil
				last := &p.sections[len(p.sections)-1]
				if !e.unread || find(e.key, last.name) != nil {
					last.entries = append(last.entries, e)
				}
			}
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

// parseEntry reads "KEY = value": the first '=' separates. With an error the
// entry has the key that seems to be meant.
func parseEntry(line string) (entry, error) {
	key, rest, ok := strings.Cut(line, "=")
	if word, err := parseValue(key); err == nil {
		key = word // without blanks and quotes
	}
	if !ok || key == "" || strings.Contains(key, "#") {
		key, _, _ = strings.Cut(key, ":")
		return entry{key: strings.TrimSpace(key)}, fmt.Errorf("%s: neither a section, nor a comment, nor KEY = value", clip(line))
	}
	value, err := parseValue(rest)
	if err != nil {
		return entry{key: key}, fmt.Errorf("%s: %w", clip(line), err)
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
