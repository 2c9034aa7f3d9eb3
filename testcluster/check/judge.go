package check

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Judge says what was violated in a round. It reads the traces and otherwise
// only what it is given, and may be called from any goroutine.
func Judge(r Round) Report {
	start := time.Now()
	j := newJudge(&r)
	j.learn()
	j.judgeMessages()
	j.judgeRing()
	j.judgeOps()
	j.judgeUsage()
	j.alive()
	j.countFaults()
	j.finish()
	j.rep.Numbers.Judging = time.Since(start)
	return j.rep
}

// judge holds a round while it is judged.
type judge struct {
	*Round
	rep      Report
	programs []*program
	sessions map[wire.SessionID]*program // that send
	messages []*message                  // in the order in which histories name them
	byName   map[messageName]*message
	nodes    map[string]*node // by name
	byID     map[ring.ID]*node
	// delivered says which nodes gave messages to a program that were not taken
	// everywhere; nil until somebody asks.
	delivered map[messageName][]*node
	stories   []story // of the violations in rep, in their order
	// slowest is the message that waited longest, nil if none waited long.
	slowest    *message
	slowestFor time.Duration
}

// program is one history, and what became of who wrote it.
type program struct {
	*History
	endNs   int64 // 0: it outlived the round
	lastNs  int64 // its last event: it lived then
	killed  bool
	threads int // goroutines that take
	unknown int // messages that it may still have taken without a record
}

// messageName names a message.
type messageName struct {
	session wire.SessionID
	seq     uint64
}

func (n messageName) String() string { return fmt.Sprintf("%.8s…/%d", n.session, n.seq) }

// message is what all histories say about one message.
type message struct {
	messageName
	sender *program // nil: no history of it
	kind   wire.Kind
	hash   uint64
	sendNs int64

	expireNs int64 // its deadline, 0: none
	accepted bool
	open     bool // its call had not returned when the history ended
	refused  bool

	outcomes [MaybeFailed + 1]int   // how often each was told
	outNs    [MaybeFailed + 1]int64 // when first
	told     bool                   // Receivers came
	count    int                    // from Receivers
	takes    []take                 // in order of time
}

// take is one Taken: it happened after afterNs and not after atNs.
type take struct {
	afterNs, atNs int64
	by            *program
	marked        bool
	done          bool // taken in the sense of the contract
	hash          uint64
}

func (m *message) many() bool { return m.kind == wire.KindBroadcast || m.kind == wire.KindReplicate }

func (m *message) String() string {
	kind := [...]string{"message", "random message", "replicated message", "broadcast"}[m.kind&3]
	if m.kind == wire.KindHash || m.kind == wire.KindReplicate {
		return fmt.Sprintf("%s %v of hash %016x", kind, m.messageName, m.hash)
	}
	return fmt.Sprintf("%s %v", kind, m.messageName)
}

// reported says whether the sender was told that the message was given up.
func (m *message) reported() bool { return m.outcomes[Failed]+m.outcomes[MaybeFailed] > 0 }

// taken reports whether a program has taken it in the sense of the contract.
func (m *message) taken() bool {
	return slices.ContainsFunc(m.takes, func(t take) bool { return t.done })
}

func newJudge(r *Round) *judge {
	j := &judge{Round: r, rep: Report{Name: r.Name, Count: map[Clause]int{}}, sessions: map[wire.SessionID]*program{},
		byName: map[messageName]*message{}}
	j.rep.Numbers = Numbers{Rounds: 1, Kinds: map[wire.Kind]int{}, Faults: map[string]int{}, Waits: map[string]Wait{}}
	for i := range r.Histories {
		j.addProgram(&r.Histories[i])
	}
	for _, p := range j.programs {
		j.addEvents(p)
	}
	for _, m := range j.messages {
		slices.SortStableFunc(m.takes, func(a, b take) int { return cmp.Compare(a.atNs, b.atNs) })
	}
	return j
}

