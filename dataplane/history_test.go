package dataplane_test

import (
	"slices"
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
		if got, err := c.Request(patiently(t), 1, []byte(text)); err != nil || string(got.Payload) != text {
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

// The room for a history may change while it is on: the newest passages stay, no
// more are kept than there is room for, and without any it is off.
func TestHistoryResized(t *testing.T) {
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, history: 6}).begin(1)
	answering(t, w.nodes[0])
	c := attach(t, w.slave(), client.RoleClient)
	p := w.slave().plane
	request := func() {
		t.Helper()
		if _, err := c.Request(patiently(t), 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	p.SetHistory(true)
	request() // four passages
	request()
	before := p.History()
	for _, tc := range []struct{ limit, want int }{{8, 6}, {5, 5}, {3, 3}} {
		p.SetLimits(dataplane.Limits{HistoryMax: tc.limit})
		if got := p.History(); len(got) != tc.want || !slices.Equal(got, before[6-tc.want:]) {
			t.Errorf("with room for %d: %+v, before %+v", tc.limit, got, before)
		}
	}
	request()
	if got := p.History(); len(got) != 3 || !got[0].At.After(before[5].At) || got[0].At.After(got[2].At) {
		t.Errorf("with room for 3, after more: %+v", got)
	}
	p.SetLimits(dataplane.Limits{})
	if got := p.History(); len(got) != 0 || p.SetHistory(true) {
		t.Errorf("without room: %+v", got)
	}
	request()
	p.SetLimits(dataplane.Limits{HistoryMax: 4})
	if !p.SetHistory(true) {
		t.Error("it was still on")
	}
	request()
	if got := p.History(); len(got) != 4 {
		t.Errorf("on again: %+v", got)
	}
}

// Without room for a history none is kept.
func TestNoHistory(t *testing.T) {
	w := newWorld(t, 1)
	if p := w.slave().plane; p.SetHistory(true) || len(p.History()) != 0 {
		t.Error("a history without room")
	}
}
