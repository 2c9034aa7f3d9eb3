package node

import (
	"testing"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// The ring that a configuration starts has the placement and the delivery mode
// of the configuration, and a state machine takes them.
func TestRingParams(t *testing.T) {
	for _, c := range []struct {
		config config.Config
		want   fsm.Params
	}{
		{config.Config{DeliverMode: "HASH", Placement: "SLOTS", Replica: 1, DoMerge: true, VotersMax: 5},
			fsm.Params{Slots: ring.DefaultSlots, Replica: 1, DeliverMode: "hash", Placement: "slots", IDType: ring.IDByCUK, DoMerge: true, MaxVoters: 5}},
		{config.Config{DeliverMode: "HASH", Placement: "CHMPX", Replica: 2, DoMerge: true, AutoMerge: true, VotersMax: 3},
			fsm.Params{Replica: 2, DeliverMode: "hash", Placement: "chmpx", IDType: ring.IDByCUK, DoMerge: true, AutoMerge: true, MaxVoters: 3}},
		{config.Config{DeliverMode: "RANDOM", Placement: "SLOTS", AutoMerge: true, VotersMax: 1},
			fsm.Params{Slots: ring.DefaultSlots, DeliverMode: "random", Placement: "slots", IDType: ring.IDByCUK, AutoMerge: true, MaxVoters: 1}},
	} {
		got := ringParams(&c.config, ring.IDByCUK)
		if got != c.want {
			t.Errorf("%+v gives\n%+v, want\n%+v", c.config, got, c.want)
		}
		res, err := fsm.New().Apply(1, fsm.Command{Body: fsm.RingInit{RingID: 1, Era: 1, Group: "G", Params: got}})
		if err != nil || res.Err != nil {
			t.Errorf("%+v: %v, %v", got, res.Err, err)
		}
	}
}
