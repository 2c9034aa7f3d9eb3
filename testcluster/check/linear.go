package check

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/chmpx/chmpx/ring"
)

const (
	// linearWait bounds the search for an order of the operators' history of one
	// flag or server.
	linearWait = 5 * time.Second
	// blameWait bounds each step of the search for the operation that has no place.
	blameWait = 500 * time.Millisecond
	// opsShown bounds the operations on the timeline of a violation.
	opsShown = 40
)

// judgeOps judges the commands of operators and consistent reads. What they are
// about is judged apart: the flag, the version, and each server that was asked
// in or out.
func (j *judge) judgeOps() {
	j.answered()
	j.linear("the flag SUSPENDMERGE", flagModel, j.opsAbout("SUSPENDMERGE", "NOSUSPENDMERGE"), linearWait)
	j.linear("the version of the ring", versionModel, j.opsAbout(), linearWait)
	targets := map[string]bool{}
	for _, o := range j.Ops {
		if o.Command == "SERVICEIN" || o.Command == "SERVICEOUT" {
			targets[o.target()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		n := j.nodes[name]
		if n == nil || n.id == 0 {
			j.note("the service of %s was not judged: it never answered", name)
			continue
		}
		ops := slices.DeleteFunc(j.opsAbout("SERVICEIN", "SERVICEOUT", "ABORTMERGE"), func(o Op) bool {
			return strings.HasPrefix(o.Command, "SERVICE") && o.target() != name
		})
		j.linear("the service of "+name, serviceModel(n.id), ops, linearWait)
	}
}

// answerNs is how long a node may take to answer a command: 5 s by docs/control.md,
// and what a busy machine adds.
const answerNs = 5*int64(time.Second) + int64(500*time.Millisecond)

// answered counts the operators' commands and judges that they were answered in
// time. It speaks only of nodes that answered the harness all the while: one
// that is stopped, or ends, answers nobody.
func (j *judge) answered() {
	n := &j.rep.Numbers
	n.Ops = len(j.Ops)
	for i := range j.Ops {
		o := &j.Ops[i]
		switch {
		case o.OK:
			n.OpsDone++
		case o.Unknown:
			n.OpsUnknown++
		}
		took := o.ReturnNs - o.CallNs
		if o.ReturnNs == 0 || !j.nodes[o.Node].ran(o.CallNs, o.ReturnNs) {
			continue
		}
		n.LongestOp = max(n.LongestOp, time.Duration(took))
		if took > answerNs {
			j.violated(Violation{Clause: Answered, AtNs: o.ReturnNs, Text: fmt.Sprintf("%s at %s: an answer after %s", describe(o), o.Node, millis(took))},
				story{lines: []Line{{AtNs: o.CallNs, Group: groupCommand, Where: o.Node, Here: true, Text: describe(o)}}})
		}
	}
}

// target returns the server that the command is about.
func (o *Op) target() string {
	if o.Target == "" {
		return o.Node
	}
	return o.Target
}

// opsAbout returns the reads that were answered, and those of some commands that
// were done or may have been.
func (j *judge) opsAbout(commands ...string) []Op {
	return slices.DeleteFunc(slices.Clone(j.Ops), func(o Op) bool {
		if o.Command == "READ" {
			return o.Read == nil
		}
		return !o.OK && !o.Unknown || !slices.Contains(commands, o.Command)
	})
}

// operations turns ops into porcupine's. One with unknown result is over at the
// end of time: whether it has happened nobody can have seen then.
func operations(ops []Op, until int64) []porcupine.Operation {
	var all []porcupine.Operation
	for i := range ops {
		o := &ops[i]
		p := porcupine.Operation{ClientId: o.Client, Input: o, Call: o.CallNs, Output: o, Return: o.ReturnNs}
		if o.CallNs > until || o.Command == "READ" && o.ReturnNs > until {
			continue
		}
		if o.Unknown || o.ReturnNs > until {
			p.Return = math.MaxInt64
		}
		all = append(all, p)
	}
	return all
}

// linear judges one part of the operators' history.
func (j *judge) linear(what string, m porcupine.Model, ops []Op, wait time.Duration) {
	if len(ops) == 0 {
		return
	}
	result, info := porcupine.CheckOperationsVerbose(m, operations(ops, math.MaxInt64), wait)
	switch result {
	case porcupine.Unknown:
		j.rep.Numbers.Undecided++
		j.note("%s: no order of %d commands and reads was found in %v, nor that there is none", what, len(ops), wait)
	case porcupine.Illegal:
		var page bytes.Buffer
		if err := porcupine.Visualize(m, info, &page); err != nil {
			j.note("%s could not be drawn: %v", what, err)
		}
		culprit := blame(m, ops)
		s := story{}
		for i, o := range ops {
			if i > culprit-opsShown && i <= culprit {
				s.lines = append(s.lines, Line{AtNs: o.CallNs, Group: groupCommand, Where: o.Node, Here: i == culprit, Text: fmt.Sprintf(
					"client %d: %s, %s after it began", o.Client, describe(&o), o.lasted())})
			}
		}
		o := ops[culprit]
		j.violated(Violation{Clause: Linearizable, AtNs: o.ReturnNs, Page: page.Bytes(),
			Text: fmt.Sprintf("%s: what %s at %s was answered fits no order of all commands and reads", what, describe(&o), o.Node)}, s)
	}
}

// blame sorts ops by their end and returns the index of the first one with which
// there is no order any more.
func blame(m porcupine.Model, ops []Op) int {
	slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Compare(a.ReturnNs, b.ReturnNs) })
	i := sort.Search(len(ops), func(i int) bool {
		return porcupine.CheckOperationsTimeout(m, operations(ops, ops[i].ReturnNs), blameWait) == porcupine.Illegal
	})
	return min(i, len(ops)-1)
}

