package clidoc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// OutputEnv names the directory that Check writes the files to, if it is set.
const OutputEnv = "CHMPX_DOCS"

// Check checks that each of a command's files names every verb and option, and
// that its usage text does. Where OutputEnv names a directory it writes the
// files there.
func Check(t *testing.T, c Command) {
	t.Helper()
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
