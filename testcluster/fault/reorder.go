package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Reorder lets connections between two hosts overtake each other.
type Reorder struct{}

// Info implements Fault.
func (Reorder) Info() Info {
	return Info{Name: "reorder", About: "connections between two hosts overtake each other by up to 500 ms", Hits: "two servers, or a slave and a server, both ways",
		Undone: "the network is well again", Forwarders: true}
}

// Draw implements Fault.
func (Reorder) Draw(d Dice) Event {
	return Event{For: d.netFor(), Targets: d.pair(), Detail: d.between(20*time.Millisecond, 500*time.Millisecond).Round(time.Millisecond).String()}
}

// Begin implements Fault.
func (Reorder) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	most, err := time.ParseDuration(e.Detail)
	if err != nil {
		return nil, fmt.Errorf("fault: %s: %w", e, err)
	}
	return onPaths(r, e, netem.Condition{Spread: most}, bothWays(e.Targets[0], e.Targets[1]))
}
