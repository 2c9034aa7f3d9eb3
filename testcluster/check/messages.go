package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// judgeMessages judges the delivery contract.
func (j *judge) judgeMessages() {
	var missing []*message // nobody has taken them, and nobody was told
	for _, m := range j.messages {
		j.count(m)
		if !j.known(m) {
			continue
		}
		j.outcome(m)
		j.replies(m)
		if m.many() {
			j.copies(m)
			continue
		}
		j.repeats(m)
		if j.missing(m) {
			missing = append(missing, m)
		}
	}
	j.kept(missing)
	j.order()
	j.owners()
	j.standIns()
}

// count adds a message to the numbers.
func (j *judge) count(m *message) {
	n := &j.rep.Numbers
	if m.refused {
		n.Refused++
	}
	if !m.accepted {
		return
	}
	n.Messages++
	n.Kinds[m.kind]++
	n.Replies += m.outcomes[Replied]
	if len(m.takes) > 0 {
		n.Taken++
		j.wait(m, max(m.takes[0].atNs, m.outNs[Replied]))
	}
	if m.outcomes[Failed] > 0 {
		n.GivenUp++
	} else if m.outcomes[MaybeFailed] > 0 {
		n.MaybeGivenUp++
	}
}

// known judges that what was taken is what was sent. It reports whether there is
// anything else to judge.
func (j *judge) known(m *message) bool {
	if len(m.takes) == 0 {
		return m.accepted
	}
	t := m.takes[0]
	switch {
	case m.sender == nil:
		if !slices.Contains(j.Earlier, m.session.String()) {
			j.violated(Violation{Clause: Known, AtNs: t.atNs,
				Text: fmt.Sprintf("%v took %v of a session that no program of this round had", t.by, m.messageName)}, about(m, t.atNs))
		}
		return false
	case m.refused:
		j.violated(Violation{Clause: NotRefused, AtNs: t.atNs,
			Text: fmt.Sprintf("%v took %v, which was refused before it was accepted", t.by, m)}, about(m, t.atNs))
		return false
	case !m.accepted && !m.open:
		j.violated(Violation{Clause: Known, AtNs: t.atNs, Text: fmt.Sprintf("%v took %v, which was not sent", t.by, m)}, about(m, t.atNs))
		return false
	}
	for _, t := range m.takes {
		if t.hash != m.hash {
			j.violated(Violation{Clause: Known, AtNs: t.atNs,
				Text: fmt.Sprintf("%v took %v with hash %016x", t.by, m, t.hash)}, about(m, t.atNs))
			return false
		}
	}
	return true
}

// missing reports whether a message has neither been taken nor reported.
func (j *judge) missing(m *message) bool {
	switch {
	case !m.accepted || m.taken() || m.reported():
		return false
	case m.outcomes[Settled]+m.outcomes[Replied] > 0:
		return len(m.takes) > 0 // else judged as an outcome
	}
	return true
}

// kept judges messages that nobody has taken, the newest first: fewer programs
// can have taken those before they were killed.
func (j *judge) kept(missing []*message) {
	slices.SortStableFunc(missing, func(a, b *message) int { return cmp.Compare(b.sendNs, a.sendNs) })
	for _, m := range missing {
		switch {
		case j.gone(m):
			j.rep.Numbers.Gone++
		case j.untold(m):
			j.rep.Numbers.Untold++
		case j.unrecorded(m):
		default:
			j.rep.Numbers.Lost++
			j.violated(Violation{Clause: Kept, AtNs: m.sendNs,
				Text: fmt.Sprintf("%v, sent by %v, was accepted and never taken", m, m.sender)}, about(m, 0))
		}
	}
}

// tellWait is how long before its own end a program is told of a deadline in any case.
const tellWait = int64(time.Second)

// untold reports whether the deadline of a message may have passed with nobody
// left to be told: its sender was killed, or ended soon after.
func (j *judge) untold(m *message) bool {
	return m.expireNs != 0 && m.sender.endNs != 0 && (m.sender.killed || m.expireNs > m.sender.endNs-tellWait)
}

