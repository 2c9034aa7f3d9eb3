package check

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// span is a stretch of time, both ends included.
type span struct{ from, to int64 }

func (s span) meets(from, to int64) bool { return s.from <= to && from <= s.to }

// node is what is known about one node: its starts, and what the ring and it
// itself said about it.
type node struct {
	name   string
	id     ring.ID
	server bool           // it had server programs, or is a server of the ring
	lives  []span         // starts of its process; to: math.MaxInt64 if it lives
	obs    []*Observation // its own answers, in order of time
	downs  []down         // when the ring took it for DOWN, in order of versions
	// sick are the times in which it was not UP and in service, as far as that
	// is seen: copies for it may have been given up.
	sick    []span
	evicted []span // when it forgot sessions
	epochs  epochs
	traceNs int64 // since when its trace has everything, 0: it has none

	admissions []admission // by its trace, in order of time
	empty      []int64     // when it was started with an empty disk
	// Where servers may stand in for each other:
	stoodIn []stoodIn
	inPlace map[messageName][]inPlace // what it gave in the place of others, in order of time
	owned   []owned                   // in order of time
}

// down is one time at which a node came to know that the ring had declared a
// server DOWN, by its status or by another incarnation. Nobody acts on it before.
type down struct {
	span           // from the last answer without it to the first one with it
	version uint64 // of the first table seen that shows it
	knownNs int64  // from when on its own node knew, math.MaxInt64: never seen to
}

const (
	// endSlack is how much earlier a process may have ended than it was seen to.
	endSlack = int64(300 * time.Millisecond)
	// cutOffSlack is how long a program may need to notice that it is cut off.
	cutOffSlack = int64(time.Second)
)

