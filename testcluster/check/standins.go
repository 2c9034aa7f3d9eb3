package check

import (
	"math"
	"slices"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// stoodIn is a stretch of time in which a node stood in for another one, by its trace.
type stoodIn struct {
	span
	of ring.ID
}

// learnStandIn takes a stand-in over from a node's trace.
func (n *node) learnStandIn(e *fault.Event) {
	open := func(s stoodIn) bool {
		return s.to == math.MaxInt64 && (s.of == ring.ID(e.Peer) || e.What == fault.Started)
	}
	switch e.What {
	case fault.StandIn:
		n.stoodIn = append(n.stoodIn, stoodIn{span{e.AtNs, math.MaxInt64}, ring.ID(e.Peer)})
	case fault.StandInOver, fault.Started:
		for i := range n.stoodIn {
			if open(n.stoodIn[i]) {
				n.stoodIn[i].to = e.AtNs
			}
		}
	}
}

// stoodInFor reports whether a program of n may have taken something in the place
// of another node in a stretch of time; of nil: of any. A program that is cut off when that is
// over may take until it notices.
func (n *node) stoodInFor(of *node, from, to int64) bool {
	return n != nil && slices.ContainsFunc(n.stoodIn, func(s stoodIn) bool {
		end := s.to
		if end < math.MaxInt64-cutOffSlack {
			end += cutOffSlack
		}
		return (of == nil || s.of == of.id) && (span{s.from, end}).meets(from, to)
	})
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
