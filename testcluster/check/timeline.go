package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// story says what belongs on the timeline of a violation.
type story struct {
	messages []*message
	from, to int64  // faults and changes of the ring that meet it
	at       int64  // the moment that breaks the clause, 0: none
	lines    []Line // others that belong to it
}

// storyMargin is how much before and after its own events a story looks.
const storyMargin = int64(200 * time.Millisecond)

// linesMax bounds a timeline: the middle of a longer one is left out.
const linesMax = 200

// about is the story of one message.
func about(m *message, at int64) story { return story{messages: []*message{m}, at: at} }

// tell draws the timelines of all violations that are kept. Each trace is read once.
func (j *judge) tell() {
	if len(j.stories) == 0 {
		return
	}
	wanted := map[messageName]bool{}
	for _, s := range j.stories {
		for _, m := range s.messages {
			wanted[m.messageName] = true
		}
	}
	programs := j.eventsOf(wanted)
	frames := j.framesOf(wanted)
	for i := range j.stories {
		s := &j.stories[i]
		lines := slices.Clone(s.lines)
		for _, m := range s.messages {
			lines = append(append(lines, programs[m.messageName]...), frames[m.messageName]...)
		}
		from, to := s.from, s.to
		for _, l := range lines {
			if from == 0 || l.AtNs < from {
				from = l.AtNs
			}
			to = max(to, l.AtNs)
		}
		lines = append(lines, j.faultLines(from-storyMargin, to+storyMargin)...)
		lines = append(lines, j.ringLines(from-storyMargin, to+storyMargin)...)
		lines = append(lines, j.standInLines(from-storyMargin, to+storyMargin)...)
		for k := range lines {
			lines[k].Here = lines[k].Here || s.at != 0 && lines[k].AtNs == s.at && lines[k].Group == groupProgram
		}
		slices.SortStableFunc(lines, func(a, b Line) int { return cmp.Compare(a.AtNs, b.AtNs) })
		j.rep.Violations[i].Lines = shorten(lines)
	}
}

// shorten leaves the middle of a long timeline out, but not what breaks the clause.
func shorten(lines []Line) []Line {
	if len(lines) <= linesMax {
		return lines
	}
	left := len(lines) - linesMax
	var short []Line
	for i, l := range lines {
		switch middle := i >= linesMax/2 && i < linesMax/2+left; {
		case i == linesMax/2:
			short = append(short, Line{AtNs: l.AtNs, Group: groupLeftOut, Text: fmt.Sprintf("about %d lines", left)})
			fallthrough
		case middle:
			if l.Here {
				short = append(short, l)
			}
		default:
			short = append(short, l)
		}
	}
	return short
}

// eventsOf returns what programs wrote down about some messages.
func (j *judge) eventsOf(wanted map[messageName]bool) map[messageName][]Line {
	lines := map[messageName][]Line{}
	for _, p := range j.programs {
		for i := range p.Events {
			e := &p.Events[i]
			if n := (messageName{e.Session, e.Seq}); wanted[n] {
				lines[n] = append(lines[n], Line{AtNs: e.AtNs, Group: groupProgram, Where: p.String(), Text: j.eventText(e)})
			}
		}
	}
	return lines
}

func (p *program) String() string { return p.Program + "@" + p.Node }

var whats = [...]string{Sending: "sends", Accepted: "accepted", Refused: "refused, not accepted", Settled: "told: taken",
	Replied: "got the reply", Failed: "told: not delivered", MaybeFailed: "told: perhaps delivered", Receivers: "told: receivers",
	Taken: "TAKES", Done: "is done with", Answer: "answered"}

// String returns words for people.
func (w What) String() string {
	if int(w) >= len(whats) || whats[w] == "" {
		return fmt.Sprintf("event %d", uint8(w))
	}
	return whats[w]
}

func (j *judge) eventText(e *Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v", e.What, messageName{e.Session, e.Seq})
	switch {
	case e.What == Receivers:
		fmt.Fprintf(&b, ": %d", e.Count)
	case e.What == Taken && e.Marked:
		b.WriteString(", marked as a possible repeat")
	}
	if e.What == Sending && e.Count > 0 {
		fmt.Fprintf(&b, ", deadline in %d ms", e.Count)
	}
	if e.Hash != 0 && (e.What == Sending || e.What == Taken) {
		fmt.Fprintf(&b, ", hash %016x", e.Hash)
	}
	if e.Peer != 0 {
		fmt.Fprintf(&b, ", node %s", j.nameOf(ring.ID(e.Peer)))
	}
	return b.String()
}

// nameOf returns the name of a node, else its id.
func (j *judge) nameOf(id ring.ID) string {
	if n := j.byID[id]; n != nil {
		return n.name
	}
	return id.String()
}

