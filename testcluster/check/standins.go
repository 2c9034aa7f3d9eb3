package check

import (
	"fmt"
	"math"
	"slices"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// stoodIn is a stretch of time in which a node stood in for another one, by its trace.
type stoodIn struct {
	span
	of  ring.ID
	inc ring.Incarnation // of that one
}

// inPlace is a message that a node gave to a program in the place of another one.
type inPlace struct {
	atNs int64
	of   ring.ID
}

// owned is what a node's table says about it, by its trace.
type owned struct {
	atNs    int64
	lacks   bool // data of slots that it owns
	nothing bool // it owns no slot
	sum     uint32
}

// admission is when a process came to know its incarnation, by its trace.
type admission struct {
	atNs int64
	inc  ring.Incarnation
}

// learnStandIn takes from a node's trace what stand-ins are judged by.
func (j *judge) learnStandIn(n *node, e *fault.Event) {
	if !j.StandIns {
		return
	}
	switch e.What {
	case fault.StandIn:
		n.stoodIn = append(n.stoodIn, stoodIn{span{e.AtNs, math.MaxInt64}, ring.ID(e.Peer), ring.Incarnation(e.Hash)})
	case fault.StandInOver, fault.Started:
		for i := range n.stoodIn {
			if s := &n.stoodIn[i]; s.to == math.MaxInt64 && (s.of == ring.ID(e.Peer) || e.What == fault.Started) {
				s.to = e.AtNs
			}
		}
	case fault.InPlace:
		j.learnInPlace(n, e)
	case fault.TableInstalled:
		n.owned = append(n.owned, owned{e.AtNs, e.Flags&1 != 0, e.Flags&2 != 0, e.Attempt})
	}
}

// learnInPlace judges that what a node gives in the place of another one is marked.
func (j *judge) learnInPlace(n *node, e *fault.Event) {
	name := messageName{e.Session, e.Seq}
	m := j.byName[name]
	if m == nil || m.sender == nil {
		return
	}
	if n.inPlace == nil {
		n.inPlace = map[messageName][]inPlace{}
	}
	n.inPlace[name] = append(n.inPlace[name], inPlace{e.AtNs, ring.ID(e.Peer)})
	if e.Flags&uint16(wire.FlagMaybeRepeat) == 0 {
		j.violated(Violation{Clause: Marked, AtNs: e.AtNs,
			Text: fmt.Sprintf("%s gave its program %v in the place of %s without mark", n.name, m, j.nameOf(ring.ID(e.Peer)))}, about(m, e.AtNs))
	}
}

// stoodInFor reports whether a program of n may have taken something in the place
// of another node in a stretch of time; of nil: of any. A program that is cut off when that is
// over may take until it notices.
func (n *node) stoodInFor(of *node, from, to int64) bool {
	return n != nil && slices.ContainsFunc(n.stoodIn, func(s stoodIn) bool {
		return (of == nil || s.of == of.id) && s.meetsLate(from, to)
	})
}

// meetsLate is meets, and reckons with a program that is cut off at the end.
func (s stoodIn) meetsLate(from, to int64) bool {
	end := s.to
	if end < math.MaxInt64-cutOffSlack {
		end += cutOffSlack
	}
	return span{s.from, end}.meets(from, to)
}

// besideEachOther reports whether two takes of one hash are right beside each other because
// the node of one of them stood in for the other when it took, and said so to its
// program by the mark.
func besideEachOther(a, b ownedTake) bool {
	in := func(a, b ownedTake) bool { return a.marked && a.node.stoodInFor(b.node, a.afterNs, a.atNs) }
	return in(a, b) || in(b, a)
}

// stoodForBefore reports whether a message that t took was taken before by a node
// that stood in for t's: that one may have had it all the time, and cannot know.
func (j *judge) stoodForBefore(t take, before []take) bool {
	n := j.nodes[t.by.Node]
	return n != nil && slices.ContainsFunc(before, func(b take) bool {
		return b.marked && j.nodes[b.by.Node].stoodInFor(n, b.afterNs, b.atNs)
	})
}

// foreign is a take in the place of the node that owned the hash.
type foreign struct {
	take
	m     *message
	node  *node
	owner *node
	in    *stoodIn
}

// standIns judges that the ring has learned, after a node took in the place of
// another one, that one of the two lacks data.
func (j *judge) standIns() {
	byHash := map[uint64][]foreign{}
	first := map[*stoodIn]foreign{}
	for _, m := range j.messages {
		for _, t := range m.takes {
			f, ok := j.foreign(m, t)
			if !ok {
				continue
			}
			byHash[m.hash] = append(byHash[m.hash], f)
			if was, known := first[f.in]; !known || f.atNs < was.atNs {
				first[f.in] = f
			}
		}
	}
	shown := map[*stoodIn]bool{}
	for _, m := range j.messages {
		if m.kind != wire.KindHash {
			continue
		}
		for _, t := range m.takes {
			for _, f := range byHash[m.hash] {
				if !shown[f.in] && j.actedBehind(f, m, t) {
					shown[f.in] = true
				}
			}
		}
	}
	for _, n := range j.nodes {
		for i := range n.stoodIn {
			if f, ok := first[&n.stoodIn[i]]; ok && !shown[f.in] {
				j.settledAfter(f)
			}
		}
	}
}

// foreign says in whose place a message was taken, if in anybody's.
func (j *judge) foreign(m *message, t take) (foreign, bool) {
	n := j.nodes[t.by.Node]
	if n == nil {
		return foreign{}, false
	}
	for _, g := range slices.Backward(n.inPlace[m.messageName]) {
		owner := j.byID[g.of]
		if g.atNs > t.atNs || owner == nil {
			continue
		}
		for i := range n.stoodIn {
			if s := &n.stoodIn[i]; s.of == g.of && s.meets(g.atNs, g.atNs) && s.meetsLate(t.afterNs, t.atNs) {
				return foreign{t, m, n, owner, s}, true
			}
		}
	}
	return foreign{}, false
}

// actedBehind judges that a server that had ended when another one took in its
// place does not act for the same hash, when it is back, before it has lacked data. It
// returns true if it does.
func (j *judge) actedBehind(f foreign, m *message, t take) bool {
	a := f.owner
	if t.by.Node != a.name || t.afterNs <= f.atNs {
		return false
	}
	ended, ok := a.endOf(f.in.inc)
	if !ok || ended >= f.afterNs || a.incarnationAt(t.afterNs) <= f.in.inc {
		return false
	}
	if _, also := j.foreign(m, t); also || a.caughtUp(ended, t.atNs) {
		return false
	}
	if f.node.unheard(ended, t.atNs) {
		j.rep.Numbers.Unheard++
		return true
	}
	s := about(m, t.atNs)
	s.messages = append(s.messages, f.m)
	j.violated(Violation{Clause: Behind, AtNs: t.atNs, Text: fmt.Sprintf("%v took %v and never lacked data after %v had taken for this hash in its place, %v earlier",
		t.by, m, f.by, millis(t.atNs-f.atNs))}, s)
	return true
}

// settledAfter judges that after a stand-in in which something was taken one of
// the two servers lacks data at some time, unless slots have moved meanwhile.
func (j *judge) settledAfter(f foreign) {
	n, from := f.node, f.in.from
	if n.caughtUp(from, j.EndNs) || f.owner.caughtUp(from, j.EndNs) || n.moved(from, j.EndNs) || f.owner.moved(from, j.EndNs) {
		return
	}
	if n.emptied(from) {
		j.rep.Numbers.Unheard++
		return
	}
	j.violated(Violation{Clause: Behind, AtNs: f.atNs, Text: fmt.Sprintf("%v took %v in the place of %s, and the ring never had one of the two for lacking data",
		f.by, f.m, f.owner.name)}, about(f.m, f.atNs))
}

// endOf returns when the process ended that had an incarnation, if it has.
func (n *node) endOf(inc ring.Incarnation) (int64, bool) {
	for _, a := range n.admissions {
		for _, l := range n.lives {
			if a.inc == inc && l.meets(a.atNs, a.atNs) && l.to != math.MaxInt64 {
				return l.to, true
			}
		}
	}
	return 0, false
}

// incarnationAt returns the incarnation of the node's process at a time, 0: none that is known.
func (n *node) incarnationAt(at int64) (inc ring.Incarnation) {
	for _, a := range n.admissions {
		if a.atNs <= at {
			inc = a.inc
		}
	}
	return inc
}

// caughtUp reports whether the node lacked data, or owned nothing, at some time in between.
func (n *node) caughtUp(from, to int64) bool {
	return slices.ContainsFunc(n.owned, func(o owned) bool { return o.atNs > from && o.atNs <= to && (o.lacks || o.nothing) })
}

// moved reports whether slots had other owners at some time in between than before.
func (n *node) moved(from, to int64) bool {
	var was *owned
	for i := range n.owned {
		switch o := &n.owned[i]; {
		case o.atNs <= from:
			was = o
		case o.atNs <= to && (was == nil || o.sum != was.sum):
			return true
		}
	}
	return false
}

// unheard reports whether the ring may not have heard a node's notes in time:
// it had ended, or was DOWN.
func (n *node) unheard(from, to int64) bool {
	return n.ended(from, to) || n.declaredDown(from, to, nil)
}

// emptied reports whether the node lost its disk after a time.
func (n *node) emptied(from int64) bool {
	return slices.ContainsFunc(n.empty, func(at int64) bool { return at > from })
}

// standInLines returns who stood in for whom in a stretch of time.
func (j *judge) standInLines(from, to int64) []Line {
	var lines []Line
	for _, n := range j.nodes {
		for _, s := range n.stoodIn {
			for _, l := range []Line{
				{AtNs: s.from, Text: fmt.Sprintf("stands in for %s, incarnation %d", j.nameOf(s.of), s.inc)},
				{AtNs: s.to, Text: fmt.Sprintf("stands in for %s no longer", j.nameOf(s.of))},
			} {
				if (span{from, to}).meets(l.AtNs, l.AtNs) {
					l.Group, l.Where = groupRing, n.name
					lines = append(lines, l)
				}
			}
		}
		for i, o := range n.owned {
			if o.lacks && (i == 0 || !n.owned[i-1].lacks) && (span{from, to}).meets(o.atNs, o.atNs) {
				lines = append(lines, Line{AtNs: o.atNs, Group: groupRing, Where: n.name, Text: "lacks data by its table"})
			}
		}
	}
	return lines
}
