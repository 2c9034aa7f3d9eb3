package main

import (
	"testing"

	"github.com/chmpx/chmpx/cmd/internal/clidoc"
)

// Every option says what it allows.
func TestBadValues(t *testing.T) { clidoc.CheckValues(t, allCommands()) }
