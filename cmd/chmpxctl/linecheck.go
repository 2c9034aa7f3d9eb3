package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/chmpx/chmpx/internal/ringview"
)

// verdict is what came of comparing: the higher one counts.
type verdict int

const (
	same verdict = iota
	warn         // may be on its way
	differ
)

// sight is a node as it sees itself, or as another one sees it. A connection
// counts at both ends: in is how many lead to the node, out how many it opened.
type sight struct {
	ringview.Unit
	in, out int

	words                    [5]bool // which words of the status differ
	base, pending, ins, outs verdict
}

// unseen is a node that another one should know and does not.
func unseen() sight {
	const none = "0xffffffffffffffff"
	return sight{Unit: ringview.Unit{BaseHash: none, PendingHash: none, Status: "[UNKNOWN][DOWN][n/a][Nothing][NoSuspend]"}}
}

// testimony is what one node says about itself and the others, by their keys.
type testimony struct {
	down            bool // it did not answer
	self            sight
	servers, slaves map[string]ringview.Unit
}

// checkedUnit is a node with what all others say about it.
type checkedUnit struct {
	result  verdict
	self    sight
	views   map[string]sight // by who has it: servers
	fromOut map[string]sight // the same, slaves
}

func (t *lineTool) checkCommand(ctx context.Context, params []string) error {
	g, err := t.begin(ctx, params, 1, "all")
	if err != nil {
		return err
	}
	only := ""
	if len(g.hosts) > 0 {
		n, ok := find(ctx, t.nodes, g.hosts[0])
		if !ok {
			return t.notFound(g.hosts[0])
		}
		only = n.key()
	}
	if len(t.nodes) == 0 {
		t.print("ERROR: Internal error occurred.\n")
		return nil
	}
	all := t.testimonies(t.dumps(ctx, t.nodes))
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if only != "" && key != only {
			continue
		}
		c := compare(key, all)
		if only != "" {
			t.printChecked(&b, key, c)
		} else {
			t.printVerdict(&b, key, c)
		}
	}
	t.print("%s", b.String())
	return nil
}

// testimonies sorts the answers of all nodes.
func (t *lineTool) testimonies(answers []answered) map[string]testimony {
	all := map[string]testimony{}
	for _, a := range answers {
		if a.err != nil {
			t.say(lineMessage, "could not get DUMP data from %s: %v", a.node, a.err)
			all[a.node.key()] = testimony{down: true, self: sight{}}
			continue
		}
		if a.node.id != 0 && a.units.Self.ID != a.node.id {
			t.say(lineError, "parsed self chmpx expected chmpxid(0x%016x), but it has chmpxid(0x%016x)", uint64(a.node.id), uint64(a.units.Self.ID))
			continue
		}
		w := testimony{self: sight{Unit: a.units.Self}, servers: map[string]ringview.Unit{}, slaves: map[string]ringview.Unit{}}
		for _, list := range []struct {
			units  []ringview.Unit
			to     map[string]ringview.Unit
			server bool
			count  *int
		}{{a.units.Servers, w.servers, true, &w.self.out}, {a.units.Slaves, w.slaves, false, &w.self.in}} {
			for _, u := range list.units {
				if u.ID == a.units.Self.ID {
					continue
				}
				key := nodeOfUnit(u, list.server).key()
				if earlier, again := list.to[key]; again { // several connections of one node
					u.Sockets += earlier.Sockets
				}
				list.to[key] = u
			}
			for _, u := range list.to {
				*list.count += u.Sockets
			}
		}
		all[a.node.key()] = w
	}
	return all
}

// viewOf returns how a node is seen by another one, if it is.
func (w testimony) viewOf(key string) (s sight, asServer, ok bool) {
	server, asServer := w.servers[key]
	slave, asSlave := w.slaves[key]
	switch {
	case asServer:
		s = sight{Unit: server, in: server.Sockets, out: slave.Sockets}
	case asSlave:
		s = sight{Unit: slave, out: slave.Sockets}
	}
	return s, asServer, asServer || asSlave
}

