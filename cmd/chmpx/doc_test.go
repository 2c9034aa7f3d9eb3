package main

import (
	"testing"

	"github.com/chmpx/chmpx/cmd/internal/clidoc"
)

// The manual page and the completions know every option and verb; packages are
// built with what this test writes.
func TestDocs(t *testing.T) {
	clidoc.Check(t, clidoc.Command{Name: "chmpx", Section: 1, Summary: "a node of a ring that carries messages between programs", Text: usage, Flags: flags()})
}