// learn collects what is known about nodes.
func (j *judge) learn() {
	j.nodes, j.byID = map[string]*node{}, map[ring.ID]*node{}
	for _, p := range j.Processes {
		if p.Program {
			continue
		}
		to := p.EndNs
		if to == 0 {
			to = math.MaxInt64
		}
		n := j.node(p.Name)
		n.lives = append(n.lives, span{p.StartNs, to})
		if p.Empty {
			n.empty = append(n.empty, p.StartNs)
		}
	}
	for _, p := range j.programs {
		n := j.node(p.Node)
		n.server = n.server || p.Server
	}
	for i := range j.Observations {
		o := &j.Observations[i]
		n := j.node(o.Node)
		n.obs = append(n.obs, o)
		n.id = ring.ID(o.State.ID)
		j.byID[n.id] = n
	}
	for _, n := range j.nodes {
		slices.SortFunc(n.lives, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		slices.SortStableFunc(n.obs, func(a, b *Observation) int { return cmp.Compare(a.DoneNs, b.DoneNs) })
		n.epochs.observe(n.obs)
	}
	j.learnTraces()
	j.learnDowns()
}

func (j *judge) node(name string) *node {
	n := j.nodes[name]
	if n == nil {
		n = &node{name: name}
		j.nodes[name] = n
	}
	return n
}

// learnDowns finds out when servers were DOWN, not in service, or forgot sessions.
func (j *judge) learnDowns() {
	for _, seer := range j.nodes {
		var newest *Observation // by version: a node that was started again shows old ones once more
		for i, o := range seer.obs {
			if i > 0 && o.State.Data.Counters.Evicted > seer.obs[i-1].State.Data.Counters.Evicted {
				seer.evicted = append(seer.evicted, span{seer.obs[i-1].AtNs, o.DoneNs})
			}
			if newest == nil || o.State.RingID != newest.State.RingID || o.State.Version > newest.State.Version {
				if newest != nil && o.State.RingID == newest.State.RingID {
					j.learnChanges(newest, o, span{seer.obs[i-1].AtNs, o.DoneNs})
				}
				newest = o
			}
		}
		for _, o := range seer.obs {
			for _, s := range o.State.Servers {
				n := j.byID[ring.ID(s.ID)]
				if n == nil {
					continue
				}
				n.server = true
				if !strings.Contains(s.Status, "[SERVICE IN][UP]") || strings.Contains(s.Status, "[ADD]") {
					n.sick = append(n.sick, span{o.AtNs, o.DoneNs})
				}
			}
		}
	}
	for _, n := range j.nodes {
		slices.SortFunc(n.downs, func(a, b down) int { return cmp.Compare(a.version, b.version) })
		for i := range n.downs {
			n.downs[i].knownNs = n.knows(n.downs[i].version)
			n.sick = append(n.sick, n.downs[i].span)
		}
		for i, l := range n.lives {
			if l.to != math.MaxInt64 {
				n.sick = append(n.sick, span{l.to - endSlack, n.backAfter(i)})
			}
		}
	}
}

// backAfter returns until when the end of a process may cost copies: until the next one was
// admitted, by its trace, or else began.
func (n *node) backAfter(life int) int64 {
	if life+1 == len(n.lives) {
		return n.lives[life].to
	}
	next := n.lives[life+1]
	for _, a := range n.admissions {
		if a.inc != 0 && next.meets(a.atNs, a.atNs) {
			return a.atNs
		}
	}
	return next.from
}

// learnChanges compares two answers of one node, the later of which was the
// first with its version or a newer one.
func (j *judge) learnChanges(before, after *Observation, seen span) {
	for _, s := range after.State.Servers {
		n := j.byID[ring.ID(s.ID)]
		was := serverOf(&before.State, ring.ID(s.ID))
		if n == nil || was == nil || was.Incarnation == 0 {
			continue
		}
		wentDown := strings.Contains(was.Status, "[UP]") && strings.Contains(s.Status, "[DOWN]")
		if wentDown || was.Incarnation != s.Incarnation && strings.Contains(was.Status, "[UP]") {
			n.downs = append(n.downs, down{span: seen, version: after.State.Version})
		}
	}
}

// knows returns from when on a node is known to know a version of the ring.
func (n *node) knows(version uint64) int64 {
	for _, o := range n.obs {
		if o.State.Version >= version {
			return o.DoneNs
		}
	}
	return math.MaxInt64
}

// ended reports whether the node's process ended in a stretch of time.
func (n *node) ended(from, to int64) bool {
	return n != nil && slices.ContainsFunc(n.lives, func(l span) bool {
		return l.to != math.MaxInt64 && span{l.to - endSlack, l.to}.meets(from, to)
	})
}

// declaredDown reports whether the ring took the node for DOWN in a stretch of
// time, or before and the sender came to know of it only then.
func (n *node) declaredDown(from, to int64, sender *node) bool {
	return n != nil && slices.ContainsFunc(n.downs, func(d down) bool {
		known := d.to
		if sender != nil {
			known = max(known, sender.knows(d.version))
		}
		return span{d.from, known}.meets(from, to)
	})
}

// unaware reports whether a program of the node may have taken something in a
// stretch of time although the ring had replaced the node, because neither knew.
func (n *node) unaware(from, to int64) bool {
	if n == nil {
		return false
	}
	late := func(known int64) int64 { // when the program knows
		if known > math.MaxInt64-cutOffSlack {
			return math.MaxInt64
		}
		return known + cutOffSlack
	}
	return slices.ContainsFunc(n.downs, func(d down) bool { return span{d.from, late(d.knownNs)}.meets(from, to) }) ||
		slices.ContainsFunc(n.lives, func(l span) bool {
			return l.to != math.MaxInt64 && span{l.to - endSlack, late(l.to)}.meets(from, to)
		})
}

// ran reports whether one process of the node answered the harness all through
// a stretch of time.
func (n *node) ran(from, to int64) bool {
	if n == nil || n.ended(from, to+endSlack) {
		return false
	}
	for i, o := range n.obs {
		switch {
		case o.DoneNs < from:
			continue
		case i == 0 || o.DoneNs-n.obs[i-1].DoneNs > gapNs: // also while it was asked: it may have been stopped
			return false
		case o.DoneNs >= to:
			return true
		}
	}
	return false
}

func serverOf(s *State, id ring.ID) *ServerState {
	for i := range s.Servers {
		if ring.ID(s.Servers[i].ID) == id {
			return &s.Servers[i]
		}
	}
	return nil
}
