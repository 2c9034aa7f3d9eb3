package flow

import (
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// onMessages applies a mutation to every message that arrives.
func onMessages(change func(n *simNode, p *Peer, h *wire.Header) bool) func(*simEnd, *Peer, *wire.Header) bool {
	return func(e *simEnd, p *Peer, h *wire.Header) bool {
		return h.Type != wire.TypeMessage || change(e.node, p, h)
	}
}

// mutants break one rule each. caught names what the judge may say about it.
var mutants = []struct {
	name   string
	caught string
	m      mutation
}{
	{"acknowledged when given, not when taken", "KEPT OUTCOME", mutation{onDelivered: func(n *simNode, d *Delivery) {
		n.core.ack(n.core.sets[d.Session], d.Seq)
	}}},
	{"no predecessor", "ORDER", mutation{onFrame: onMessages(func(_ *simNode, _ *Peer, h *wire.Header) bool {
		h.PredDelta = 0
		return true
	})}},
	{"refusals of any attempt count", "REPEAT ORDER OWNER", mutation{onFrame: func(e *simEnd, _ *Peer, h *wire.Header) bool {
		if s := e.node.core.byID[h.Session]; s != nil && (h.Type == wire.TypeLater || h.Type == wire.TypeMoved) {
			if m := s.requests.at(h.Seq); m != nil {
				h.Attempt = m.attempt
			}
		}
		return true
	}}},
	{"low is not told", "PROTOCOL STUCK", mutation{onFrame: onMessages(func(n *simNode, _ *Peer, h *wire.Header) bool {
		if set := n.core.sets[h.Session]; set != nil && h.Seq > set.low {
			h.LowDelta = uint16(min(h.Seq-set.low, Window))
		}
		return true
	})}},
	{"low is too high", "KEPT OUTCOME", mutation{onFrame: onMessages(func(_ *simNode, _ *Peer, h *wire.Header) bool {
		h.LowDelta = 0
		return true
	})}},
	{"what was taken is forgotten", "REPEAT", mutation{onTaken: func(n *simNode) {
		for _, set := range n.core.sets {
			set.taken = bitset{}
		}
	}}},
	{"what was given is forgotten", "REPEAT", mutation{onFrame: onMessages(func(n *simNode, _ *Peer, h *wire.Header) bool {
		if set := n.core.sets[h.Session]; set != nil {
			set.accepted.del(h.Seq)
		}
		return true
	})}},
	{"repeats are not marked", "REPEAT", mutation{onFrame: onMessages(func(_ *simNode, _ *Peer, h *wire.Header) bool {
		h.Flags &^= wire.FlagMaybeRepeat
		return true
	})}},
	{"no seal", "OWNER ORDER", mutation{noSeal: true}},
	{"deadlines pass too early", "OUTCOME", mutation{early: true}},
	{"an ended program takes part until all that it sent is read", "STUCK KEPT", mutation{noWithdraw: true, noDone: true, seed: 6916}},
	{"commit before drained", "OWNER ORDER", mutation{noDrain: true}},
	{"the hello's incarnation is ignored", "REPEAT STUCK", mutation{onUp: func(_ *simNode, p *Peer, hello *simFrame) {
		if p.inc != 0 && hello.inc != 0 {
			hello.inc = p.inc
		}
	}}},
	{"links lose single frames", "STUCK", mutation{onFrame: onMessages(func(n *simNode, _ *Peer, _ *wire.Header) bool {
		return !n.w.chance(.02)
	})}},
	{"refusals are lost", "STUCK", mutation{onFrame: func(_ *simEnd, _ *Peer, h *wire.Header) bool {
		return h.Type != wire.TypeLater
	}}},
	{"no fence when a program joins", "ORDER", mutation{onFrame: onMessages(func(n *simNode, _ *Peer, _ *wire.Header) bool {
		n.core.chain = nil
		return true
	})}},
	{"a newer epoch is refused before what is known", "REPEAT ORDER", mutation{seed: 2417,
		onFrame: onMessages(func(n *simNode, p *Peer, h *wire.Header) bool {
			if set := n.core.sets[h.Session]; set != nil && h.Epoch.Compare(n.core.epoch) > 0 {
				n.core.wantTable(n.w.now, p, h.Epoch)
				n.core.later(set, h, waitNode, &n.core.waiters)
				return false
			}
			return true
		}),
	}},
	{"a node that is down keeps its programs going", "REPEAT OWNER", mutation{onView: func(n *simNode) {
		for _, s := range n.core.sessions {
			s.program.displaced = false
		}
	}}},
	// R1, R2
	{"a new attempt of what was given is not remembered", "STUCK KEPT", mutation{onFrame: onMessages(func(n *simNode, _ *Peer, h *wire.Header) bool {
		if set := n.core.sets[h.Session]; set != nil && set.accepted.has(h.Seq) && h.Seq >= set.low {
			h.Attempt = set.attempts[h.Seq%Window]
		}
		return true
	})}},
	{"who does not act for a hash takes it", "OWNER STANDIN", mutation{onFrame: onMessages(func(n *simNode, p *Peer, h *wire.Header) bool {
		c := n.core
		if set := c.inSetOf(p, h); h.Kind == wire.KindHash && h.Seq >= set.low && !set.holds(h.Seq) && h.Epoch.Compare(c.epoch) <= 0 && !c.mayHave(h) {
			c.accept(set, h, n.w.judge.msgs[judgeKey{int(h.Session[0]) - 1, h.Seq}].payload())
			return false
		}
		return true
	})}},
	// R3
	{"what is withdrawn stays in the set", "STUCK", mutation{onWithdraw: func(_ *simNode, _ *Session, had []handed) {
		for i := range had {
			if r := &had[i]; r.seq >= r.set.low {
				r.set.accepted.add(r.seq)
			}
		}
	}}},
	{"what a program was not done with is not marked", "REPEAT", mutation{noDoneMark: true}},
	// R5
	{"a server that is down is waited for", "STUCK REPEAT", mutation{beforeView: func(n *simNode, t *ring.Table) {
		for _, s := range n.core.sessions {
			w := &s.requests
			for seq := w.low; w.live > 0 && seq <= w.last; seq++ {
				if e := w.at(seq); e != nil && e.state == out && e.fan == nil {
					e.inc = 0
					for i := range t.Servers {
						if sv := &t.Servers[i]; sv.ID == e.dest.id && sv.Status.Live() == ring.Up {
							e.inc = sv.Incarnation
						}
					}
				}
			}
		}
	}}},
	// R6: what is handed back
	{"Restore keeps what is another's", "OWNER", mutation{seed: 1733, onRestore: func(n *simNode, s *Session, recs []Handed, keep []bool) {
		table, inc, self := n.core.table, n.core.self, n.core.selfIndex
		if table == nil {
			return
		}
		owners := slices.Clone(table.Base.Owners)
		for i := range table.Base.Owners {
			table.Base.Owners[i] = uint16(n.idx)
		}
		if n.core.selfIndex < 0 {
			n.core.selfIndex = slices.Index(n.w.servers, n)
		}
		n.core.Restore(n.w.now, s, recs, keep)
		copy(table.Base.Owners, owners)
		n.core.self, n.core.selfIndex = inc, self
	}}},
	{"Restore keeps what is known", "ORDER REPEAT STUCK", mutation{onRestore: func(n *simNode, s *Session, recs []Handed, keep []bool) {
		heard := map[*inSet]bool{}
		for _, set := range n.core.sets {
			heard[set], set.restored = set.restored, true
			set.accepted, set.taken = bitset{}, bitset{}
		}
		n.core.Restore(n.w.now, s, recs, keep)
		for set, restored := range heard {
			set.restored = restored
		}
	}}},
	{"no fence after Restore", "ORDER", mutation{onRestore: func(n *simNode, s *Session, recs []Handed, keep []bool) {
		n.core.Restore(n.w.now, s, recs, keep)
		n.core.restored = nil
	}}},
	{"what is kept is not marked", "REPEAT", mutation{seed: 824, noKeptMark: true}},
	{"what is struck out is acknowledged", "KEPT", mutation{onRestore: func(n *simNode, s *Session, recs []Handed, keep []bool) {
		n.core.Restore(n.w.now, s, recs, keep)
		for i, r := range recs {
			if p := n.core.peers[r.From]; !keep[i] && p != nil {
				n.core.answer(p, wire.Header{Type: wire.TypeAck, Session: r.Session, Seq: r.Seq, Hash: 1}, true)
			}
		}
	}}},
	// Outcomes
	{"no report", "KEPT OUTCOME", mutation{noOutcome: true}},
	{"the report comes after the room is given back", "KEPT OUTCOME", mutation{lateOutcome: true}},
	{"that it may have been taken is not said", "OUTCOME DEADLINE", mutation{noMaybe: true}},
	{"a flag of the sender's side travels", "PROTOCOL", mutation{onFrame: onMessages(func(_ *simNode, _ *Peer, h *wire.Header) bool {
		h.Flags |= wire.FlagWantsSettled
		return true
	})}},
	// Requests without a reply
	{"nobody is told of lost requests", "REQUEST", mutation{onFrame: func(_ *simEnd, _ *Peer, h *wire.Header) bool {
		return h.Type != wire.TypeRequestLost
	}}},
	{"lost requests are told once only", "REQUEST", mutation{onFrame: func(e *simEnd, _ *Peer, _ *wire.Header) bool {
		e.node.core.lost = lostRequests{}
		return true
	}}},
	{"replies in the ring of an ended program come too late", "REQUEST", mutation{seed: 6423, onWithdraw: func(n *simNode, s *Session, _ []handed) {
		n.core.EndReplies(s)
	}}},
	{"a program that comes back leaves its requests behind", "REQUEST", mutation{returns: true, seed: 5177, onRestore: func(n *simNode, s *Session, recs []Handed, keep []bool) {
		s.program.open = openRequests{}
		n.core.Restore(n.w.now, s, recs, keep)
		s.program.open = openRequests{}
	}}},
	{"a forgotten session is not suspect", "REPEAT", mutation{onFrame: func(e *simEnd, _ *Peer, _ *wire.Header) bool {
		for _, set := range e.node.core.sets {
			set.suspect = false
		}
		return true
	}}},
}

// play plays seeds until a broken rule is noticed, and says by what. Those that
// take many runs name a seed that shows them.
func caughtBy(opt simOptions, from uint64) (seed uint64, what string) {
	for i := range uint64(20000) {
		w := newSim(from+i, opt)
		if w.play(); len(w.bad) > 0 {
			return from + i, w.bad[0]
		}
	}
	return 0, ""
}

// Proves that the judge is not blind: each rule that is left out is noticed
// within few runs, for the right reason.
func TestBrokenRulesAreCaught(t *testing.T) {
	for _, mu := range mutants {
		t.Run(mu.name, func(t *testing.T) {
			opt := simOptions{cuts: true, merges: true, deaths: true, crash: true, replays: true, mutation: mu.m}
			if mu.m.returns {
				opt.crash, opt.returns = false, true
			}
			opt.deadlines = mu.m.early || mu.m.noMaybe
			seed, what := caughtBy(opt, mu.m.seed)
			kind, _, _ := strings.Cut(what, ":")
			switch {
			case what == "":
				t.Error("not caught")
			case !strings.Contains(mu.caught, kind):
				t.Errorf("seed %d: caught as %q, want one of %s", seed, what, mu.caught)
			}
			t.Logf("seed %d: %s", seed, what)
		})
	}
}

// Proves that rules whose removal breaks nothing are worth having: without them
// a counter over the same runs is higher.
func TestRulesThatOnlySave(t *testing.T) {
	tests := []struct {
		name  string
		opt   simOptions
		m     mutation
		count func(w *sim) int
	}{
		{"what is restored is known: repeats", simOptions{cuts: true, crash: true}, mutation{onRestore: func(n *simNode, s *Session, recs []Handed, keep []bool) {
			n.core.Restore(n.w.now, s, recs, keep)
			for _, set := range n.core.sets {
				if set.restored {
					set.accepted = bitset{}
				}
			}
		}}, func(w *sim) int { return w.judge.count.repeats }},
		{"MOVED waits for the table: refusals", simOptions{cuts: true, merges: true}, mutation{onFrame: func(_ *simEnd, _ *Peer, h *wire.Header) bool {
			if h.Type == wire.TypeMoved {
				h.Epoch = ring.Epoch{}
			}
			return true
		}}, func(w *sim) int { return w.sum(func(s *Stats) uint64 { return s.Moved }) }},
		{"who knows says so: bytes of lost requests", simOptions{cuts: true, deaths: true}, mutation{onFrame: func(e *simEnd, p *Peer, h *wire.Header) bool {
			return h.Type != wire.TypeRequestLost || !slices.ContainsFunc(e.node.core.lost.list, func(r request) bool { return r.node == p.id && r.seq == h.Seq })
		}}, func(w *sim) (left int) {
			for _, n := range w.nodes {
				left += len(n.core.lost.list)
			}
			return left
		}},
		{"LATER waits for room or time: transmissions", simOptions{cuts: true}, mutation{onFrame: func(e *simEnd, p *Peer, h *wire.Header) bool {
			if s := e.node.core.byID[h.Session]; s != nil && h.Type == wire.TypeLater {
				e.node.core.refused(e.node.w.now, p, h)
				if pr := s.known(p); pr != nil {
					pr.lift()
				}
				e.node.core.scan(e.node.w.now, s)
				return false
			}
			return true
		}}, func(w *sim) int { return w.sum(func(s *Stats) uint64 { return s.Transmitted }) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			with, without := 0, 0
			for seed := uint64(0); seed < 1000 && (seed < 30 || without <= with); seed++ {
				for _, m := range []mutation{{}, tt.m} {
					opt := tt.opt
					opt.mutation = m
					w := newSim(seed, opt)
					if w.play(); len(w.bad) > 0 {
						t.Fatalf("seed %d: %s", seed, w.bad[0])
					}
					if m.onFrame == nil && m.onRestore == nil {
						with += tt.count(w)
					} else {
						without += tt.count(w)
					}
				}
			}
			if without <= with {
				t.Errorf("%d with the rule, %d without", with, without)
			}
			t.Logf("%d with the rule, %d without", with, without)
		})
	}
}

// sum adds up a counter of all nodes.
func (w *sim) sum(of func(s *Stats) uint64) (n int) {
	for _, node := range w.nodes {
		s := node.core.Stats()
		n += int(of(&s))
	}
	return n
}
