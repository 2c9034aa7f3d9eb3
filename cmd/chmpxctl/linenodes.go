package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ring"
)

// lineNode is a node as the line tool knows it.
type lineNode struct {
	id           ring.ID // 0: not known
	name         string
	ctlPort      uint16
	cuk          string
	ctlEndpoints string
	customSeed   string
	server       bool
}

// String returns how most messages call a node.
func (n lineNode) String() string { return fmt.Sprintf("%s:%d", n.name, n.ctlPort) }

// key tells nodes apart, and is how "check" calls them.
func (n lineNode) key() string {
	return fmt.Sprintf("%s:%d:%s:%s:%s", n.name, n.ctlPort, n.cuk, n.customSeed, n.ctlEndpoints)
}

func nodeOfUnit(u ringview.Unit, server bool) lineNode {
	return lineNode{u.ID, u.Name, u.CtlPort, u.CUK, u.CtlEndpoints, u.CustomSeed, server}
}

// idSeed is what ids are made with.
type idSeed struct {
	group  string
	idType ring.IDType
}

// withID returns the node with its id, if that can be known.
func (s idSeed) withID(n lineNode) lineNode {
	if s.group != "" {
		n.id = ring.NodeID(s.group, s.idType, ring.Identity{
			Name: n.name, CtlPort: n.ctlPort, CUK: n.cuk, CtlEndpoints: n.ctlEndpoints, CustomSeed: n.customSeed,
		})
	}
	return n
}

// lineIDTypes are the words of -type.
var lineIDTypes = map[string]ring.IDType{"name": ring.IDByName, "cuk": ring.IDByCUK, "endpoint": ring.IDByCtlEndpoints, "seed": ring.IDByCustom}

// findInitial finds the nodes that the options name.
func (t *lineTool) findInitial(c *cli.Context) error {
	if c.String("host") != "" || c.String("group") != "" && c.String("conf") == "" && c.String("json") == "" {
		return t.initialHost(c)
	}
	if c.Bool("server") || c.Bool("slave") {
		return errors.New("option \"-server\" and \"-slave\" must be specified with \"-host\" option")
	}
	if c.String("conf") != "" && c.String("json") != "" {
		return errors.New("both option \"-conf\" and \"-json\" could not be specified")
	}
	source, err := config.FindSource(c.String("conf"), c.String("json"))
	if err != nil {
		return err
	}
	cfg, _, err := config.Load(source)
	if err != nil {
		return fmt.Errorf("could not load nodes information by configuration: %w", err)
	}
	t.source, t.seed.group = source, cfg.Group
	if t.seed.idType, err = ring.ParseIDType(cfg.IDType); err != nil {
		return err
	}
	t.initialConf(c, cfg)
	return nil
}

func (t *lineTool) initialHost(c *cli.Context) error {
	switch {
	case c.String("conf") != "" || c.String("json") != "":
		return errors.New("\"-host\" and \"-conf\"(or \"-json\") option cannot be specified at the same time")
	case *c.Generic("ctrlport").(*port) == 0:
		return errors.New("no control port(-ctrlport option) is specified")
	}
	idType, ok := lineIDTypes[strings.ToLower(cmp.Or(c.String("type"), "name"))]
	if !ok {
		return fmt.Errorf("unknown parameter(%s) value for \"-type\" option", c.String("type"))
	}
	t.seed = idSeed{c.String("group"), idType}
	n := t.seed.withID(lineNode{
		name: cmp.Or(c.String("host"), "localhost"), ctlPort: uint16(*c.Generic("ctrlport").(*port)), cuk: c.String("cuk"),
		ctlEndpoints: c.String("ctlendpoints"), customSeed: c.String("custom_seed"), server: c.Bool("server"),
	})
	t.host, t.initial = &n, []lineNode{n}
	return nil
}

// initialConf takes what this host's node knows, else what the configuration says.
func (t *lineTool) initialConf(c *cli.Context, cfg *config.Config) {
	var known []lineNode
	self, err := cfg.SelfNode(int(*c.Generic("ctrlport").(*port)), c.String("cuk"))
	if err != nil {
		t.say(lineMessage, "%v", err)
	} else {
		node := t.seed.withID(lineNode{
			name: self.Name, ctlPort: uint16(self.CtlPort), cuk: self.CUK, ctlEndpoints: self.CtlEndpoints, customSeed: self.CustomSeed, server: self.Server,
		})
		known = append(known, node)
		local := node
		local.name = "localhost"
		u, err := t.units(c.Context, local)
		if err == nil {
			t.initial = uniqueNodes(nodesOfUnits(u))
			return
		}
		t.say(lineMessage, "the node of this host does not answer, then loading all nodes from configuration: %v", err)
	}
	for _, s := range cfg.Servers {
		known = append(known, t.seed.withID(lineNode{
			name: s.Name, ctlPort: uint16(s.CtlPort), cuk: s.CUK, ctlEndpoints: s.CtlEndpoints, customSeed: s.CustomSeed, server: true,
		}))
	}
	t.initial = uniqueNodes(known)
}

// nodesOfUnits returns the nodes of a DUMP, whose own is among them.
func nodesOfUnits(u ringview.Units) []lineNode {
	isServer := func(id ring.ID) bool {
		return slices.ContainsFunc(u.Servers, func(s ringview.Unit) bool { return s.ID == id })
	}
	all := []lineNode{nodeOfUnit(u.Self, isServer(u.Self.ID))}
	for _, s := range u.Servers {
		all = append(all, nodeOfUnit(s, true))
	}
	for _, s := range u.Slaves {
		all = append(all, nodeOfUnit(s, false))
	}
	return all
}

