package raftnode

import (
	"io"
	"log/slog"
	"sync"

	"github.com/hashicorp/raft"
)

// transport is what raft uses of a transport.
type transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// Snapshots in a row to one follower, without an entry that it accepts in
// between: this many are worth a line in the log, and then every so many.
const (
	snapshotsInRow    = 3
	snapshotsLogEvery = 100
)

// countingTransport notices a follower that gets one snapshot after another: with
// a tail of uncommitted entries that reaches beyond the snapshot it refuses
// every entry behind it (hashicorp/raft issue 697), for ever. The length of the
// tail that a leader keeps and the bound of proposals make that unlikely; nothing
// in raft would say so.
type countingTransport struct {
	transport
	log *slog.Logger

	mu   sync.Mutex            // guards sent
	sent map[raft.ServerID]int // snapshots in a row
}

func newCountingTransport(t transport, log *slog.Logger) *countingTransport {
	return &countingTransport{transport: t, log: log, sent: make(map[raft.ServerID]int)}
}

// InstallSnapshot implements raft.Transport.
func (t *countingTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	t.mu.Lock()
	t.sent[id]++
	n := t.sent[id]
	t.mu.Unlock()
	if n == snapshotsInRow || n%snapshotsLogEvery == 0 {
		t.log.Warn("a follower is sent one snapshot after another and accepts no entry; if that goes on, stop it, move its data directory away and start it again",
			"raft_id", string(id), "snapshots", n, "index", args.LastLogIndex)
	}
	return t.transport.InstallSnapshot(id, target, args, resp, data)
}

// AppendEntries implements raft.Transport. Pipelines begin only after one that
// succeeded; heartbeats, which name no entry, always succeed.
func (t *countingTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.transport.AppendEntries(id, target, args, resp)
	if err == nil && resp.Success && (args.PrevLogEntry > 0 || len(args.Entries) > 0) {
		t.mu.Lock()
		delete(t.sent, id)
		t.mu.Unlock()
	}
	return err
}
