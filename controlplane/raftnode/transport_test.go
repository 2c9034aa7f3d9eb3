package raftnode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// emptyFSM is a state machine that keeps nothing.
type emptyFSM struct{}

func (emptyFSM) Apply(*raft.Log) any                 { return nil }
func (emptyFSM) Snapshot() (raft.FSMSnapshot, error) { return emptyFSM{}, nil }
func (emptyFSM) Restore(r io.ReadCloser) error       { return r.Close() }
func (emptyFSM) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (emptyFSM) Release()                            {}

// warnings counts lines of a log.
type warnings struct {
	mu   sync.Mutex
	b    bytes.Buffer
	seen chan struct{} // closed at the first
}

func (w *warnings) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.b.Len() == 0 {
		close(w.seen)
	}
	return w.b.Write(p)
}

// TestSnapshotLoop proves with two members of raft that a follower which is sent
// one snapshot for ever is named in the leader's log: it has a tail of entries
// of an earlier term that reaches beyond the snapshot, and the leader no
// entries before it. If raft comes to mend that, this test fails and the
// detector can go.
func TestSnapshotLoop(t *testing.T) {
	members := raft.Configuration{Servers: []raft.Server{{ID: "l", Address: "l"}, {ID: "f", Address: "f"}}}
	quiet := hclog.NewNullLogger()
	out := &warnings{seen: make(chan struct{})}
	_, lt := raft.NewInmemTransport("l")
	_, ft := raft.NewInmemTransport("f")
	lt.Connect("f", ft)
	ft.Connect("l", lt)

	follower := raft.NewInmemStore()
	if err := follower.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(300) {
		l := &raft.Log{Index: i + 1, Term: 1, Type: raft.LogNoop}
		if i == 0 {
			l.Type, l.Data = raft.LogConfiguration, raft.EncodeConfiguration(members)
		}
		if err := follower.StoreLog(l); err != nil {
			t.Fatal(err)
		}
	}
	leader, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	if err := leader.SetUint64([]byte("CurrentTerm"), 2); err != nil {
		t.Fatal(err)
	}
	sink, err := snaps.Create(raft.SnapshotVersionMax, 100, 2, members, 1, lt)
	if err == nil {
		err = sink.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	fc := configOf("f", quiet)
	fc.HeartbeatTimeout, fc.ElectionTimeout = time.Minute, time.Minute // it never leads
	f, err := raft.NewRaft(fc, emptyFSM{}, follower, follower, raft.NewInmemSnapshotStore(), ft)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { f.Shutdown().Error() }()
	ct := newSteadyTransport(lt, nil, nobody, slog.New(slog.NewTextHandler(out, nil)))
	l, err := raft.NewRaft(configOf("l", quiet), emptyFSM{}, leader, leader, snaps, ct)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Shutdown().Error() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case <-out.seen:
	case <-ctx.Done():
		t.Fatalf("no word: the leader is %s, the follower applied %d", l.State(), f.AppliedIndex())
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if text := out.b.String(); !strings.Contains(text, "raft_id=f snapshots=3 index=100") {
		t.Errorf("log: %s", text)
	}
}

// fakeTransport answers as it is told.
type fakeTransport struct {
	transport
	success bool
}

func (f *fakeTransport) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return nil
}

func (f *fakeTransport) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, _ *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	resp.Success = f.success
	return nil
}

// TestSnapshotsInRow proves that only snapshots without an accepted entry in
// between count, for each follower alone, and that heartbeats are no entries.
func TestSnapshotsInRow(t *testing.T) {
	var b bytes.Buffer
	fake := &fakeTransport{}
	ct := newSteadyTransport(fake, nil, nobody, slog.New(slog.NewTextHandler(&b, nil)))
	snapshot := func(id raft.ServerID) {
		if err := ct.InstallSnapshot(id, "", &raft.InstallSnapshotRequest{}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	entries := func(id raft.ServerID, prev uint64, success bool) {
		fake.success = success
		if err := ct.AppendEntries(id, "", &raft.AppendEntriesRequest{PrevLogEntry: prev}, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		snapshot("a")
		snapshot("a")
		snapshot("b")
		entries("a", 1, true)
		entries("b", 1, true)
	}
	if b.Len() != 0 {
		t.Errorf("warned without need: %s", b.String())
	}
	for range 3 {
		snapshot("a")
		entries("a", 0, true)  // a heartbeat
		entries("a", 1, false) // refused
	}
	if n := strings.Count(b.String(), "raft_id=a"); n != 1 {
		t.Errorf("%d lines: %s", n, b.String())
	}
}

// nobody leads.
func nobody(uint64, raft.ServerID) bool { return false }

// deafTransport is one whose peers take what they are sent and do not answer.
type deafTransport struct {
	transport
	release chan struct{}
}

func (d deafTransport) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	<-d.release
	return nil
}

// TestNoAnswerToTimeoutNow proves that a member that does not answer whether it will
// lead is given up before raft's own time for a transfer is over: raft could else
// not try the next one.
func TestNoAnswerToTimeoutNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := deafTransport{release: make(chan struct{})}
		trans := newSteadyTransport(deaf, nil, nil, slog.New(slog.DiscardHandler))
		began := time.Now()
		err := trans.TimeoutNow("1.0", "a:1", new(raft.TimeoutNowRequest), new(raft.TimeoutNowResponse))
		if took := time.Since(began); !errors.Is(err, errNoAnswer) || took >= electionTimeout {
			t.Errorf("%v after %v", err, took)
		}
		close(deaf.release)
		if err := trans.TimeoutNow("1.0", "a:1", new(raft.TimeoutNowRequest), new(raft.TimeoutNowResponse)); err != nil {
			t.Error(err)
		}
	})
}
