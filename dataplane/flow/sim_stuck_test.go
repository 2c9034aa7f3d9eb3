package flow

import (
	"testing"
)

// stall fills a calm ring until nothing moves: every program that gets
// anything has a full in-ring and takes nothing, every sender more than it may
// send. Before, programs took some requests, which they have not answered.
func stall(t *testing.T, seed uint64, m mutation) (w *sim, asked int) {
	w = newSim(seed, simOptions{mutation: m})
	w.tracing = true
	for !w.settle() {
	}
	w.calm, w.slow, w.budget = true, true, 1<<30
	for range 40 {
		for _, p := range w.progs {
			if p.sends {
				p.send()
			}
		}
		w.drain()
	}
	for _, p := range w.progs {
		asked += len(p.todo)
	}
	w.stuck = true
	for range 60 {
		for _, p := range w.progs {
			for range 40 {
				if p.sends {
					p.send()
				}
			}
		}
		w.drain()
	}
	for _, p := range w.progs {
		if m.blocks {
			break
		}
		if p.server && len(p.att.in) > 0 && len(p.att.in) < p.att.inCap {
			t.Fatalf("seed %d: the in-ring of %v is not full", seed, p)
		}
		if p.sends && !p.att.full {
			t.Fatalf("seed %d: %v may send more", seed, p)
		}
	}
	return w, asked
}

// answerAll lets every program answer what it has, and counts what arrives
// while no program takes anything.
func (w *sim) answerAll() (arrived int) {
	before := w.judge.count.answers
	for _, p := range w.progs {
		for len(p.todo) > 0 {
			p.answer(0)
		}
	}
	for range 200 {
		w.drain()
	}
	return w.judge.count.answers - before
}

// Proves that replies and control pass while every request is stuck (R7), and
// that everything flows again when programs take.
func TestRepliesPassWhileRequestsAreStuck(t *testing.T) {
	total := 0
	for seed := range uint64(10) {
		w, asked := stall(t, seed, mutation{})
		if got := w.answerAll(); got != asked {
			t.Errorf("seed %d: %d of %d replies arrived", seed, got, asked)
		}
		total += asked
		w.stuck, w.slow = false, false
		for range 3000 {
			if w.settle() || len(w.bad) > 0 {
				break
			}
		}
		if len(w.bad) == 0 {
			w.judge.finish()
		}
		if len(w.bad) > 0 {
			report(t, seed, w)
		}
	}
	if total == 0 {
		t.Error("nothing was asked")
	}
}

// Proves that the test above is not blind: a node that reads no further while
// a program has no room keeps replies from its programs that ask.
func TestBlockedLinksStopReplies(t *testing.T) {
	for seed := range uint64(10) {
		if w, asked := stall(t, seed, mutation{blocks: true}); w.answerAll() < asked {
			return
		}
	}
	t.Error("every reply arrived")
}