// gone reports whether the sending program has ended and then its node: no
// start of the node has lived from the program's last event on.
func (j *judge) gone(m *message) bool {
	if m.sender.endNs == 0 {
		return false
	}
	n := j.nodes[m.sender.Node]
	return n != nil && len(n.lives) > 0 && !slices.ContainsFunc(n.lives, func(s span) bool {
		return s.from <= m.sender.lastNs && s.to == math.MaxInt64
	})
}

// unrecorded reports whether a killed server program may have taken the message
// without writing it down, and uses that up: one for each of its goroutines.
func (j *judge) unrecorded(m *message) bool {
	for _, p := range j.programs {
		if p.unknown == 0 || p.endNs < m.sendNs || !j.mayHaveTaken(p, m) {
			continue
		}
		p.unknown--
		j.rep.Numbers.Unknown++
		return true
	}
	return false
}

// mayHaveTaken says whether a killed program may have taken a message, or may
// have been done with it, without a record of that.
func (j *judge) mayHaveTaken(p *program, m *message) bool {
	if p.AckOnDone {
		return slices.ContainsFunc(m.takes, func(t take) bool { return t.by == p })
	}
	n := j.nodes[p.Node]
	return n.traceNs == 0 || n.traceNs > m.sendNs || j.wasDelivered(n, m)
}

// outcome judges what senders were told.
func (j *judge) outcome(m *message) {
	bad := func(c Clause, at int64, format string, args ...any) {
		j.violated(Violation{Clause: c, AtNs: at, Text: fmt.Sprintf(format, args...)}, about(m, at))
	}
	if m.outcomes[Failed] > 0 && len(m.takes) > 0 {
		bad(NotDelivered, m.takes[0].atNs, "%v took %v, which was reported as not delivered", m.takes[0].by, m)
	}
	if at := m.outNs[Replied]; m.outcomes[Replied] > 0 &&
		!slices.ContainsFunc(m.takes, func(t take) bool { return t.atNs <= at }) {
		bad(Outcome, at, "%v was answered, and nobody had taken it", m)
	}
	if at := m.outNs[Settled]; m.outcomes[Settled] > 0 &&
		!slices.ContainsFunc(m.takes, func(t take) bool { return t.afterNs < at }) && !j.unrecorded(m) {
		bad(Outcome, at, "%v was reported as taken, and nobody had taken it", m)
	}
	if m.many() {
		return
	}
	ended := min(m.outcomes[Replied], 1) + m.outcomes[Settled] + m.outcomes[Failed] + m.outcomes[MaybeFailed]
	if ended > 1 {
		last := max(m.outNs[Replied], m.outNs[Settled], m.outNs[Failed], m.outNs[MaybeFailed])
		bad(Outcome, last, "%v has ended %d times: %d settled, %d answered, %d not delivered, %d perhaps delivered", m, ended,
			m.outcomes[Settled], min(m.outcomes[Replied], 1), m.outcomes[Failed], m.outcomes[MaybeFailed])
	}
}

// replies judges that there are no more replies than receivers.
func (j *judge) replies(m *message) {
	most := 1
	if m.many() {
		most = math.MaxInt // a node that is started again counts anew
		if m.told && !j.nodes[m.sender.Node].ended(m.sendNs, math.MaxInt64) {
			most = m.count
		}
	}
	if n := m.outcomes[Replied]; n > most {
		j.violated(Violation{Clause: OneReply, AtNs: m.outNs[Replied],
			Text: fmt.Sprintf("%v has %d replies, at most %d are right", m, n, most)}, about(m, 0))
	}
}

// wait attributes the time that a message waited to the faults of that time.
func (j *judge) wait(m *message, until int64) {
	d := time.Duration(until - m.sendNs)
	if d <= 0 {
		return
	}
	if d >= slowest && d > j.slowestFor {
		j.slowest, j.slowestFor = m, d
	}
	kinds := map[string]bool{}
	for _, f := range j.Faults {
		if f.AtNs <= until && (f.UntilNs == 0 || f.UntilNs >= m.sendNs) {
			kinds[f.Kind] = true
		}
	}
	if len(kinds) == 0 {
		kinds["none"] = true
	}
	for kind := range kinds {
		w := j.rep.Numbers.Waits[kind]
		w.Longest = max(w.Longest, d)
		if len(kinds) == 1 {
			w.Alone = max(w.Alone, d)
		}
		j.rep.Numbers.Waits[kind] = w
	}
}
