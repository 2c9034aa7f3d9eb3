package fault

import (
	"context"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Cut resets the connections between two hosts and refuses new ones.
type Cut struct{}

// Info implements Fault.
func (Cut) Info() Info {
	return Info{Name: "cut", About: "connections between two hosts are reset and refused", Hits: "two servers, or a slave and a server", Undone: "they can connect again"}
}

// Draw implements Fault.
func (Cut) Draw(d Dice) Event { return Event{For: d.netFor(), Targets: d.pair()} }

// Begin implements Fault.
func (Cut) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	return onPaths(r, e, netem.Condition{Refuse: true}, [][2]string{{e.Targets[0], e.Targets[1]}})
}
