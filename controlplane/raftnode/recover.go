package raftnode

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Configuration returns the members that the stores of id know, and the index
// of the last entry. No member may run on these stores. scratch is a state
// machine that is not used afterwards.
func (s *Stores) Configuration(id raft.ServerID, scratch raft.FSM, log hclog.Logger) ([]raft.Server, uint64, error) {
	_, trans := raft.NewInmemTransport("")
	c, err := raft.GetConfiguration(configOf(id, log), scratch, s.log, s.stable, s.snaps, trans)
	if err != nil {
		return nil, 0, fmt.Errorf("read raft's configuration: %w", err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return nil, 0, fmt.Errorf("find the last entry: %w", err)
	}
	snaps, err := s.snaps.List()
	if err != nil {
		return nil, 0, fmt.Errorf("list snapshots: %w", err)
	}
	if len(snaps) > 0 {
		last = max(last, snaps[0].Index)
	}
	return c.Servers, last, nil
}

// Recover makes id the only member, with everything that its stores know:
// committed or not, nobody can tell any more. No member may run on these
// stores. The state machine is not used afterwards; its snapshot is what the
// member starts with.
func (s *Stores) Recover(id raft.ServerID, addr string, scratch raft.FSM, log hclog.Logger) error {
	_, trans := raft.NewInmemTransport("")
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: id, Address: Address(id, addr)}}}
	if err := raft.RecoverCluster(configOf(id, log), scratch, s.log, s.stable, s.snaps, trans, only); err != nil {
		return fmt.Errorf("recover raft: %w", err)
	}
	return nil
}

// Replay gives fsm the newest snapshot and every command behind it, committed or
// not, until enough says so. No member may run on these stores.
func (s *Stores) Replay(fsm raft.FSM, enough func() bool) error {
	snaps, err := s.snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	behind := uint64(0)
	if len(snaps) > 0 {
		behind = snaps[0].Index
		_, r, err := s.snaps.Open(snaps[0].ID)
		if err != nil {
			return fmt.Errorf("open snapshot: %w", err)
		}
		if err := fsm.Restore(r); err != nil {
			return fmt.Errorf("read snapshot %s: %w", snaps[0].ID, err)
		}
	}
	first, err := s.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("find the first entry: %w", err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	}
	for i := max(first, behind+1); i <= last && last > 0 && !enough(); i++ {
		var l raft.Log
		if err := s.log.GetLog(i, &l); err != nil {
			return fmt.Errorf("read entry %d: %w", i, err)
		}
		if l.Type == raft.LogCommand {
			fsm.Apply(&l)
		}
	}
	return nil
}