// learnTraces takes the tables that nodes went by from their traces, and judges
// that they do not go back while a process lives.
func (j *judge) learnTraces() {
	started := map[*node]int64{}
	j.eachTrace(func(n *node, e *fault.Event) {
		if n.traceNs == 0 {
			n.traceNs = e.AtNs
		}
		j.learnStandIn(n, e)
		switch last := len(n.epochs.installed) - 1; e.What {
		case fault.Started:
			started[n] = e.AtNs
		case fault.Admitted:
			n.admissions = append(n.admissions, admission{e.AtNs, ring.Incarnation(e.Incarnation)})
		case fault.TableInstalled:
			epoch := ring.Epoch{Era: e.Era, Index: e.Index}
			n.epochs.installed = append(n.epochs.installed, epochAt{span{e.AtNs, e.AtNs}, epoch})
			if last < 0 || n.epochs.installed[last].from < started[n] {
				return // of another process
			}
			if was := n.epochs.installed[last]; epoch.Compare(was.epoch) < 0 && e.AtNs >= j.StartNs {
				line := func(at int64, epoch ring.Epoch, here bool) Line {
					return Line{AtNs: at, Group: groupRing, Where: n.name, Text: fmt.Sprintf("routes by table %v", epoch), Here: here}
				}
				j.violated(Violation{Clause: Forward, AtNs: e.AtNs,
					Text: fmt.Sprintf("the table that routes went back on %s: from %v to %v", n.name, was.epoch, epoch)},
					story{lines: []Line{line(was.from, was.epoch, false), line(e.AtNs, epoch, true)}})
			}
		}
	})
}

// wasDelivered reports whether a node's trace shows that it gave a message to a
// program. It does so before the program can see the message.
func (j *judge) wasDelivered(n *node, m *message) bool {
	if j.delivered == nil {
		j.delivered = map[messageName][]*node{}
		j.eachTrace(func(n *node, e *fault.Event) {
			if e.What != fault.Delivered {
				return
			}
			name := messageName{e.Session, e.Seq}
			if m := j.byName[name]; m != nil && (m.many() || !m.taken()) {
				j.delivered[name] = append(j.delivered[name], n)
			}
		})
	}
	return slices.Contains(j.delivered[m.messageName], n)
}

// eachTrace calls f with all events of all traces that can be read.
func (j *judge) eachTrace(f func(n *node, e *fault.Event)) {
	for _, name := range slices.Sorted(maps.Keys(j.Traces)) {
		events, err := fault.ReadTrace(j.Traces[name])
		if err != nil {
			j.note("the frames of node %s are not known: %v", name, err)
			continue
		}
		n := j.node(name)
		for i := range events {
			f(n, &events[i])
		}
	}
}

// framesOf returns the way of some messages through the nodes.
func (j *judge) framesOf(wanted map[messageName]bool) map[messageName][]Line {
	lines := map[messageName][]Line{}
	j.eachTrace(func(n *node, e *fault.Event) {
		for _, name := range namesIn(e, wanted) {
			lines[name] = append(lines[name], Line{AtNs: e.AtNs, Group: groupFrame, Where: n.name, Text: j.frameText(e, name)})
		}
	})
	return lines
}

// namesIn returns the wanted messages that an event of a trace is about.
func namesIn(e *fault.Event, wanted map[messageName]bool) []messageName {
	var names []messageName
	add := func(seq uint64) {
		if n := (messageName{e.Session, seq}); wanted[n] {
			names = append(names, n)
		}
	}
	framed := e.What == fault.FrameSent || e.What == fault.FrameReceived
	switch t := wire.Type(e.Type); {
	case framed && t == wire.TypeReply:
		add(e.Hash) // the asker's sequence
	case framed && t == wire.TypeAck:
		for bit := range uint64(64) {
			if e.Hash&(1<<bit) != 0 {
				add(e.Seq + bit)
			}
		}
	case framed && (t == wire.TypeMessage || t == wire.TypeLater || t == wire.TypeMoved || t == wire.TypeRequestLost),
		e.What == fault.Delivered, e.What == fault.InPlace, e.What == fault.Taken, e.What == fault.Withdrawn:
		add(e.Seq)
	}
	return names
}

var frameWords = map[wire.Type]string{wire.TypeMessage: "message", wire.TypeAck: "ACK of", wire.TypeLater: "LATER to", wire.TypeMoved: "MOVED to",
	wire.TypeReply: "reply to", wire.TypeRequestLost: "word that no reply comes to"}

