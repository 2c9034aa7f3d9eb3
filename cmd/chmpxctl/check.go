package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ring"
)

// settleTimeout is how long nodes may take to show the same ring: an entry
// reaches them one after the other.
const settleTimeout = 3 * time.Second

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "ask all nodes, and say what is wrong with the ring",
		Description: "It asks every node that is up: do all show the same ring, can changes be committed,\n" +
			"is every server up with a program, does every node reach every server, does a merge\n" +
			"wait? Nodes that differ are asked again for 3 s. Errors are exit code 1, warnings are not.",
		Flags: append(targetFlags(), jsonFlag()),
		Action: answering("check", func(c *cli.Context) (answer, error) {
			_, nodes, err := nodesAt(c)
			if err != nil {
				return nil, err
			}
			a := checkRing(c.Context, nodes)
			a.addMissing(configured(c))
			if a.OK {
				return a, nil
			}
			return a, fmt.Errorf("check: %s", plural(a.count(levelError), "error"))
		}),
	}
}

// configured returns the servers of the configuration that names the node, if one does.
func configured(c *cli.Context) []ring.Server {
	source, err := config.FindSource(c.String("conf"), "")
	if err != nil || ctlPortOf(c) > 0 {
		return nil
	}
	cfg, _, err := config.Load(source)
	if err != nil { // it was good a moment ago, and named the node
		return nil
	}
	servers, err := serversOf(cfg)
	if err != nil {
		return nil
	}
	return servers
}

// addMissing says which servers are configured and in no node's ring.
func (a *checkAnswer) addMissing(servers []ring.Server) {
	members := map[ring.ID]bool{}
	for _, n := range a.Nodes {
		for _, s := range n.view.Servers {
			members[ring.ID(s.ID)] = true
		}
	}
	for _, s := range servers {
		if !members[s.ID] {
			a.Problems = append(a.Problems, problem{levelWarning, fmt.Sprintf("%s:%d", s.Name, s.CtlPort), "is in the configuration and not in the ring"})
		}
	}
}

// The levels of a problem.
const (
	levelError   = "error"
	levelWarning = "warning"
)

// problem is something that is wrong with the ring, or could be.
type problem struct {
	Level string `json:"level"` // error or warning
	Node  string `json:"node"`  // who has it or says so
	Text  string `json:"text"`
}

// checkedNode is what a node says about itself and the ring.
type checkedNode struct {
	knownNode
	Result string     `json:"result"` // ok, warning, error; down: it was not asked
	Status string     `json:"status"` // of itself, by itself; else by the newest of the others
	Epoch  ring.Epoch `json:"epoch"`
	Index  uint64     `json:"index"`

	view controlplane.Status
	err  error
}

// checkAnswer is what all nodes say.
type checkAnswer struct {
	OK       bool          `json:"ok"` // there are no errors
	Nodes    []checkedNode `json:"nodes"`
	Problems []problem     `json:"problems"`
}

func (a checkAnswer) count(level string) int {
	n := 0
	for _, p := range a.Problems {
		if p.Level == level {
			n++
		}
	}
	return n
}

func (a checkAnswer) print(w io.Writer, colour bool) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tROLE\tEPOCH\tINDEX\tSTATUS\tRESULT")
	resultColours := map[string]string{"ok": green, levelWarning: yellow, levelError: red, "down": red}
	for _, n := range a.Nodes {
		epoch, index := "-", "-" // not asked, or no answer
		if n.Index > 0 {
			epoch, index = n.Epoch.String(), strconv.FormatUint(n.Index, 10)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", n.knownNode, n.Role, epoch, index, strings.TrimPrefix(n.Status, "SAFE -> "),
			paint(colour, resultColours[n.Result], n.Result))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, p := range a.Problems {
		fmt.Fprintf(&b, "%s %s: %s\n", paint(colour, resultColours[p.Level], p.Level), p.Node, p.Text)
	}
	text := b.String()
	if colour {
		text = statusColours.Replace(text)
	}
	if _, err := io.WriteString(w, text); err != nil || !a.OK {
		return err
	}
	_, err := fmt.Fprintf(w, "the ring is in order; %s\n", plural(a.count(levelWarning), "warning"))
	return err
}

// checkRing asks the nodes until they agree, or have had time to, and says what
// is wrong.
func checkRing(ctx context.Context, nodes []knownNode) checkAnswer {
	all := viewsOf(ctx, nodes)
	if !settled(all) {
		_ = poll(ctx, settleTimeout, func(ctx context.Context) (bool, error) { // what is different then is found below
			again := viewsOf(ctx, nodes)
			if ctx.Err() == nil { // else not all could answer
				all = again
			}
			return settled(all), nil
		})
	}
	a := checkAnswer{Nodes: all, Problems: []problem{}}
	for i := range all {
		a.judge(&all[i], reference(all))
	}
	a.OK = a.count(levelError) == 0
	return a
}

// settled reports whether the nodes that answer show the same ring, and take part.
func settled(all []checkedNode) bool {
	want := reference(all)
	for _, n := range all {
		if asked := n.err == nil && n.Result == ""; asked && (n.view.WaitsFor != "" || len(differences(n.view, want)) > 0) {
			return false
		}
	}
	return true
}

