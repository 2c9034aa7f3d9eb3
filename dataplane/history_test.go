package dataplane_test

import (
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// The history of a request is, on each node that it passes, what came in and
// went out, in order; it is bounded, begins anew when it is switched on, and
// stays to be read when it is switched off.
func TestHistory(t *testing.T) {
	const limit = 6
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, history: limit}).begin(1)
	answering(t, w.nodes[0])
	c := attach(t, w.slave(), client.RoleClient)
	request := func(text string) {
		t.Helper()
		if got, err := c.Request(within20s(t), 1, []byte(text)); err != nil || string(got.Payload) != text {
			t.Fatalf("%q, %v", got.Payload, err)
		}
	}
	type way struct{ out, program bool }
	check := func(p *dataplane.Plane, want []dataplane.Passage) {
		t.Helper()
		got := p.History()
		if len(got) != len(want) {
			t.Fatalf("%d passages: %+v, want %d", len(got), got, len(want))
		}
		last := time.Time{}
		for i, g := range got {
			if g.Out != want[i].Out || g.Program != want[i].Program || g.Bytes != want[i].Bytes || g.At.Before(last) || time.Since(g.At) > time.Minute {
				t.Errorf("passage %d: %+v, want %+v not before %v", i, g, want[i], last)
			}
			last = g.At
		}
	}
	passages := func(bytes int, ways ...way) (all []dataplane.Passage) {
		for _, y := range ways {
			n := bytes
			if !y.program {
				n += wire.HeaderBytes
			}
			all = append(all, dataplane.Passage{Out: y.out, Program: y.program, Bytes: n})
		}
		return all
	}
	asker := []way{{false, true}, {true, false}, {false, false}, {true, true}}
	answerer := []way{{false, false}, {true, true}, {false, true}, {true, false}}

	server, slave := w.nodes[0].plane, w.slave().plane
	request("off")
	check(slave, nil)
	for _, p := range []*dataplane.Plane{server, slave} {
		if !p.SetHistory(true) || p.SetHistory(true) {
			t.Error("switching on is a change once")
		}
	}
	request("abc")
	check(slave, passages(3, asker...))
	check(server, passages(3, answerer...))
	request("fghij")
	check(slave, append(passages(3, asker[2:]...), passages(5, asker...)...))
	if !slave.SetHistory(false) || slave.SetHistory(false) {
		t.Error("switching off is a change once")
	}
	request("off again")
	check(slave, append(passages(3, asker[2:]...), passages(5, asker...)...))
	if !slave.SetHistory(true) {
		t.Error("not switched on again")
	}
	check(slave, nil)
}

// Without room for a history none is kept.
func TestNoHistory(t *testing.T) {
	w := newWorld(t, 1)
	if p := w.slave().plane; p.SetHistory(true) || len(p.History()) != 0 {
		t.Error("a history without room")
	}
}
