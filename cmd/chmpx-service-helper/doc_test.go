package main

import (
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/clidoc"
)

// The manual page and the completions know every option and verb; packages are
// built with what this test writes.
func TestDocs(t *testing.T) {
	verbs := []*cli.Command{{Name: "start", Usage: "run the service"}, {Name: "stop", Usage: "stop it"}, {Name: "restart", Usage: "stop it, then run it"}}
	for _, v := range verbs {
		v.Flags = flags()
	}
	clidoc.Check(t, clidoc.Command{Name: "chmpx-service-helper", Section: 8, Summary: "run chmpx as a service", Text: usage, Flags: flags(), Verbs: verbs})
}
