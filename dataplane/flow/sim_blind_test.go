package flow

import (
	"strings"
	"testing"

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
	{"acknowledged when given, not when taken", "KEPT", mutation{onDelivered: func(n *simNode, d *Delivery) {
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
	{"low is too high", "KEPT", mutation{onFrame: onMessages(func(_ *simNode, _ *Peer, h *wire.Header) bool {
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
	{"an ended program takes part until all that it sent is read", "STUCK KEPT REPEAT", mutation{noWithdraw: true}},
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
	{"a newer epoch is refused before what is known", "REPEAT ORDER", mutation{
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
	{"a forgotten session is not suspect", "REPEAT", mutation{onFrame: func(e *simEnd, _ *Peer, _ *wire.Header) bool {
		for _, set := range e.node.core.sets {
			set.suspect = false
		}
		return true
	}}},
}

// Proves that the judge is not blind: each rule that is left out is noticed
// within few runs, for the right reason.
func TestBrokenRulesAreCaught(t *testing.T) {
	for _, mu := range mutants {
		t.Run(mu.name, func(t *testing.T) {
			opt := simOptions{cuts: true, merges: true, deaths: true, crash: true, replays: true, mutation: mu.m}
			opt.deadlines = mu.m.early
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
