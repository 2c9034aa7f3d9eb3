package config

import (
	"strings"
	"testing"
)

// Comments, blanks and quotes in a value are read as CHMPX reads them.
func TestParseValue(t *testing.T) {
	for raw, want := range map[string]string{
		" a ":               "a",
		"a b":               "a b",
		"a\tb ":             "a\tb",
		"CF#G":              "CF#G",
		"CF #G":             "CF",
		"CF\t# G":           "CF",
		"#":                 "",
		"":                  "",
		"a;b ; c":           "a;b ; c",
		"A=B":               "A=B",
		`"CF" x`:            "CF x",
		`x "a # b" y # c`:   "x a # b y",
		`'a "b" \n'`:        `a "b" \n`,
		`"a \"b\" \\ \n"`:   `a "b" \ n`,
		`" a "`:             " a ",
		`a\b`:               `a\b`,
		"value\r":           "value",
		`""`:                "",
		`"it's"`:            "it's",
		"\u00fcber":         "\u00fcber",
		`"a"#b`:             "a#b",
		"[.]*":              "[.]*",
		"^a[[:digit:]]+\\.": "^a[[:digit:]]+\\.",
	} {
		if got, err := parseValue(raw); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{`"`, `'a`, `a"b`, `"a\`, `a \# b`, `"a'`} {
		if got, err := parseValue(raw); err == nil {
			t.Errorf("%q: got %q, want an error", raw, got)
		}
	}
}

// Line ends of other systems and a byte order mark change nothing.
func TestParseLines(t *testing.T) {
	unix := minimal("")
	want := mustLoad(t, unix).Digest()
	for name, text := range map[string]string{
		"CRLF":            strings.ReplaceAll(unix, "\n", "\r\n"),
		"byte order mark": "\ufeff" + unix,
		"no last newline": strings.TrimSuffix(unix, "\n"),
		"indented":        strings.ReplaceAll(unix, "\n", "\n\t "),
	} {
		if got := mustLoad(t, text).Digest(); got != want {
			t.Errorf("%s: a different ring", name)
		}
	}
}
