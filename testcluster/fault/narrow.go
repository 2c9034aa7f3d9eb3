package fault

import (
	"context"
	"fmt"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Narrow is a network of little bandwidth.
type Narrow struct{}

// Info implements Fault.
func (Narrow) Info() Info {
	return Info{Name: "narrow", About: "little passes between two hosts: 4 to 64 KiB a second on each connection", Hits: "two servers, or a slave and a server, both ways",
		Undone: "the network is well again", Forwarders: true}
}

// Draw implements Fault.
func (Narrow) Draw(d Dice) Event {
	return Event{For: d.netFor(), Targets: d.pair(), Detail: fmt.Sprintf("%d KiB/s", 4+d.IntN(60))}
}

// Begin implements Fault.
func (Narrow) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	var kib int
	if _, err := fmt.Sscanf(e.Detail, "%d KiB/s", &kib); err != nil {
		return nil, fmt.Errorf("fault: %s: %w", e, err)
	}
	return onPaths(r, e, netem.Condition{Rate: kib << 10}, bothWays(e.Targets[0], e.Targets[1]))
}
