package fsm

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chmpx/chmpx/ring"
)

// TestRenew proves that a renewed state differs from the old one by ring id, era
// and epoch only, that its table replaces the old one, and that it survives a snapshot.
func TestRenew(t *testing.T) {
	s := New()
	if err := s.Renew(2, 1); !errors.Is(err, ErrNoRing) {
		t.Errorf("without a ring: %v", err)
	}
	for i, b := range []Body{
		RingInit{RingID: 1, Era: 1, Group: "g", Params: Params{Slots: 8, DeliverMode: "hash", Placement: "slots", MaxVoters: 5}},
		ServerUp{ID: 1, Server: ring.Identity{Name: "a"}, Addr: "a:1", Boot: 7},
	} {
		if res, err := s.Apply(uint64(i+1), Command{Body: b}); err != nil || res.Err != nil {
			t.Fatalf("entry %d: %v, %v", i+1, err, res.Err)
		}
	}
	old := s.View()
	if err := s.Renew(2, 1); err != nil {
		t.Fatal(err)
	}
	is := s.View()
	if is.RingID != 2 || is.Era != 2 || is.Table.RingID != 2 || is.Table.Epoch.Era != 2 || !is.Table.Newer(old.Table) {
		t.Errorf("ring %d era %d, table of ring %d, epoch %v", is.RingID, is.Era, is.Table.RingID, is.Table.Epoch)
	}
	if diff := cmp.Diff(old.Table.Servers, is.Table.Servers); diff != "" {
		t.Errorf("servers changed:\n%s", diff)
	}
	again := New()
	if err := again.Restore(s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if v := again.View(); v.RingID != 2 || v.Table.Epoch != is.Table.Epoch {
		t.Errorf("restored: ring %d, epoch %v", v.RingID, v.Table.Epoch)
	}
}

// TestRenewForgetsNotItself proves that of the servers that were to be forgotten the
// one that goes on is kept, and comes up; the others are still to go.
func TestRenewForgetsNotItself(t *testing.T) {
	s := New()
	up := func(id ring.ID) ServerUp {
		return ServerUp{ID: id, Server: ring.Identity{Name: string(rune('a' + id))}, Addr: "a:1", Boot: uint64(id)}
	}
	bodies := []Body{RingInit{RingID: 1, Era: 1, Group: "g", Params: Params{Slots: 8, DeliverMode: "hash", Placement: "slots", MaxVoters: 5}}, up(1), up(2)}
	for _, id := range []ring.ID{1, 2} {
		bodies = append(bodies, NodeDown{ID: id, Incarnation: ring.Incarnation(id + 1)}, ServerForget{ID: id})
	}
	for i, b := range bodies {
		if res, err := s.Apply(uint64(i+1), Command{Body: b}); err != nil || res.Err != nil {
			t.Fatalf("entry %d: %v, %v", i+1, err, res.Err)
		}
	}
	if err := s.Renew(2, 1); err != nil {
		t.Fatal(err)
	}
	if v := s.View(); v.Member(1).Forget || !v.Member(2).Forget {
		t.Errorf("to be forgotten: %t, %t", v.Member(1).Forget, v.Member(2).Forget)
	}
	if res, err := s.Apply(uint64(len(bodies)+1), Command{Body: up(1)}); err != nil || res.Err != nil {
		t.Errorf("it does not come up: %v, %v", err, res.Err)
	}
}
