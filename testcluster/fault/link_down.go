package fault

import (
	"context"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// LinkDown pulls the network cable of a host.
type LinkDown struct{}

// Info implements Fault.
func (LinkDown) Info() Info {
	return Info{Name: "link-down", About: "a host loses its link: refused everywhere; silent in network namespaces", Hits: "one host", Undone: "the link is up again"}
}

// Draw implements Fault.
func (LinkDown) Draw(d Dice) Event { return Event{For: d.netFor(), Targets: []string{d.host()}} }

// Begin implements Fault.
func (LinkDown) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	h, release, err := claim(r, e.Targets[0], "link")
	if err != nil {
		return nil, err
	}
	if err := r.Net.Link(h.Name, false); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		return r.Net.Link(h.Name, true)
	}}, nil
}
