package raftnode

import (
	"encoding/binary"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// countingFSM counts what it is given, and what it is given by one start.
type countingFSM struct{ all, now uint64 }

func (f *countingFSM) Apply(*raft.Log) any {
	f.all++
	f.now++
	return nil
}

func (f *countingFSM) Snapshot() (raft.FSMSnapshot, error) { return countSnapshot(f.all), nil }

func (f *countingFSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	return binary.Read(r, binary.BigEndian, &f.all)
}

type countSnapshot uint64

func (n countSnapshot) Persist(s raft.SnapshotSink) error {
	if err := binary.Write(s, binary.BigEndian, uint64(n)); err != nil {
		return err
	}
	return s.Close()
}

func (countSnapshot) Release() {}

// TestRestartAppliesLittle proves that a start applies few entries anew however
// long the log is: until it has, a leader can decide nothing. The log keeps its
// long tail all the same.
func TestRestartAppliesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, stores := slog.New(slog.DiscardHandler), MemoryStores()
		start := func(f *countingFSM) *Node {
			s := NewStream("1.0", "a:1", nil, func() string { return "" }, log)
			here := func(raft.ServerID) (string, bool) { return "a:1", true }
			n, err := Start(Options{ID: "1.0", Stream: s, Stores: stores, FSM: f, AddressOf: here, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		const entries, few = 3000, 500
		n := start(new(countingFSM))
		if err := n.Bootstrap([]raft.Server{{ID: "1.0", Address: Address("1.0", "a:1")}}); err != nil {
			t.Fatal(err)
		}
		for lead := range n.LeaderCh() {
			if lead {
				break
			}
		}
		for range entries {
			if err := n.Apply([]byte("x"), time.Second).Error(); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(2 * snapshotInterval)
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		var again countingFSM
		n = start(&again)
		for lead := range n.LeaderCh() {
			if lead {
				break
			}
		}
		if err := n.Barrier(time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		if again.all != entries || again.now > few {
			t.Errorf("the second start applied %d of %d entries anew, at most %d wanted", again.now, again.all, few)
		}
		if first, err := stores.log.FirstIndex(); first != 1 || err != nil {
			t.Errorf("the log begins at %d (%v), it should have kept its tail of %d", first, err, trailingLogs)
		}
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// strictFSM fails when an entry comes a second time.
type strictFSM struct {
	countingFSM
	t    *testing.T
	last uint64
}

func (f *strictFSM) Apply(l *raft.Log) any {
	if l.Index <= f.last {
		f.t.Errorf("entry %d after %d", l.Index, f.last)
	}
	f.last = l.Index
	return f.countingFSM.Apply(l)
}

// TestReplay proves that what is read from disk is the newest snapshot and the entries
// behind it, each once: the log goes back further than the snapshot.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, stores := slog.New(slog.DiscardHandler), MemoryStores()
		s := NewStream("1.0", "a:1", nil, func() string { return "" }, log)
		here := func(raft.ServerID) (string, bool) { return "a:1", true }
		f := &strictFSM{t: t}
		n, err := Start(Options{ID: "1.0", Stream: s, Stores: stores, FSM: f, AddressOf: here, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Bootstrap([]raft.Server{{ID: "1.0", Address: Address("1.0", "a:1")}}); err != nil {
			t.Fatal(err)
		}
		for n.State() != raft.Leader {
			<-time.After(time.Millisecond)
		}
		apply := func(entries int) {
			for range entries {
				if err := n.Apply(nil, 0).Error(); err != nil {
					t.Fatal(err)
				}
			}
		}
		apply(5)
		if err := n.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		at := n.LastIndex()
		apply(3)
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		again := &strictFSM{t: t, last: at}
		if err := stores.Replay(again, func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		if again.all != 8 || again.now != 3 {
			t.Errorf("%d commands are known, %d of them from the log, want 8 and 3", again.all, again.now)
		}
	})
}
