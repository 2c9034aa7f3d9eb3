package main

import (
	"testing"

	"github.com/chmpx/chmpx/cmd/internal/clidoc"
)

// The manual page and the completions know every option and verb; packages are
// built with what this test writes.
func TestDocs(t *testing.T) {
	app := newApp()
	clidoc.Check(t, clidoc.Command{Name: app.Name, Section: 1, Summary: app.Usage, Detail: app.Description, Flags: app.Flags, Verbs: app.Commands})
}
