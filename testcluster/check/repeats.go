package check

import (
	"fmt"
	"math"
	"slices"

	"github.com/chmpx/chmpx/wire"
)

// repeats judges the takes of a message to one receiver after the first.
func (j *judge) repeats(m *message) {
	if len(m.takes) > 1 {
		j.again(m, m.takes)
	}
}

// copies judges a message to many: per server as a message to one, and how
// many servers took it.
func (j *judge) copies(m *message) {
	byNode := map[string][]take{}
	for _, t := range m.takes {
		byNode[t.by.Node] = append(byNode[t.by.Node], t)
	}
	for _, takes := range byNode {
		if len(takes) > 1 {
			j.again(m, takes)
		}
	}
	if !m.told || !m.accepted {
		return
	}
	sender := j.nodes[m.sender.Node]
	switch missing := m.count - len(byNode); {
	case missing < 0 && !sender.ended(m.sendNs, m.takes[len(m.takes)-1].atNs):
		j.violated(Violation{Clause: Copies, AtNs: m.takes[len(m.takes)-1].atNs,
			Text: fmt.Sprintf("%v went to %d servers and was taken on %d", m, m.count, len(byNode))}, about(m, 0))
	case missing > 0 && !m.reported() && !j.gone(m) && !j.untold(m):
		for _, n := range j.nodes {
			if n.server && byNode[n.name] == nil && n.wasSick(m.sendNs) {
				missing--
			}
		}
		for ; missing > 0 && j.unrecorded(m); missing-- {
		}
		if missing > 0 {
			j.rep.Numbers.Lost++
			j.violated(Violation{Clause: Copies, AtNs: m.sendNs,
				Text: fmt.Sprintf("%v went to %d servers and was taken on %d; %d of the others were in service all the time",
					m, m.count, len(byNode), missing)}, about(m, 0))
		}
	}
}

// wasSick reports whether a server was out of service at some time after from.
func (n *node) wasSick(from int64) bool {
	return slices.ContainsFunc(n.sick, func(s span) bool { return s.meets(from, math.MaxInt64) })
}

// again judges more than one take, by servers or on one server, in order of time.
func (j *judge) again(m *message, takes []take) {
	n := &j.rep.Numbers
	unmarked, bad := 0, false
	for i, t := range takes {
		switch {
		case t.marked && i > 0:
			n.Repeated++
		case t.marked:
		case unmarked == 0 && (i == 0 || t.afterNs < takes[0].atNs):
			unmarked++ // the first, or it may have been
		case unmarked == 0 && j.stoodForBefore(t, takes[:i]):
			unmarked++
			n.StoodIn++
		case j.nodes[t.by.Node].unaware(t.afterNs, t.atNs):
			n.Unmarked++
			n.Unaware++
		case unmarked == 0 && m.kind != wire.KindHash && j.nodes[m.sender.Node].ended(m.sendNs, t.atNs):
			unmarked++ // docs/delivery.md: of two takes the one without mark can be the later
		default:
			n.Unmarked++
			bad = true
			j.violated(Violation{Clause: Marked, AtNs: t.atNs,
				Text: fmt.Sprintf("%v took %v without mark, %v had taken it %v before", t.by, m, takes[0].by, millis(t.atNs-takes[0].atNs))},
				about(m, t.atNs))
		}
	}
	if last := takes[len(takes)-1]; !bad && !j.cause(m, takes) {
		j.violated(Violation{Clause: Cause, AtNs: last.atNs,
			Text: fmt.Sprintf("%v took %v again, marked, though nothing had ended or was declared DOWN that it had to do with",
				last.by, m)}, about(m, last.atNs))
	}
}

// cause reports whether there is a reason for a message to have been taken more
// than once: between its sending and the last take its sender's node ended, a
// server that took it ended, forgot the session, stood in for another one, or was declared DOWN, as far as
// its sender's node knew, or a program that takes by Done ended or was cut off.
// Copies do not care for the end of servers.
func (j *judge) cause(m *message, takes []take) bool {
	from, to := m.sendNs, takes[len(takes)-1].atNs
	sender := j.nodes[m.sender.Node]
	if sender.ended(from, to) {
		return true
	}
	return slices.ContainsFunc(takes, func(t take) bool {
		n := j.nodes[t.by.Node]
		if t.by.AckOnDone && t.by.endNs != 0 && (span{t.by.endNs - endSlack, t.by.endNs}).meets(from, to) {
			return true
		}
		if n == nil {
			return false
		}
		if slices.ContainsFunc(n.evicted, func(s span) bool { return s.meets(from, to) }) {
			return true
		}
		if t.by.AckOnDone && n.stoodInFor(nil, from, to) {
			return true // programs that hold what is another server's are cut off at its end
		}
		return !m.many() && (n.ended(from, to) || n.stoodInFor(nil, from, to) || n.declaredDown(from, to, sender))
	})
}
