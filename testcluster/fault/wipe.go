package fault

import (
	"context"
	"fmt"

	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Wipe lets a server lose its disk.
type Wipe struct{}

// Info implements Fault.
func (Wipe) Info() Info {
	return Info{Name: "wipe", About: "a server is killed and comes back with an empty disk", Hits: "one server, when all others are well",
		Undone: "the node is started again and joins under another raft id"}
}

// Draw implements Fault.
func (Wipe) Draw(d Dice) Event { return Event{For: d.dead(), Targets: []string{d.server()}} }

// Begin implements Fault. Whoever loses the disks of most voters needs a person
// to decide: as long as any server is not well, no disk is lost.
func (Wipe) Begin(ctx context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	h, release, err := claimNode(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	if err := allWell(ctx, r); err != nil {
		release()
		return nil, err
	}
	h.Kill()
	if err := h.Wipe(); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		return h.Start("")
	}}, nil
}

// allWell returns ErrSkipped unless all servers are in service and all votes are held.
func allWell(ctx context.Context, r *rig.Rig) error {
	leader := r.Leader(ctx)
	if leader == nil {
		return fmt.Errorf("%w: nobody leads", ErrSkipped)
	}
	st, err := leader.Status(ctx)
	if err != nil {
		return fmt.Errorf("%w: the leader says nothing", ErrSkipped)
	}
	voters := 0
	for _, s := range st.Servers {
		if s.Raft == "voter" {
			voters++
		}
	}
	if n := len(r.Servers); testcluster.InService(st) < n || voters < min(5, n-1+n%2) {
		return fmt.Errorf("%w: not all servers are well", ErrSkipped)
	}
	return nil
}
