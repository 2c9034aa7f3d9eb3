package flow

import (
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// The simulation with messages of all kinds. What the judge says about those
// that are not sent by hash:
//
//	kept     random as by hash; of a fan-out every copy, unless the deadline has
//	         passed or its server went down or has another incarnation
//	repeats  as by hash; of a fan-out per server; of random messages the first of
//	         two takes may be the marked one if the sender's node has ended
//	fan      taken only by the servers that the table named
//	even     in a calm ring the servers get the same number, give or take one
//
// There is no order, and it does not matter who owns the hash.

// simKindOptions says which kinds a run has.
type simKindOptions struct {
	all    bool // else by hash only
	random bool // random mode
	wide   bool // slots have several owners
	calm   bool // nothing is ever full, so that turns are even
}

func (o simKindOptions) inCap(n int) int {
	if o.calm {
		return 1 << 20
	}
	return n
}

func (o simKindOptions) linkCap(n int) int {
	if o.calm {
		return 1 << 20
	}
	return n
}

// simFan is what the judge knows of a message that is fanned out.
type simFan struct {
	chosen bool
	dests  map[simDest]bool // of the latest choice
	ever   map[simDest]int  // of any choice: takes
}

// simDest is one process of a server.
type simDest struct {
	node *simNode
	inc  ring.Incarnation
}

// gone reports whether a server is not any more what it was, by the table or
// because its process has ended: it never comes back under the same incarnation.
func (d simDest) gone(w *sim) bool {
	return w.last().incarnation(d.node) != d.inc ||
		!slices.ContainsFunc(d.node.ups, func(u simUp) bool { return u.inc == d.inc })
}

// meant reports whether a server was chosen for a message, by any choice.
func (m *simMsg) meant(n *simNode) bool {
	for d := range m.fan.ever {
		if d.node == n {
			return true
		}
	}
	return false
}

// took counts the takes of a message on a server, by the process that is meant
// under whatever incarnation: it remembers what its programs took.
func (m *simMsg) took(d simDest) (takes int) {
	for o, n := range m.fan.ever {
		if o.node == d.node && slices.ContainsFunc(d.node.ups, func(u simUp) bool { return u.inc == o.inc }) {
			takes += n
		}
	}
	return takes
}

// chooseKind makes a message of any kind, if the run has them.
func (w *sim) chooseKind(m *simMsg, r *Record) {
	if w.opt.kinds.all {
		r.Kind = wire.Kind(w.one(4))
		if w.opt.kinds.calm && r.Kind == wire.KindHash { // may be refused, and other messages with it
			r.Kind = wire.KindRandom
		}
		if r.Kind != wire.KindHash && w.chance(.3) {
			r.Flags |= wire.FlagWithoutSelf
		}
		if w.chance(.2) {
			r.Flags |= wire.FlagWantsSettled
		}
	}
	m.kind, m.flags = r.Kind, r.Flags
	if m.kind == wire.KindHash && w.opt.kinds.random {
		m.kind = wire.KindRandom
	}
}

// message returns the message of a sequence that the program has sent.
func (a *simAtt) message(seq uint64) *simMsg {
	return a.node.w.judge.msgs[judgeKey{a.prog.idx, seq}]
}

// chosen checks a choice of servers against the table of the node.
func (j *judge) chosen(n *simNode, m *simMsg, count int) {
	w := j.w
	m.fan.chosen, m.fan.dests = true, map[simDest]bool{}
	if m.fan.ever == nil {
		m.fan.ever = map[simDest]int{}
	}
	v := &w.views[n.table]
	for _, o := range w.servers {
		inc := v.incarnation(o)
		if inc == 0 || m.kind == wire.KindReplicate && !slices.Contains(v.copies[m.hash%simSlots], o) || m.kind == wire.KindBroadcast && v.lacks[o] ||
			o == n && m.flags&wire.FlagWithoutSelf != 0 {
			continue
		}
		d := simDest{o, inc}
		m.fan.dests[d] = true
		if _, ok := m.fan.ever[d]; !ok {
			m.fan.ever[d] = 0
		}
	}
	if ask := m.prog.asked[m.seq]; ask != nil {
		ask.want = count
	}
	if count != len(m.fan.dests) {
		w.fail("FAN: %v goes to %d servers, %d in the table", m, count, len(m.fan.dests))
	}
}

// settledFan judges the end of what is promised for a fan-out.
func (j *judge) settledFan(m *simMsg) {
	if !m.fan.chosen && !m.expired(j.w) {
		j.w.fail("FAN: %v is settled, nobody was chosen", m)
	}
	for d := range m.fan.dests {
		if m.took(d) == 0 && !d.gone(j.w) && !m.expired(j.w) {
			j.w.fail("KEPT: %v is settled, %v has not taken it", m, d.node)
		}
	}
}

// outcome judges a report about a message. A program hears it once, unless it
// attaches again: its library ignores what comes a second time.
func (j *judge) outcome(a *simAtt, m *simMsg, delivered, maybe bool) {
	w, takes := j.w, m.takes
	w.logf("%v is reported delivered %v maybe %v", m, delivered, maybe)
	if m.reported == a {
		w.fail("OUTCOME: %v is reported twice", m)
	}
	if m.reported == nil {
		if delivered {
			m.delivered++
		} else {
			j.count.expired++
			m.undelivered++
			m.never = !maybe
		}
	}
	if ask := m.prog.asked[m.seq]; ask != nil && !delivered {
		ask.given++
	}
	m.reported = a
	if !isFan(m.kind) {
		if delivered && (takes == 0 || m.flags&wire.FlagWantsSettled == 0) || !delivered && !maybe && takes > 0 || !delivered && !m.expired(w) {
			w.fail("OUTCOME: %v is reported delivered %v maybe %v after %d takes", m, delivered, maybe, takes)
		}
		return
	}
	takes = 0
	for _, n := range m.fan.ever {
		takes += n
	}
	for d := range m.fan.dests {
		if delivered && m.took(d) == 0 && !d.gone(w) {
			w.fail("OUTCOME: %v is reported delivered, %v has not taken it", m, d.node)
		}
		if !delivered && !d.gone(w) && !m.expired(w) {
			w.fail("OUTCOME: %v is reported undelivered, it may still reach %v", m, d.node)
		}
	}
	if delivered && (takes == 0 || m.flags&wire.FlagWantsSettled == 0) {
		w.fail("OUTCOME: %v is reported delivered after %d takes", m, takes)
	}
	if !delivered && !maybe && takes > 0 {
		w.fail("OUTCOME: %v is reported as not delivered after %d takes", m, takes)
	}
}

// takenKind judges a take of a message that is not sent by hash.
func (j *judge) takenKind(a *simAtt, r *simIn, unaware bool) {
	m, n, w := r.msg, a.node, j.w
	takes := m.takes
	if isFan(m.kind) {
		d := simDest{n, r.inc}
		if !m.meant(n) {
			w.fail("FAN: %v is taken on %v, incarnation %d, which was not chosen", m, n, r.inc)
			return
		}
		m.fan.ever[d]++
		takes = m.fan.ever[d]
	} else if !a.gone && w.views[n.table].incarnation(n) != r.inc {
		w.fail("OWNER: %v takes %v, although %v knows that it is down", a.prog, m, n)
	}
	flagged := r.d.Flags&wire.FlagMaybeRepeat != 0
	if flagged && !j.excused && !w.opt.deaths {
		w.fail("REPEAT: %v is marked without any reason", m)
	}
	if takes < 2 {
		if !isFan(m.kind) {
			j.countTurn(n, m)
		}
		return
	}
	j.count.repeats++
	if !flagged && !unaware && !m.again {
		w.fail("REPEAT: %v is taken again on %v without mark", m, n)
	}
	if !j.excused && !m.worked {
		w.fail("REPEAT: %v is taken again on %v for no reason", m, n)
	}
}

// forget notes that nobody knows any more where the random messages of p are:
// its node has ended. The next one sends them elsewhere, marked, and of the two
// takes the unmarked one may be the later.
func (j *judge) forget(p *simProg) {
	for i := range p.out {
		if m := p.out[i].org; m.kind == wire.KindRandom {
			m.again = true
		}
	}
}

// turnKey counts what a server got of the messages of a node in one of its rounds.
type turnKey struct {
	from, to    *simNode
	withoutSelf bool
}

func (j *judge) countTurn(to *simNode, m *simMsg) {
	if j.turns == nil {
		j.turns = map[turnKey]int{}
	}
	j.turns[turnKey{m.prog.node, to, m.flags&wire.FlagWithoutSelf != 0}]++
}

// finishFan judges a fan-out when all is calm.
func (j *judge) finishFan(m *simMsg) {
	if m.lost || m.expired(j.w) {
		return
	}
	if !m.fan.chosen {
		j.w.fail("KEPT: nobody was chosen for %v", m)
	}
	for d := range m.fan.dests {
		if m.took(d) == 0 && !d.gone(j.w) {
			j.w.fail("KEPT: %v was never taken on %v", m, d.node)
		}
	}
}

// finishKinds looks for what is left of copies, and whether turns were even.
func (j *judge) finishKinds() {
	w := j.w
	for _, n := range w.nodes {
		if n.core.orphans > 0 {
			w.fail("STUCK: %v counts %d orphans", n, n.core.orphans)
		}
		for _, s := range n.core.sessions {
			if s.fanned.waiting != 0 {
				w.fail("STUCK: %v counts %d waiting copies of session %v", n, s.fanned.waiting, s.id)
			}
		}
	}
	if !w.opt.kinds.calm {
		return
	}
	for _, from := range w.nodes {
		for _, without := range []bool{false, true} {
			least, most := 1<<30, 0
			for _, to := range w.servers {
				if without && to == from {
					continue
				}
				k := j.turns[turnKey{from, to, without}]
				least, most = min(least, k), max(most, k)
			}
			if most > least+1 {
				w.fail("EVEN: the servers got between %d and %d of %v, without self %v", least, most, from, without)
			}
		}
	}
}

// The kinds of runs with messages of all kinds.
var simMixed = []struct {
	name string
	opt  simOptions
	runs int
}{
	{"nothing fails", simOptions{}, 200},
	{"links are cut", simOptions{cuts: true}, 300},
	{"programs end", simOptions{cuts: true, merges: true, deaths: true, replays: true}, 500},
	{"deadlines pass", simOptions{cuts: true, merges: true, deadlines: true}, 300},
	{"everything", simOptions{cuts: true, merges: true, deaths: true, crash: true}, 2000},
	{"nobody acts", simOptions{cuts: true, deaths: true, crash: true, deadlines: true}, 500},
}

// Proves the promises of all kinds of messages, mixed in the same sessions,
// over random interleavings, and of random mode.
func TestOtherKindsUnderRandomInterleavings(t *testing.T) {
	for _, k := range simMixed {
		for _, mode := range []simKindOptions{{all: true}, {all: true, random: true}, {all: true, wide: true}} {
			name := k.name
			if mode.random {
				name += ", random mode"
			}
			if mode.wide {
				name += ", replicas"
			}
			t.Run(name, func(t *testing.T) {
				opt := k.opt
				opt.kinds = mode
				for seed := range runsOf(k.runs, 10000) {
					if w := run(seed, opt); len(w.bad) > 0 {
						report(t, seed, w)
					}
				}
			})
		}
	}
}

// Proves that in a ring in which nothing fails or is full every server gets
// the same number of each node's random messages, whatever else is sent.
func TestTurnsAreEvenInACalmRing(t *testing.T) {
	for _, mode := range []simKindOptions{{all: true, calm: true}, {random: true, calm: true}} {
		for seed := range uint64(300 / simShare) {
			w := newSim(seed, simOptions{kinds: mode})
			w.tracing = true
			for !w.settle() { // all links, all tables
			}
			w.budget = 300
			w.play()
			if len(w.bad) > 0 {
				report(t, seed, w)
			}
		}
	}
}

// kindMutants break one rule of the other kinds each.
var kindMutants = []struct {
	name   string
	caught string
	opt    simKindOptions
	m      mutation
}{
	{"what was taken is forgotten", "REPEAT", simKindOptions{all: true, random: true}, mutation{onTaken: func(n *simNode) {
		for _, set := range n.core.sets {
			set.taken = bitset{}
		}
	}}},
	{"a second server while out", "REPEAT", simKindOptions{random: true}, mutation{onUp: func(n *simNode, p *Peer, _ *simFrame) {
		for _, s := range n.core.sessions {
			w := &s.requests
			for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
				if e := w.at(seq); e != nil && e.state == out && e.dest == p && e.fan == nil {
					w.wait(e, unsent)
					e.dest = nil
				}
			}
		}
	}}},
	{"the choice is made again", "FAN OUTCOME", simKindOptions{all: true}, mutation{onView: func(n *simNode) {
		for _, s := range n.core.sessions {
			w := &s.requests
			for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
				e := w.at(seq)
				if e == nil || e.fan == nil {
					continue
				}
				for i := range e.fan.copies {
					if cp := &e.fan.copies[i]; cp.state == unsent {
						next := n.core.serving[0]
						cp.dest, cp.inc = next, next.tableInc
					}
				}
			}
		}
	}}},
	{"settled with the first copy", "KEPT OUTCOME", simKindOptions{all: true}, mutation{onFrame: func(e *simEnd, _ *Peer, h *wire.Header) bool {
		if s := e.node.core.byID[h.Session]; s != nil && h.Type == wire.TypeAck {
			if m := s.requests.at(h.Seq); m != nil && m.fan != nil {
				for i := range m.fan.copies {
					e.node.core.giveUp(s, m, &m.fan.copies[i])
					if m.fan == nil {
						e.node.core.release(s, Requests)
						break
					}
				}
			}
		}
		return true
	}}},
	{"a server that is down keeps random messages", "REPEAT OWNER", simKindOptions{random: true}, mutation{onView: func(n *simNode) {
		for _, s := range n.core.sessions {
			s.program.displaced = false
		}
	}}},
	{"what was given is forgotten", "REPEAT", simKindOptions{all: true}, mutation{onFrame: onMessages(func(n *simNode, _ *Peer, h *wire.Header) bool {
		if set := n.core.sets[h.Session]; set != nil && h.Kind != wire.KindHash {
			set.accepted.del(h.Seq)
		}
		return true
	})}},
	{"repeats are not marked", "REPEAT", simKindOptions{all: true, random: true}, mutation{onFrame: onMessages(func(_ *simNode, _ *Peer, h *wire.Header) bool {
		h.Flags &^= wire.FlagMaybeRepeat
		return true
	})}},
	{"records of forgotten sessions are not found", "REPEAT", simKindOptions{random: true}, mutation{onFrame: func(e *simEnd, _ *Peer, _ *wire.Header) bool {
		e.node.core.orphans = 0
		return true
	}}},
	{"replicas are left out", "FAN", simKindOptions{all: true, wide: true}, mutation{onView: func(n *simNode) {
		if t := n.core.table; t != nil && t.Base.Width > 1 {
			base := ring.NewAssignment(simSlots, 1)
			for slot := range simSlots {
				base.Owners[slot], base.InSync[slot] = t.Base.Owners[slot*t.Base.Width], 1
			}
			var err error
			if n.core.table, err = ring.NewTable(ring.Table{Epoch: t.Epoch, Version: t.Version, Servers: t.Servers, Base: base}); err != nil {
				panic(err)
			}
		}
	}}},
	{"what was given up is not marked in the ring", "DEADLINE FAN", simKindOptions{all: true}, mutation{noGivenUp: true}},
	{"one round for all messages", "EVEN", simKindOptions{all: true, calm: true}, mutation{onFrame: func(e *simEnd, _ *Peer, _ *wire.Header) bool {
		rs := &e.node.core.rounds
		rs[withSelf] = rs[withoutSelf]
		return true
	}}},
}

// Proves that the judge is not blind to the rules of the other kinds.
func TestBrokenRulesOfOtherKindsAreCaught(t *testing.T) {
	for _, mu := range kindMutants {
		t.Run(mu.name, func(t *testing.T) {
			opt := simOptions{cuts: true, merges: true, deaths: true, crash: true, kinds: mu.opt, mutation: mu.m}
			if mu.opt.calm {
				opt = simOptions{kinds: mu.opt, mutation: mu.m}
			}
			for seed := range uint64(20000) {
				w := newSim(seed, opt)
				w.play()
				if len(w.bad) == 0 {
					continue
				}
				kind, _, _ := strings.Cut(w.bad[0], ":")
				if !strings.Contains(mu.caught, kind) {
					t.Errorf("seed %d: caught as %q, want one of %s", seed, w.bad[0], mu.caught)
				}
				t.Logf("seed %d: %s", seed, w.bad[0])
				return
			}
			t.Errorf("not caught")
		})
	}
}
