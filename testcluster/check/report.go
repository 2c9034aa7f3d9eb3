package check

import (
	"maps"
	"slices"
	"time"

	"github.com/chmpx/chmpx/wire"
)

// Clause is one thing that is promised.
type Clause string

// The clauses. DESIGN.md says for each what is judged and what is excused.
const (
	Kept         Clause = "kept"          // an accepted message was never taken, and nobody was told
	Known        Clause = "known"         // a message was taken that nobody sent, or another one than was sent
	NotRefused   Clause = "not refused"   // a message was taken whose sender was told that it was not accepted
	Marked       Clause = "marked"        // a message was taken again without mark
	Cause        Clause = "cause"         // a message was taken again for no reason
	Order        Clause = "order"         // messages of one session and hash were first taken in another order
	OneOwner     Clause = "one owner"     // two servers took for a hash beside each other
	NotDelivered Clause = "not delivered" // a message was taken that was reported as not delivered
	Outcome      Clause = "outcome"       // a report of success without a take, or more than one report
	Behind       Clause = "behind"        // a server acts, and lacks what another one took in its place
	OneReply     Clause = "one reply"     // more replies than receivers
	Copies       Clause = "copies"        // a message to many was taken by too few or too many

	Forward      Clause = "forward"      // an epoch, version, term or incarnation went back
	Current      Clause = "current"      // a node routed by an old table, though it had known a newer one for long
	Agreement    Clause = "agreement"    // two nodes showed the same version of the ring differently
	Incarnation  Clause = "incarnation"  // two process starts had the same incarnation
	Safe         Clause = "safe"         // a status is NOT SAFE
	OneMerge     Clause = "one merge"    // two merges ran beside each other
	Linearizable Clause = "linearizable" // commands and reads have no order in which they make sense
	Answered     Clause = "answered"     // a command or read had no answer for too long, though its node ran
	Bounded      Clause = "bounded"      // a node uses more than at the start
	Alive        Clause = "alive"        // a process ended that nobody had ended
)

// Slow is no promise: it heads the timeline of the message of a round that
// waited longest, if that was long.
const Slow Clause = "slow"

// slowest is a wait that is worth a look.
const slowest = 15 * time.Second

// Clauses lists all clauses in the order of reports.
func Clauses() []Clause {
	return []Clause{Kept, Known, NotRefused, Marked, Cause, Order, OneOwner, Behind, NotDelivered, Outcome, OneReply, Copies,
		Forward, Current, Agreement, Incarnation, Safe, OneMerge, Linearizable, Answered, Bounded, Alive}
}

// Report is what Judge found. Its zero value is the report about nothing.
type Report struct {
	Name       string
	Numbers    Numbers
	Count      map[Clause]int // violations, all of them
	Violations []Violation    // the first of each clause, in full
	Notes      []string       // what could not be judged, and why
}

// OK reports whether nothing was violated.
func (r *Report) OK() bool { return len(r.Count) == 0 }

// Numbers count what was judged.
type Numbers struct {
	Rounds       int
	Messages     int // accepted
	Kinds        map[wire.Kind]int
	Refused      int // not accepted, and told so
	Taken        int // messages that were taken, at least once
	Repeated     int // takes after the first, marked
	Unmarked     int // takes after the first, without mark: violations and Unaware together
	Reordered    int // first takes that came too late
	Lost         int // accepted, not taken, not told
	Gone         int // not taken, but program and node of the sender had both ended
	Untold       int // not taken, with a deadline, and the sender had ended: nobody could be told
	Unknown      int // not on record as taken, but a killed program may have taken it
	StoodIn      int // takes beside those of a server that was stood in for
	Unheard      int // stand-ins whose notes may not have been heard in time
	Unaware      int // takes by programs of a server that was DOWN and may not have known it
	GivenUp      int // told as not delivered
	MaybeGivenUp int // told as perhaps not delivered
	Replies      int
	Observations int
	Ops          int
	OpsDone      int           // of these, those that were answered as done
	OpsUnknown   int           // of these, those that may or may not have happened
	LongestOp    time.Duration // of those whose nodes ran
	Undecided    int           // parts of the operators' history that could not be judged in time
	Faults       map[string]int
	Waits        map[string]Wait // per kind of fault; "none" for what waited without any
	Judging      time.Duration
}

// Wait says how long messages waited during one kind of fault.
type Wait struct {
	Longest time.Duration // of all messages during such a fault
	Alone   time.Duration // of those during no other kind
}

// Violation is one broken promise.
type Violation struct {
	Clause Clause
	Text   string // one line
	Round  string
	AtNs   int64  // when it shows
	Lines  []Line // what happened around it, in order of time
	Page   []byte // HTML of its own that shows it, nil: none
}

// The groups of lines.
const (
	groupProgram = "program"
	groupFrame   = "frame"
	groupFault   = "fault"
	groupRing    = "ring"
	groupCommand = "command"
	groupLeftOut = "left out"
)

// Line is one line of a timeline.
type Line struct {
	AtNs  int64
	Group string // "program", "frame", "fault", "ring", "command"
	Where string
	Text  string
	Here  bool // the line that breaks the clause
}

// violationsMax bounds the violations of one clause that are kept in full.
const violationsMax = 4

// Add adds the report of another round.
func (r *Report) Add(o Report) {
	if r.Count == nil {
		r.Count = map[Clause]int{}
	}
	for _, v := range o.Violations {
		kept := 0
		for i := range r.Violations {
			if r.Violations[i].Clause == v.Clause {
				kept++
			}
		}
		if kept < violationsMax {
			r.Violations = append(r.Violations, v)
		}
	}
	for c, n := range o.Count {
		r.Count[c] += n
	}
	for _, n := range o.Notes {
		if !slices.Contains(r.Notes, n) {
			r.Notes = append(r.Notes, n)
		}
	}
	r.Numbers.add(&o.Numbers)
}

func (n *Numbers) add(o *Numbers) {
	sums := func(m *Numbers) []*int {
		return []*int{&m.Rounds, &m.Messages, &m.Refused, &m.Taken, &m.Repeated, &m.Unmarked, &m.Reordered, &m.Lost, &m.Gone, &m.Untold,
			&m.Unknown, &m.StoodIn, &m.Unheard, &m.Unaware, &m.GivenUp, &m.MaybeGivenUp, &m.Replies, &m.Observations, &m.Ops, &m.OpsDone, &m.OpsUnknown, &m.Undecided}
	}
	from := sums(o)
	for i, to := range sums(n) {
		*to += *from[i]
	}
	n.Judging += o.Judging
	n.LongestOp = max(n.LongestOp, o.LongestOp)
	n.Kinds = plus(n.Kinds, o.Kinds)
	n.Faults = plus(n.Faults, o.Faults)
	if n.Waits == nil {
		n.Waits = map[string]Wait{}
	}
	for kind, w := range o.Waits {
		n.Waits[kind] = Wait{max(w.Longest, n.Waits[kind].Longest), max(w.Alone, n.Waits[kind].Alone)}
	}
}

// plus returns the sum of two counts; a is changed.
func plus[K comparable](a, b map[K]int) map[K]int {
	if a == nil {
		return maps.Clone(b)
	}
	for k, n := range b {
		a[k] += n
	}
	return a
}
