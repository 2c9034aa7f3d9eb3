package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Delay makes what travels between two hosts late.
type Delay struct{}

// Info implements Fault.
func (Delay) Info() Info {
	return Info{Name: "delay", About: "everything between two hosts is up to 300 ms late, each time by another time", Hits: "two servers, or a slave and a server, both ways",
		Undone: "the network is well again", Forwarders: true}
}

// Draw implements Fault.
func (Delay) Draw(d Dice) Event {
	return Event{For: d.netFor(), Targets: d.pair(), Detail: d.between(5*time.Millisecond, 300*time.Millisecond).Round(time.Millisecond).String()}
}

// Begin implements Fault.
func (Delay) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	most, err := time.ParseDuration(e.Detail)
	if err != nil {
		return nil, fmt.Errorf("fault: %s: %w", e, err)
	}
	return onPaths(r, e, netem.Condition{Delay: most / 2, Jitter: most / 2}, bothWays(e.Targets[0], e.Targets[1]))
}
