package clidoc

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// OutputEnv names the directory that Check writes the files to, if it is set.
const OutputEnv = "CHMPX_DOCS"

// CheckValues checks that each option of commands, and of those below them, says
// what it allows when its value cannot be read.
func CheckValues(t *testing.T, commands []*cli.Command) {
	t.Helper()
	for _, l := range (Command{Verbs: commands}).places() {
		checkValues(t, l.path, l.flags)
	}
}

// badValue is none of any option that does not take every text.
const badValue = "?!"

func checkValues(t *testing.T, path []string, flags []cli.Flag) {
	t.Helper()
	for _, f := range flags {
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
		for _, name := range f.Names() {
			err := set.Parse([]string{"-" + name + "=" + badValue})
			if err == nil { // it takes texts
				continue
			}
			for _, want := range []string{"-" + name, badValue, "use "} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q: -%s=%s: %v, without %q", path, name, badValue, err, want)
				}
			}
		}
	}
}

// Check checks that each of a command's files names every verb and option, and
// that its usage text does; and that options say what they allow. Where OutputEnv names a directory it writes the
// files there.
func Check(t *testing.T, c Command) {
	t.Helper()
	for _, l := range c.places() {
		checkValues(t, l.path, l.flags)
	}
	for file, text := range c.Files() {
		plain := strings.ReplaceAll(text, `\-`, "-")
		for _, l := range c.levels() {
			for _, v := range l.verbs {
				if !strings.Contains(plain, v.Name) {
					t.Errorf("%s does not name %s", file, v.Name)
				}
			}
			for _, o := range l.options {
				name := o.names[0]
				if strings.HasSuffix(file, ".fish") {
					name = "-o " + strings.TrimPrefix(name, "-")
				}
				if !strings.Contains(plain, name) {
					t.Errorf("%s does not name option %s of %q", file, name, l.path)
				}
			}
		}
		dir := os.Getenv(OutputEnv)
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
