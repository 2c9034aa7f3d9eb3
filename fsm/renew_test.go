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
	if err := s.Renew(2); !errors.Is(err, ErrNoRing) {
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
	if err := s.Renew(2); err != nil {
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