// viewsOf asks every node that is up for its status. Nodes that are down have
// the result "down", the others none yet.
func viewsOf(ctx context.Context, nodes []knownNode) []checkedNode {
	all := make([]checkedNode, len(nodes))
	for i, n := range nodes {
		all[i].knownNode = n
		if !n.Up {
			all[i].Result = "down"
		}
	}
	askAll(ctx, nodes, func(ctx context.Context, i int, at target) {
		n := &all[i]
		if !n.Up {
			return
		}
		if n.view, _, n.err = ringview.Fetch(ctx, at.host, at.ctlPort); n.err != nil {
			return
		}
		n.Epoch, n.Index = n.view.Epoch, n.view.Index
		n.Status = ownStatus(n.view)
	})
	return all
}

// ownStatus is a node's status by itself, in CHMPX's words.
func ownStatus(st controlplane.Status) string {
	for _, s := range st.Servers {
		if s.ID == st.ID {
			return s.Status
		}
	}
	if st.Role == "slave" {
		return (ring.Slave | ring.Up).String()
	}
	return "not in the ring"
}

// reference returns the newest of the views: what the others should show.
func reference(all []checkedNode) controlplane.Status {
	best := -1
	for i, n := range all {
		if n.err == nil && n.Result != "down" && (best < 0 || all[best].Epoch.Compare(n.Epoch) < 0 || all[best].Epoch == n.Epoch && all[best].Index < n.Index) {
			best = i
		}
	}
	if best < 0 {
		return controlplane.Status{}
	}
	return all[best].view
}

// differences says how the ring that a node shows is not the one that it should be.
func differences(st, want controlplane.Status) []string {
	var all []string
	differ := func(what string, have, want any) {
		if have != want {
			all = append(all, fmt.Sprintf("its %s is %v, that of the newest node %v", what, have, want))
		}
	}
	differ("ring", st.RingID.String(), want.RingID.String())
	differ("epoch", st.Epoch, want.Epoch)
	differ("number of servers", len(st.Servers), len(want.Servers))
	differ("SUSPENDMERGE", st.SuspendMerge, want.SuspendMerge)
	differ("merge", mergeText(st.Merge), mergeText(want.Merge))
	servers := map[ring.ID]controlplane.ServerStatus{}
	for _, s := range st.Servers {
		servers[ring.ID(s.ID)] = s
	}
	for _, s := range want.Servers {
		name := fmt.Sprintf("%s:%d", s.Name, s.CtlPort)
		have, ok := servers[ring.ID(s.ID)]
		if !ok {
			all = append(all, "it does not know "+name)
			continue
		}
		differ("status of "+name, have.Status, s.Status)
		differ("base number of "+name, have.BaseHash, s.BaseHash)
		differ("pending number of "+name, have.PendingHash, s.PendingHash)
	}
	return all
}

func mergeText(m *controlplane.MergeStatus) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%d, %s", m.ID, m.Phase)
}

// judge finds what is wrong with a node, as it says itself and against what it
// should show.
func (a *checkAnswer) judge(n *checkedNode, want controlplane.Status) {
	name := n.String()
	worst := "ok"
	say := func(level, format string, args ...any) {
		a.Problems = append(a.Problems, problem{level, name, fmt.Sprintf(format, args...)})
		if worst != levelError {
			worst = level
		}
	}
	defer func() {
		if n.Result == "" {
			n.Result = worst
		}
	}()
	for _, s := range want.Servers {
		if ring.ID(s.ID) != n.ID {
			continue
		}
		if judgeServer(s, say); n.Status == "" { // it does not say itself
			n.Status = s.Status
		}
	}
	switch {
	case n.Result == "down":
		return
	case n.err != nil && n.Role == "slave":
		say(levelWarning, "does not answer: %v", n.err)
		return
	case n.err != nil:
		say(levelError, "is up and does not answer: %v", n.err)
		return
	}
	for _, text := range differences(n.view, want) {
		say(levelError, "shows another ring: %s", text)
	}
	if !n.view.Quorum.OK {
		say(levelError, "no change can be committed: %s", ringview.Quorum(n.view))
	}
	if n.view.WaitsFor != "" {
		say(levelWarning, "takes no part yet: %s", n.view.WaitsFor)
	}
	for _, text := range n.view.Warnings {
		say(levelWarning, "%s", text)
	}
	for _, s := range n.view.Servers {
		if s.Up && (s.Link == "refused" || s.Link == "silent") {
			say(levelError, "does not reach %s:%d (%s)", s.Name, s.CtlPort, s.Link)
		}
	}
}

// judgeServer says what is wrong with the status of a server.
func judgeServer(s controlplane.ServerStatus, say func(level, format string, args ...any)) {
	switch {
	case s.Service == "in" && !s.Up:
		say(levelError, "is in service and down")
	case !s.Up:
		say(levelWarning, "is out of service and down")
	case s.Suspended:
		say(levelWarning, "has no server program")
	}
	if s.Operate != "nothing" {
		say(levelWarning, "takes part in a merge: %s %s", s.Action, s.Operate)
	}
}
