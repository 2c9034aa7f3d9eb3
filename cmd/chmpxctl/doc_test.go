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
	for _, tool := range []clidoc.Command{ // CHMPX's, which are links to chmpxctl
		{Name: confTestName, Summary: "check a configuration of chmpx", Text: confTestUsage, Flags: confTestFlags()},
		{Name: lineToolName, Summary: "ask and command the nodes of a ring, as CHMPX's tool does", Text: lineUsage, Flags: lineFlags()},
		{Name: statusToolName, Summary: "show what a node of this host knows, or wait for its status", Text: statusToolUsage, Flags: statusToolFlags()},
	} {
		tool.Section = 1
		clidoc.Check(t, tool)
	}
}