// frameText says what a node did with a message.
func (j *judge) frameText(e *fault.Event, name messageName) string {
	var b strings.Builder
	switch e.What {
	case fault.FrameSent:
		fmt.Fprintf(&b, "sends %s %v to %s", frameWords[wire.Type(e.Type)], name, j.nameOf(ring.ID(e.Peer)))
	case fault.FrameReceived:
		fmt.Fprintf(&b, "gets %s %v from %s", frameWords[wire.Type(e.Type)], name, j.nameOf(ring.ID(e.Peer)))
	case fault.Delivered:
		fmt.Fprintf(&b, "gives %v to program %d", name, e.Attempt)
	case fault.InPlace:
		fmt.Fprintf(&b, "has given %v in the place of %s", name, j.nameOf(ring.ID(e.Peer)))
	default:
		fmt.Fprintf(&b, "program %d: %v %v", e.Attempt, e.What, name)
	}
	if wire.Type(e.Type) == wire.TypeMessage && (e.What == fault.FrameSent || e.What == fault.FrameReceived) {
		fmt.Fprintf(&b, ", attempt %d", e.Attempt)
	}
	if wire.Flags(e.Flags)&wire.FlagMaybeRepeat != 0 {
		b.WriteString(", marked")
	}
	if e.Index != 0 {
		fmt.Fprintf(&b, ", table %d.%d", e.Era, e.Index)
	}
	if e.Incarnation != 0 {
		fmt.Fprintf(&b, ", incarnation %d", e.Incarnation)
	}
	return b.String()
}

// faultLines returns the faults, and the ends and starts of processes, that
// meet a stretch of time. What began long before is said so.
func (j *judge) faultLines(from, to int64) []Line {
	var lines []Line
	for _, f := range j.Faults {
		end := f.UntilNs
		if end == 0 {
			end = max(j.EndNs, f.AtNs)
		}
		if !(span{f.AtNs, end}).meets(from, to) {
			continue
		}
		text := strings.TrimSpace(fmt.Sprintf("%s %s", f.Kind, f.Detail))
		if f.UntilNs != 0 {
			text += fmt.Sprintf(", until %v later", millis(f.UntilNs-f.AtNs))
		}
		lines = append(lines, Line{AtNs: f.AtNs, Group: groupFault, Where: strings.Join(f.Target, " "), Text: text})
	}
	for _, p := range j.Processes {
		if p.StartNs >= from && p.StartNs <= to {
			lines = append(lines, Line{AtNs: p.StartNs, Group: groupFault, Where: p.Name, Text: fmt.Sprintf("process %d starts", p.PID)})
		}
		if p.EndNs >= from && p.EndNs <= to && p.EndNs != 0 {
			lines = append(lines, Line{AtNs: p.EndNs, Group: groupFault, Where: p.Name, Text: fmt.Sprintf("process %d has ended", p.PID)})
		}
	}
	return lines
}

// ringLines returns how the ring changed in a stretch of time, each version once,
// as the node that showed it first did.
func (j *judge) ringLines(from, to int64) []Line {
	var lines []Line
	shown := map[uint64]bool{}
	var last *State
	for _, o := range j.inTime() {
		if !shown[o.State.Version] && (last == nil || o.State.Version > last.Version) {
			shown[o.State.Version] = true
			if o.DoneNs >= from && o.AtNs <= to {
				lines = append(lines, Line{AtNs: o.DoneNs, Group: groupRing, Where: o.Node, Text: "shows " + j.changeText(last, &o.State)})
			}
			last = &o.State
		}
	}
	return lines
}

// inTime returns all observations in the order in which they were answered.
func (j *judge) inTime() []*Observation {
	obs := make([]*Observation, len(j.Observations))
	for i := range obs {
		obs[i] = &j.Observations[i]
	}
	slices.SortStableFunc(obs, func(a, b *Observation) int { return cmp.Compare(a.DoneNs, b.DoneNs) })
	return obs
}

// changeText says how a version of the ring differs from an earlier one.
func (j *judge) changeText(was, is *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d, table %v", is.Version, is.Epoch)
	for _, s := range is.Servers {
		old := (*ServerState)(nil)
		if was != nil {
			old = serverOf(was, ring.ID(s.ID))
		}
		if old == nil || old.Status != s.Status || old.Incarnation != s.Incarnation {
			fmt.Fprintf(&b, "; %s %s incarnation %d", j.nameOf(ring.ID(s.ID)), strings.TrimPrefix(s.Status, "SAFE -> "), s.Incarnation)
		}
	}
	if is.Merge != nil && (was == nil || was.Merge == nil || *was.Merge != *is.Merge) {
		fmt.Fprintf(&b, "; merge %d %s", is.Merge.ID, is.Merge.Phase)
	}
	return b.String()
}

// millis prints a length of time in milliseconds.
func millis(ns int64) string { return fmt.Sprintf("%.1f ms", float64(ns)/1e6) }
