package raftnode

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// gapless is a log that goes on in one piece. A member that gets a snapshot keeps in its log
// what it had before, and goes on behind the snapshot. In between nothing is, and what was
// before need not be what the ring committed: as a leader the member would send it. So the first
// entry behind a gap takes the place of everything before it, which the snapshot has.
type gapless struct{ raft.LogStore }

// StoreLog implements raft.LogStore.
func (g gapless) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (g gapless) StoreLogs(ls []*raft.Log) error {
	last, err := g.LastIndex()
	if err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	}
	if last > 0 && len(ls) > 0 && ls[0].Index > last+1 {
		first, err := g.FirstIndex()
		if err == nil {
			err = g.DeleteRange(first, last)
		}
		if err != nil {
			return fmt.Errorf("remove what is before a gap: %w", err)
		}
	}
	return g.LogStore.StoreLogs(ls)
}
