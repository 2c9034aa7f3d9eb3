package fault

import (
	"context"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Stop ends a node in order.
type Stop struct{}

// Info implements Fault.
func (Stop) Info() Info {
	return Info{Name: "stop", About: "a node is told to stop and does so in order", Hits: "one server or slave", Undone: "the node is started again"}
}

// Draw implements Fault.
func (Stop) Draw(d Dice) Event { return Event{For: d.dead(), Targets: []string{d.host()}} }

// Begin implements Fault.
func (Stop) Begin(ctx context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	h, release, err := claimNode(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	// It may take seconds, in which other faults go on, and more than is left of
	// the round: Stop bounds it.
	stopped := make(chan error, 1)
	go func() { stopped <- h.Stop(context.WithoutCancel(ctx)) }()
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		if err := <-stopped; err != nil { // bounded by Stop
			return err
		}
		return h.Start("")
	}}, nil
}
