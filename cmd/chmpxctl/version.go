package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/internal/ringview"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version of chmpxctl and of all nodes of a ring",
		Description: "Without a node that it could ask it prints the version of chmpxctl alone.",
		Flags:       append(targetFlags(), jsonFlag()),
		Action: answering("version", func(c *cli.Context) (answer, error) {
			a := versionAnswer{Chmpxctl: version, Nodes: []nodeVersion{}}
			if !hasTarget(c) {
				return a, nil
			}
			_, nodes, err := nodesAt(c)
			if err != nil {
				return nil, err
			}
			a.Nodes = make([]nodeVersion, len(nodes))
			askAll(c.Context, nodes, func(ctx context.Context, i int, at target) {
				a.Nodes[i] = nodeVersion{Node: nodes[i].String()}
				text, err := ringview.Look(ctx, at.host, at.ctlPort, "VERSION")
				if a.Nodes[i].Version = strings.TrimSpace(text); err != nil {
					a.Nodes[i].Error = err.Error()
				}
			})
			return a, nil
		}),
	}
}

type versionAnswer struct {
	Chmpxctl string        `json:"chmpxctl"`
	Nodes    []nodeVersion `json:"nodes"`
}

type nodeVersion struct {
	Node    string `json:"node"`
	Version string `json:"version"` // what the node says; empty: nothing
	Error   string `json:"error,omitempty"`
}

func (a versionAnswer) print(w io.Writer, _ bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "chmpxctl\t%s\n", a.Chmpxctl)
	for _, n := range a.Nodes {
		if n.Error != "" {
			n.Version = "not known: " + n.Error
		}
		fmt.Fprintf(tw, "%s\t%s\n", n.Node, n.Version)
	}
	return tw.Flush()
}
