package raftnode

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

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

// entriesRetry is how often entries that did not get to a follower are sent again.
const entriesRetry = 100 * time.Millisecond

// steadyTransport does for raft what it would do badly itself.
//
// It sends entries again until the follower has answered: raft waits up to 10 s
// after a few errors, and a server that is back would be without news for as
// long.
//
// It notices a follower that gets one snapshot after another: with
// a tail of uncommitted entries that reaches beyond the snapshot it refuses
// every entry behind it (hashicorp/raft issue 697), for ever. The length of the
// tail that a leader keeps and the bound of proposals make that unlikely; nothing
// in raft would say so.
type steadyTransport struct {
	transport
	log   *slog.Logger
	ended <-chan struct{} // closed when there will be no more connections
	// leads reports whether this member leads in the term, and the other one is to follow it.
	leads func(term uint64, id raft.ServerID) bool

	mu    sync.Mutex                  // guards what follows
	sent  map[raft.ServerID]int       // snapshots in a row
	heard map[raft.ServerID]time.Time // when a follower last answered; raft keeps that to itself
}

func newSteadyTransport(t transport, ended <-chan struct{}, leads func(uint64, raft.ServerID) bool, log *slog.Logger) *steadyTransport {
	return &steadyTransport{transport: t, log: log, ended: ended, leads: leads, sent: make(map[raft.ServerID]int), heard: make(map[raft.ServerID]time.Time)}
}

// contacts returns when each of these members last answered this one as its
// leader, and forgets the others.
func (t *steadyTransport) contacts(members []raft.Server) map[raft.ServerID]time.Time {
	out := make(map[raft.ServerID]time.Time, len(members))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range members {
		if at, ok := t.heard[m.ID]; ok {
			out[m.ID] = at
		}
	}
	t.heard = maps.Clone(out)
	return out
}

// InstallSnapshot implements raft.Transport.
func (t *steadyTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
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
// succeeded. Heartbeats, which name no entry, are sent once: raft's next one is
// 250 ms away at most, and they always succeed.
func (t *steadyTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.append(id, target, args, resp)
	if args.PrevLogEntry == 0 && len(args.Entries) == 0 {
		return err
	}
	for err != nil && t.rest() && t.leads(args.Term, id) {
		*resp = raft.AppendEntriesResponse{}
		err = t.append(id, target, args, resp)
	}
	if err == nil && resp.Success {
		t.mu.Lock()
		delete(t.sent, id)
		t.mu.Unlock()
	}
	return err
}

// timeoutNowLimit is how long a member may take to hear that it is to lead. It is shorter
// than what raft allows a transfer: as long as this call lasts raft begins no other.
const timeoutNowLimit = electionTimeout * 4 / 5

// errNoAnswer says that a member did not answer in time.
var errNoAnswer = errors.New("raftnode: no answer in time")

// TimeoutNow implements raft.Transport.
func (t *steadyTransport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	type outcome struct {
		resp raft.TimeoutNowResponse
		err  error
	}
	done := make(chan outcome, 1)
	go func() { // ends with its dial or the transport's timeout, at the latest with the stream
		var o outcome
		o.err = t.transport.TimeoutNow(id, target, args, &o.resp)
		done <- o
	}()
	timer := time.NewTimer(timeoutNowLimit)
	defer timer.Stop()
	select {
	case o := <-done:
		*resp = o.resp
		return o.err
	case <-timer.C:
		return fmt.Errorf("%w: %s", errNoAnswer, id)
	}
}

// append sends entries once. Heartbeats never end, so what a pipeline answers need
// not be looked at.
func (t *steadyTransport) append(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.transport.AppendEntries(id, target, args, resp)
	if err == nil {
		t.mu.Lock()
		t.heard[id] = time.Now()
		t.mu.Unlock()
	}
	return err
}

// rest waits for entriesRetry; false when there will be no more connections.
func (t *steadyTransport) rest() bool {
	timer := time.NewTimer(entriesRetry)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ended:
		return false
	}
}
