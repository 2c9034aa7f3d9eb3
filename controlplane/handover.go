package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// handOver hands the lead to the voter that has answered last, or to the next one if
// that does not take it. Raft itself goes by how much of the log a voter has been
// sent, so in a quiet ring it may choose one that is dead.
func (p *Plane) handOver(ctx context.Context) error {
	n := p.node.Load()
	heirs := heirsOf(p.clusterOf(), *p.raftID.Load(), n.Contacts())
	if len(heirs) == 0 {
		return errors.New("no other voter has been heard")
	}
	var errs []error
	for _, to := range heirs {
		for {
			err := await(ctx, n.LeadershipTransferToServer(to.ID, to.Address))
			if err == nil || !p.leads() {
				return nil
			}
			if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
				errs = append(errs, fmt.Errorf("to %s: %w", to.ID, err))
				break
			}
			sleep(ctx, answersLook) // raft tells of a failure before it is ready for the next
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// heirsOf returns the voters that may take the lead, who was heard last first. It is
// pure.
func heirsOf(cluster []raft.Server, self raft.ServerID, heard map[raft.ServerID]time.Time) []raft.Server {
	heirs := slices.DeleteFunc(slices.Clone(cluster), func(s raft.Server) bool {
		return s.ID == self || s.Suffrage != raft.Voter || heard[s.ID].IsZero()
	})
	slices.SortFunc(heirs, func(a, b raft.Server) int { return heard[b.ID].Compare(heard[a.ID]) })
	return heirs
}
