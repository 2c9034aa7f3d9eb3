package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Options come before the environment, files before texts.
func TestFindSource(t *testing.T) {
	for _, c := range []struct{ conf, json, envFile, envText, want string }{
		{"a", "b", "c", "d", "path a"},
		{"", "b", "c", "d", "text b"},
		{"", "", "c", "d", "path c"},
		{"", "", "", "d", "text d"},
		{"a", "", "", "d", "path a"},
		{"", "", "", "", ""},
	} {
		t.Setenv("CHMCONFFILE", c.envFile)
		t.Setenv("CHMJSONCONF", c.envText)
		s, err := FindSource(c.conf, c.json)
		got := ""
		switch {
		case s.Path != "" && s.Text == "":
			got = "path " + s.Path
		case s.Text != "" && s.Path == "":
			got = "text " + s.Text
		}
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: got %s, %v", c, got, err)
		}
		if c.want == "" && (!errors.Is(err, ErrNoSource) || !errors.Is(err, ErrConfig)) {
			t.Errorf("got %v, want ErrNoSource", err)
		}
	}
}

// A source that is nothing, or both, or longer than a configuration can be, is
// refused; a text that is the name of a file is no configuration.
func TestLoadRefusesSources(t *testing.T) {
	for want, s := range map[string]Source{
		"one of them":           {},
		"file or a text":        {Path: "a.ini", Text: "{}"},
		"JSON text: it is larg": {Text: strings.Repeat(" ", configBytesMax+1)},
		"JSON text:1: use a mapping with GLOBAL, SVRNODE and SLVNODE at the top, not a single value": {Text: "server.ini"},
		"JSON text: it is empty": {Text: "{}"},
	} {
		if _, _, err := Load(s); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %s", s, err, want)
		}
	}
}

// A pipe into which nobody writes is not waited for.
func TestLoadPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.ini")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(Source{Path: pipe}); err == nil || !strings.Contains(err.Error(), "it is empty") {
		t.Errorf("got %v", err)
	}
}

// Warnings stay with an error that ends a start, and the error keeps its chain.
func TestWithWarnings(t *testing.T) {
	_, warnings, err := loadText("a.ini", minimal("REPLCIA=1\nPORT=0"))
	all := WithWarnings(err, warnings)
	for _, want := range []string{`a.ini:8: PORT = "0"`, "warning: a.ini:7: \"REPLCIA\""} {
		if !errors.Is(all, ErrConfig) || !strings.Contains(all.Error(), want) {
			t.Errorf("got %v, want %s", all, want)
		}
	}
	if WithWarnings(nil, warnings) != nil || WithWarnings(err, nil) != err { //nolint:errorlint // the same value
		t.Error("nothing to add changes the error")
	}
}

// A file that cannot be read is named once, with the reason and nothing else.
func TestUnreadable(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("d.ini", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop.ini", "loop.ini"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("inc.ini", []byte("INCLUDE=no.ini\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"no.ini":    "no.ini cannot be read: no such file or directory",
		"d.ini":     "d.ini cannot be read: is a directory",
		"loop.ini":  "loop.ini cannot be read: too many levels of symbolic links",
		"a.txt":     `a.txt cannot be read: the extension ".txt" is unknown; use .ini, .yaml, .yml or .json`,
		"/dev/zero": "/dev/zero cannot be read: the configuration is larger than 1048576 bytes",
		"inc.ini":   `inc.ini:1: INCLUDE = "no.ini": no.ini cannot be read: no such file or directory`,
	} {
		if _, _, err := Load(Source{Path: path}); !errors.Is(err, ErrConfig) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
