package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	inside "github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/testcluster/fault"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "what can be broken: faults, crash points, deliberate bugs",
		Action: func(c *cli.Context) error {
			w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FAULT\tWHAT HAPPENS\tWHO IS HIT\tHOW IT ENDS")
			for _, f := range fault.All() {
				i := f.Info()
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Name, i.About, i.Hits, i.Undone)
			}
			if err := flush(w); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer)
			fmt.Fprintln(w, "CRASH POINT\tPASSED BY\tTHE PROCESS ENDS WHEN")
			for _, p := range inside.Points() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", p.Point, passedBy(p), p.What)
			}
			if err := flush(w); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer)
			fmt.Fprintln(w, "BUG\tWHAT IS WRONG WITH IT")
			for _, b := range inside.Bugs() {
				fmt.Fprintf(w, "%s\t%s\n", b.Bug, b.What)
			}
			return flush(w)
		},
	}
}

func passedBy(p inside.PointInfo) string {
	switch {
	case p.Program && p.Node:
		return "both"
	case p.Program:
		return "programs"
	}
	return "nodes"
}

func flush(w interface{ Flush() error }) error {
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}