// compare puts what a node says about itself against what the others say about it.
func compare(key string, all map[string]testimony) checkedUnit {
	w := all[key]
	c := checkedUnit{self: w.self, views: map[string]sight{}, fromOut: map[string]sight{}}
	if w.down { // then the others are asked
		for other, o := range all {
			if s, asServer, ok := o.viewOf(key); ok && asServer {
				c.views[other] = s
			} else if ok {
				c.fromOut[other] = s
			}
		}
		for _, views := range []map[string]sight{c.fromOut, c.views} {
			if len(views) > 0 {
				first := views[slices.Min(slices.Collect(maps.Keys(views)))]
				c.self.BaseHash, c.self.PendingHash, c.self.Status = first.BaseHash, first.PendingHash, first.Status
			}
		}
	}
	add := func(others map[string]ringview.Unit, to map[string]sight) {
		for other := range others {
			if o := all[other]; o.down {
				continue
			} else if _, again := c.views[other]; again {
				continue
			}
			s, _, ok := all[other].viewOf(key)
			if !ok {
				s = unseen()
			}
			to[other] = s
		}
	}
	add(w.servers, c.views)
	add(w.slaves, c.fromOut)
	c.judge()
	return c
}

// judge marks what is not the same everywhere.
func (c *checkedUnit) judge() {
	in, out := 0, 0
	for _, views := range []map[string]sight{c.views, c.fromOut} {
		for _, s := range views {
			in, out = in+s.in, out+s.out
		}
	}
	if c.self.in != in {
		c.self.ins = differ
	}
	if c.self.out != out {
		c.self.outs = differ
	}
	c.result = max(c.self.ins, c.self.outs)
	mine := wordsOf(c.self.Status)
	for _, views := range []map[string]sight{c.views, c.fromOut} {
		for other, s := range views {
			theirs := wordsOf(s.Status)
			for i := range s.words {
				if word(mine, i) != word(theirs, i) {
					s.words[i], c.self.words[i], c.result = true, true, differ
				}
			}
			if s.BaseHash != c.self.BaseHash {
				s.base, c.self.base, c.result = differ, differ, differ
			}
			if s.PendingHash != c.self.PendingHash {
				s.pending, c.self.pending, c.result = warn, max(c.self.pending, warn), max(c.result, warn)
			}
			s.ins, s.outs = c.self.ins, c.self.outs
			views[other] = s
		}
	}
}

func word(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return ""
}

// mark paints what differs.
func (t *lineTool) mark(v verdict, text string) string {
	switch v {
	case warn:
		return paint(t.colour, bold+blink+onYellow, text)
	case differ:
		return paint(t.colour, bold+blink+onRed, text)
	}
	return text
}

// rows are the lines of one view of a node.
func (t *lineTool) rows(s sight) string {
	return fmt.Sprintf("    status            = %s\n    hash(pending)     = %s(%s)\n    sockcount(in/out) = %s/%s\n    lastupdatetime    = %s\n",
		t.statusWords(s.Status, s.words[:], "[DELETE]  "), t.mark(s.base, s.BaseHash), t.mark(s.pending, s.PendingHash),
		t.mark(s.ins, strconv.Itoa(s.in)), t.mark(s.outs, strconv.Itoa(s.out)), statusTime(s.StatusTime))
}

// printVerdict is a node in "check".
func (t *lineTool) printVerdict(b *strings.Builder, key string, c checkedUnit) {
	head := []string{paint(t.colour, onGreen, "OK") + "   ", paint(t.colour, bold+blink+onYellow, "WARN") + " ", paint(t.colour, bold+blink+onRed, "ERR") + "  "}[c.result]
	fmt.Fprintf(b, "%s%s = {\n%s}\n", head, paint(t.colour, bold, key), t.rows(c.self))
}

// printChecked is a node in "check" of that node alone.
func (t *lineTool) printChecked(b *strings.Builder, key string, c checkedUnit) {
	fmt.Fprintf(b, "%s = {\n  basis = {\n%s  }\n", paint(t.colour, bold, key), t.rows(c.self))
	for _, views := range []map[string]sight{c.views, c.fromOut} {
		for _, other := range slices.Sorted(maps.Keys(views)) {
			fmt.Fprintf(b, "  %s = {\n%s  }\n", paint(t.colour, bold, other), t.rows(views[other]))
		}
	}
	b.WriteString("}\n")
}
