package fault

import (
	"context"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Hang lets nothing pass between two hosts, and tells nobody.
type Hang struct{ OneWay bool }

// Info implements Fault.
func (h Hang) Info() Info {
	if h.OneWay {
		return Info{Name: "hang-one-way", About: "what the first host sends to the second one does not arrive; the reverse does",
			Hits: "two servers, or a slave and a server", Undone: "it arrives"}
	}
	return Info{Name: "hang", About: "connections between two hosts hang", Hits: "two servers, or a slave and a server", Undone: "they go on"}
}

// Draw implements Fault.
func (h Hang) Draw(d Dice) Event {
	e := Event{For: d.netFor(), Targets: d.pair()}
	if h.OneWay && d.IntN(2) == 0 {
		e.Targets[0], e.Targets[1] = e.Targets[1], e.Targets[0]
	}
	return e
}

// Begin implements Fault.
func (h Hang) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	directions := bothWays(e.Targets[0], e.Targets[1])
	if e.Fault == (Hang{OneWay: true}).Info().Name {
		directions = directions[:1]
	}
	return onPaths(r, e, netem.Condition{Hold: true}, directions)
}
