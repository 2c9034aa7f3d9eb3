package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Garbage is a stranger who writes random bytes to everything that a node listens on.
type Garbage struct{}

// Info implements Fault.
func (Garbage) Info() Info {
	return Info{Name: "garbage", About: "a stranger writes random bytes to the ports and to an attach socket", Hits: "one server or slave", Undone: "by itself"}
}

// Draw implements Fault.
func (Garbage) Draw(d Dice) Event {
	return Event{Targets: []string{d.host()}, Detail: strconv.FormatUint(d.Uint64(), 10)}
}

// Begin implements Fault.
func (Garbage) Begin(ctx context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	seed, err := strconv.ParseUint(e.Detail, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("fault: %s: %w", e, err)
	}
	h := r.Host(e.Targets[0])
	if h == nil {
		return nil, fmt.Errorf("fault: no host %q", e.Targets[0])
	}
	_ = r.Garbage(ctx, h.Node, rand.New(rand.NewPCG(seed, 0))) // errors are those of connecting, and nodes may be dead
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error { return nil }}, nil
}