// uniqueNodes sorts nodes by their ids; of several with one id a server counts.
func uniqueNodes(all []lineNode) []lineNode {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b lineNode) int {
		first := 0
		if a.server != b.server {
			first = 1
			if a.server {
				first = -1
			}
		}
		return cmp.Or(cmp.Compare(a.id, b.id), first)
	})
	return slices.CompactFunc(all, func(a, b lineNode) bool { return a.id == b.id && a.id != 0 })
}

// ask sends a command to a node, by its control endpoints if it has some.
func (t *lineTool) ask(ctx context.Context, n lineNode, command string) (string, error) {
	var places []target
	for _, endpoint := range strings.Split(n.ctlEndpoints, ",") {
		if host, text, err := net.SplitHostPort(strings.TrimSpace(endpoint)); err == nil {
			if p, err := parsePort(text); err == nil {
				places = append(places, target{host, p})
			}
		}
	}
	places = append(places, target{n.name, n.ctlPort})
	var text string
	var err error
	for _, at := range places {
		if text, err = ringview.Ask(ctx, at.host, at.ctlPort, command); err == nil || !errors.Is(err, ringview.ErrNotSent) {
			break // asked once, whatever came of it
		}
		t.say(lineMessage, "could not connect to %s", at)
	}
	return text, err
}

// units asks a node for its DUMP.
func (t *lineTool) units(ctx context.Context, n lineNode) (ringview.Units, error) {
	text, err := t.ask(ctx, n, "DUMP")
	if err != nil {
		return ringview.Units{}, err
	}
	dump, err := ringview.ParseDump(text)
	if err != nil {
		return ringview.Units{}, err
	}
	return ringview.UnitsOf(dump)
}

// answered is what came of asking a node for its DUMP.
type answered struct {
	node  lineNode
	units ringview.Units
	err   error
}

// dumps asks nodes for their DUMPs, several at the same time.
func (t *lineTool) dumps(ctx context.Context, nodes []lineNode) []answered {
	all := make([]answered, len(nodes))
	tokens := make(chan struct{}, cmp.Or(t.atOnce, askedAtOnce))
	var wg sync.WaitGroup
	for i, n := range nodes {
		tokens <- struct{}{}
		wg.Go(func() { // ended by ask, which has limits of its own
			defer func() { <-tokens }()
			u, err := t.units(ctx, n)
			all[i] = answered{n, u, err}
		})
	}
	wg.Wait()
	return all
}

// update finds the nodes of the ring by asking those known from the start. When
// none of them answers the ones found before stay.
func (t *lineTool) update(ctx context.Context) {
	var found []lineNode
	for _, a := range t.dumps(ctx, t.initial) {
		if a.err != nil {
			t.say(lineMessage, "could not get DUMP data from %s: %v", a.node, a.err)
			continue
		}
		found = append(found, nodesOfUnits(a.units)...)
	}
	if len(found) > 0 {
		t.nodes = uniqueNodes(found)
	}
}

// lookupTimeout bounds asking resolvers for a name that somebody typed.
const lookupTimeout = time.Second

// parseHost reads a node as it is typed: host:ctlport[:cuk[:seed[:endpoints]]]. The
// port is 0 where there is none that can be one.
func parseHost(text string) lineNode {
	parts := append(strings.SplitN(text, ":", 5), "", "", "", "")
	if inner, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "]:"); ok && strings.HasPrefix(text, "[") {
		parts = append([]string{inner}, append(strings.SplitN(rest, ":", 4), "", "", "", "")...)
	}
	n := lineNode{name: parts[0], cuk: parts[2], customSeed: parts[3], ctlEndpoints: parts[4]}
	n.ctlPort, _ = parsePort(parts[1])
	return n
}

// find returns the node that somebody means: by its name, else by an address
// that its name has.
func find(ctx context.Context, nodes []lineNode, want lineNode) (lineNode, bool) {
	is := func(have, want string) bool { return want == "" || have == want }
	fits := func(n lineNode) bool {
		return n.ctlPort == want.ctlPort && is(n.cuk, want.cuk) && is(n.customSeed, want.customSeed) && is(n.ctlEndpoints, want.ctlEndpoints)
	}
	for _, n := range nodes {
		if fits(n) && strings.EqualFold(n.name, want.name) {
			return n, true
		}
	}
	if want.name == "" {
		return lineNode{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	wanted, err := net.DefaultResolver.LookupHost(ctx, want.name)
	if err != nil {
		return lineNode{}, false
	}
	for _, n := range nodes {
		if !fits(n) {
			continue
		}
		have, err := net.DefaultResolver.LookupHost(ctx, n.name)
		if err == nil && slices.ContainsFunc(have, func(a string) bool { return slices.Contains(wanted, a) }) {
			return n, true
		}
	}
	return lineNode{}, false
}

// complete returns the nodes that may follow a command.
func (t *lineTool) complete(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	var all []string
	for _, n := range slices.Concat(t.initial, t.nodes) {
		all = append(all, n.name+":"+strconv.Itoa(int(n.ctlPort)))
	}
	return all
}
