package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ring"
)

func nodesCommand() *cli.Command {
	return &cli.Command{
		Name: "nodes", Usage: "list the servers and slaves that a node knows",
		Flags: append(targetFlags(), jsonFlag()),
		Action: answering("nodes", func(c *cli.Context) (answer, error) {
			st, all, err := nodesAt(c)
			if err != nil {
				return nil, err
			}
			return nodesAnswer{Nodes: all, Level: st.Level, LevelHeldBy: st.LevelHeldBy}, nil
		}),
	}
}

// knownNode is a node as another one knows it.
type knownNode struct {
	Role    string  `json:"role"` // server or slave
	Name    string  `json:"name"`
	CtlPort uint16  `json:"ctlport"`
	ID      ring.ID `json:"-"`
	Hex     string  `json:"id"`             // the id, in hexadecimal digits
	Addr    string  `json:"addr,omitempty"` // of a server's PORT
	Up      bool    `json:"up"`
	Self    bool    `json:"self"` // it was asked

	at target
}

// String returns how the ring calls the node.
func (n knownNode) String() string { return fmt.Sprintf("%s:%d", n.Name, n.CtlPort) }

type nodesAnswer struct {
	Nodes       []knownNode `json:"nodes"`
	Level       int         `json:"level,omitempty"`         // feature level of the ring
	LevelHeldBy []string    `json:"level_held_by,omitempty"` // who is older than others, and holds it back
}

func (a nodesAnswer) print(w io.Writer, colour bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tROLE\tID\tADDRESS\tLIVE")
	for _, n := range a.Nodes {
		live := paint(colour, red, "down")
		if n.Up {
			live = paint(colour, green, "up")
		}
		addr := n.Addr
		if addr == "" {
			addr = "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", n, n.Role, n.ID, addr, live)
	}
	if err := tw.Flush(); err != nil || len(a.LevelHeldBy) == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "the ring has feature level %d, because of %s\n", a.Level, strings.Join(a.LevelHeldBy, ", "))
	return err
}

// nodesAt asks the node that the options name for its status and for the nodes
// that it knows, itself included.
func nodesAt(c *cli.Context) (controlplane.Status, []knownNode, error) {
	t, err := targetOf(c)
	if err != nil {
		return controlplane.Status{}, nil, err
	}
	st, _, err := ringview.Fetch(c.Context, t.host, t.ctlPort)
	if err != nil {
		return st, nil, err
	}
	return st, nodesOfStatus(st, t), nil
}

// nodesOfStatus returns the nodes in a status that t has answered: the servers
// in ring order, then the slaves. A node that is not in the ring yet comes last.
func nodesOfStatus(st controlplane.Status, t target) []knownNode {
	all := []knownNode{}
	self := false
	add := func(n knownNode) {
		n.at, n.Hex = target{n.Name, n.CtlPort}, n.ID.String()
		if n.ID == ring.ID(st.ID) {
			n.Self, n.at, self = true, t, true
		}
		all = append(all, n)
	}
	for _, s := range st.Servers {
		add(knownNode{Role: "server", Name: s.Name, CtlPort: s.CtlPort, ID: ring.ID(s.ID), Addr: s.Addr, Up: s.Up})
	}
	for _, s := range st.Slaves {
		add(knownNode{Role: "slave", Name: s.Name, CtlPort: s.CtlPort, ID: ring.ID(s.ID), Up: s.Up})
	}
	if !self {
		add(knownNode{Role: st.Role, Name: st.Name, CtlPort: t.ctlPort, ID: ring.ID(st.ID), Up: true})
	}
	return all
}

// askedAtOnce is how many nodes are asked at the same time.
const askedAtOnce = 16

// askAll calls ask for each node, several at the same time, and returns when
// all have returned.
func askAll(ctx context.Context, nodes []knownNode, ask func(ctx context.Context, i int, at target)) {
	var wg sync.WaitGroup
	tokens := make(chan struct{}, askedAtOnce)
	for i, n := range nodes {
		tokens <- struct{}{}
		wg.Go(func() { // ended by ask, which has limits of its own
			defer func() { <-tokens }()
			ask(ctx, i, n.at)
		})
	}
	wg.Wait()
}
