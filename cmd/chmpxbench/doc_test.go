package main

import (
	"testing"

	"github.com/chmpx/chmpx/cmd/internal/clidoc"
)

// The manual page and the completions know every option and verb; packages are
// built with what this test writes.
func TestDocs(t *testing.T) {
	clidoc.Check(t, clidoc.Command{Name: "chmpxbench", Section: 1, Summary: "measure a chmpx ring, or be a program of it", Text: usage, Flags: flags()})
}