func (j *judge) addProgram(h *History) {
	p := &program{History: h, threads: 1, lastNs: h.StartNs}
	if n := len(h.Events); n > 0 {
		p.lastNs = max(p.lastNs, h.Events[n-1].AtNs)
	}
	if i := slices.IndexFunc(j.Processes, func(c Process) bool {
		return c.Program && c.PID == h.PID && c.StartNs <= h.StartNs && (c.EndNs == 0 || h.StartNs <= c.EndNs)
	}); i >= 0 {
		p.endNs, p.killed = j.Processes[i].EndNs, j.Processes[i].Killed
	}
	for i := range h.Events {
		if e := &h.Events[i]; e.What == Taken {
			p.threads = max(p.threads, min(int(e.Count), threadsMax)+1)
		}
	}
	if p.killed && p.Server {
		p.unknown = p.threads
	}
	j.programs = append(j.programs, p)
	if id, err := hex.DecodeString(h.Session); err == nil && len(id) == len(wire.SessionID{}) {
		j.sessions[wire.SessionID(id)] = p
	}
}

// threadsMax bounds what is believed about the goroutines of a program.
const threadsMax = 64

// addEvents brings the events of a program to their messages.
func (j *judge) addEvents(p *program) {
	before := make([]int64, p.threads) // per goroutine that takes: when it last did
	for i := range before {
		before[i] = p.StartNs
	}
	given := map[messageName]int{} // takes of this program that are not done
	for i := range p.Events {
		e := &p.Events[i]
		m := j.message(messageName{e.Session, e.Seq})
		switch e.What {
		case Sending, Accepted, Refused:
			m.sender = p
			m.sent(e)
		case Settled, Replied, Failed, MaybeFailed, Receivers:
			m.sender = p
			m.ended(e)
		case Taken:
			thread := min(int(e.Count), threadsMax)
			m.takes = append(m.takes, take{afterNs: before[thread], atNs: e.AtNs, by: p, marked: e.Marked, hash: e.Hash,
				done: !p.AckOnDone || p.endNs == 0})
			before[thread] = e.AtNs
			if p.AckOnDone {
				given[m.messageName] = len(m.takes) - 1
			}
		case Done:
			if k, ok := given[m.messageName]; ok {
				m.takes[k].done = true
			}
		}
	}
}

func (j *judge) message(n messageName) *message {
	m := j.byName[n]
	if m == nil {
		m = &message{messageName: n, sender: j.sessions[n.session]}
		j.byName[n] = m
		j.messages = append(j.messages, m)
	}
	return m
}

// sent takes over what a sending call says. A sequence that was refused is the
// next message's.
func (m *message) sent(e *Event) {
	switch {
	case e.What == Refused:
		m.refused, m.open = !m.accepted, false
		return
	case e.What == Accepted:
		m.accepted, m.open, m.refused = true, false, false
	case !m.accepted:
		m.open, m.refused = true, false
	}
	m.kind, m.hash = e.Kind, e.Hash
	if m.sendNs == 0 || e.What == Sending {
		m.sendNs = e.AtNs
	}
	if e.What == Sending && e.Count > 0 {
		m.expireNs = e.AtNs + int64(e.Count)*int64(time.Millisecond)
	}
}

// ended takes over what became of a message: so it was accepted.
func (m *message) ended(e *Event) {
	m.accepted, m.open, m.refused = true, false, false
	if e.What == Receivers {
		m.told, m.count = true, int(e.Count)
		return
	}
	if m.outcomes[e.What]++; m.outcomes[e.What] == 1 {
		m.outNs[e.What] = e.AtNs
	}
}

// violated adds a violation. The story says what belongs on its timeline.
func (j *judge) violated(v Violation, s story) {
	j.rep.Count[v.Clause]++
	if j.rep.Count[v.Clause] > violationsMax {
		return
	}
	j.show(v, s)
}

// show adds a timeline to the report.
func (j *judge) show(v Violation, s story) {
	v.Round = j.Name
	j.rep.Violations = append(j.rep.Violations, v)
	j.stories = append(j.stories, s)
}

// note adds something that could not be judged.
func (j *judge) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(j.rep.Notes, text) {
		j.rep.Notes = append(j.rep.Notes, text)
	}
}

func (j *judge) countFaults() {
	for _, f := range j.Faults {
		j.rep.Numbers.Faults[f.Kind]++
	}
}

// finish draws the timelines and sorts the violations by clause.
func (j *judge) finish() {
	if m := j.slowest; m != nil {
		j.show(Violation{Clause: Slow, AtNs: m.sendNs, Text: fmt.Sprintf("%v waited %s", m, millis(int64(j.slowestFor)))}, about(m, 0))
	}
	j.tell()
	order := append(Clauses(), Slow)
	slices.SortStableFunc(j.rep.Violations, func(a, b Violation) int {
		return cmp.Compare(slices.Index(order, a.Clause), slices.Index(order, b.Clause))
	})
}
