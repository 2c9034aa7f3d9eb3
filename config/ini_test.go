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

// A line, or a value, that cannot be read is one error: its key is not called
// missing as well. A key may stand in quotes, as in CHMPX.
func TestOneErrorPerMistake(t *testing.T) {
	for line, want := range map[string]string{
		`GROUP = "G`:     "a.ini:3: \"GROUP = \\\"G\": a quote is not closed",
		`GROUP = G \# x`: `a.ini:3: "GROUP = G \\# x": put a value`,
		`GROUP : G`:      `a.ini:3: "GROUP : G": neither`,
		`GROUP`:          `a.ini:3: "GROUP": neither`,
		`"GROUP" = G`:    "",
		`'GROUP'= G`:     "",
	} {
		_, warnings, err := loadText("a.ini", strings.Replace(shortINI, "GROUP=G", line, 1))
		switch {
		case want == "" && (err != nil || len(warnings) > 0):
			t.Errorf("%s: %v, %v", line, warnings, err)
		case want != "" && (err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: got\n%v\nwant %s", line, err, want)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(shortYAML, "GROUP: G", "GROUP: [G]", 1): "GROUP = a list",
		strings.Replace(shortYAML, "localhost", "[a, b]", 1):    "NAME = a list",
		strings.Replace(shortYAML, "localhost", "[.]*", 1):      "needs quotes",
		"GLOBAL:\n\tFILEVERSION: 1\n":                           "not tabs",
	} {
		if _, _, err := loadText("a.yaml", text); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got\n%v\nwant %s", text, err, want)
		}
	}
	if _, _, err := loadText("a.ini", "\xff\xfe[\x00G\x00"); err == nil || err.Error() != "a.ini:1: the text is in UTF-16; save it as UTF-8" {
		t.Errorf("got %v", err)
	}
}
