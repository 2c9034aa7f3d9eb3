package fault

import (
	"context"
	"fmt"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Loss loses packets, as TCP shows it.
type Loss struct{}

// Info implements Fault.
func (Loss) Info() Info {
	return Info{Name: "loss", About: "packets between two hosts are lost: TCP stalls and sometimes breaks", Hits: "two servers, or a slave and a server, both ways",
		Undone: "the network is well again", Forwarders: true}
}

// Draw implements Fault.
func (Loss) Draw(d Dice) Event {
	return Event{For: d.netFor(), Targets: d.pair(), Detail: fmt.Sprintf("%.0f%%", 1+d.Float64()*20)}
}

// Begin implements Fault.
func (Loss) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	var percent float64
	if _, err := fmt.Sscanf(e.Detail, "%f%%", &percent); err != nil {
		return nil, fmt.Errorf("fault: %s: %w", e, err)
	}
	return onPaths(r, e, netem.Condition{Loss: percent / 100}, bothWays(e.Targets[0], e.Targets[1]))
}