// describe says what an operation was and what it was told.
func describe(o *Op) string {
	text := o.Command
	if o.Target != "" {
		text += " " + o.Target
	}
	switch {
	case o.Read != nil:
		return fmt.Sprintf("%s: version %d, suspended %v", text, o.Read.Version, o.Read.SuspendMerge)
	case o.Unknown:
		return text + ": unknown"
	}
	return strings.TrimSpace(text + ": " + o.Reply)
}

func (o *Op) lasted() string {
	if o.ReturnNs == 0 {
		return "no answer"
	}
	return millis(o.ReturnNs - o.CallNs)
}

func describeOp(in, _ any) string { return describe(in.(*Op)) }

// suspension is what is known of SUSPENDMERGE: nothing before the first read or command.
type suspension int

const (
	flagUnknown suspension = iota
	flagOff
	flagOn
)

var flagModel = porcupine.Model{
	Init: func() any { return flagUnknown },
	Step: func(state, in, _ any) (bool, any) {
		o := in.(*Op)
		switch o.Command {
		case "SUSPENDMERGE":
			return true, flagOn
		case "NOSUSPENDMERGE":
			return true, flagOff
		}
		shown := flagOff
		if o.Read.SuspendMerge {
			shown = flagOn
		}
		return state.(suspension) == flagUnknown || state.(suspension) == shown, shown
	},
	DescribeOperation: describeOp,
	DescribeState:     func(s any) string { return [...]string{"not known", "off", "on"}[s.(suspension)] },
}

// versionModel: who reads later sees no older ring.
var versionModel = porcupine.Model{
	Init: func() any { return ring.Epoch{} }, // era and version
	Step: func(state, in, _ any) (bool, any) {
		s := in.(*Op).Read
		v := ring.Epoch{Era: s.Epoch.Era, Index: s.Version}
		return v.Compare(state.(ring.Epoch)) >= 0, v
	},
	DescribeOperation: describeOp,
}

// service is what operators last wanted of a server, and under which
// incarnation it was known then. While it has that incarnation and is UP it was
// never DOWN, and then nothing but another command changes what they wanted.
type service struct {
	wanted string // "in", "out", "" for nothing
	since  ring.Incarnation
	newest ring.Incarnation // as last read
}

func serviceModel(id ring.ID) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return service{} },
		Step: func(state, in, _ any) (bool, any) {
			o, s := in.(*Op), state.(service)
			switch o.Command {
			case "SERVICEIN":
				return true, service{"in", s.newest, s.newest}
			case "SERVICEOUT":
				return true, service{"out", s.newest, s.newest}
			case "ABORTMERGE":
				return true, service{newest: s.newest}
			}
			return s.read(serverOf(o.Read, id))
		},
		DescribeOperation: func(in, _ any) string {
			o := in.(*Op)
			if o.Read == nil {
				return describe(o)
			}
			if v := serverOf(o.Read, id); v != nil {
				return fmt.Sprintf("READ: %s incarnation %d", v.Status, v.Incarnation)
			}
			return "READ: not a member"
		},
		DescribeState: func(s any) string { return fmt.Sprintf("%+v", s) },
	}
}

// read says whether what was read of the server fits what operators wanted.
func (s service) read(v *ServerState) (bool, service) {
	if v == nil {
		return true, service{}
	}
	if v.Incarnation != s.since {
		return true, service{newest: v.Incarnation}
	}
	s.newest = v.Incarnation
	in := strings.Contains(v.Status, "[SERVICE IN]") && !strings.Contains(v.Status, "[DELETE]")
	switch {
	case s.since == 0:
		return true, s
	case s.wanted == "in" && strings.Contains(v.Status, "[UP]"):
		return in, s
	case s.wanted == "out":
		return !in, s
	}
	return true, s
}
