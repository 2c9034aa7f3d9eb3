package raftnode

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/internal/fault"
)

// fullRetry is how often a write that found the disk full is tried again.
const fullRetry = 250 * time.Millisecond

// slowWrite is how long a write takes that is worth to be noted: what raft does next
// may be about a moment long ago.
const slowWrite = 100 * time.Millisecond

// termKey is the key of the current term among raft's stable values. raft
// panics when it cannot be written.
const termKey = "CurrentTerm"

var (
	// ErrDisk is wrapped by errors about a disk that does not take the log.
	ErrDisk = errors.New("raftnode: the log cannot be written")
	// errEnding is what writes get when their member is about to end.
	errEnding = errors.New("raftnode: the member ends")
)

// writes stands between raft and what it writes: its log, its term, its votes.
// raft panics on some errors and lives on with a log that it believes to be
// another one after others, so while it runs it sees none that may pass. A full
// disk is waited for as one that hangs is; any other error is told by Failed,
// and the node must stop.
type writes struct {
	raft.LogStore
	raft.StableStore

	patient atomic.Bool               // raft runs
	turn    chan struct{}             // token, one write at a time: heartbeats bring terms beside raft's loop
	began   atomic.Pointer[time.Time] // nil: no write under way
	slow    atomic.Pointer[time.Time] // when the last slow one ended; nil: none was
	full    atomic.Bool               // the write under way has found the disk full
	over    atomic.Bool               // raft goes by what is not on disk: nothing is written any more
	failed  chan error                // capacity 1
	ending  chan struct{}
	end     sync.Once
}

func newWrites(log raft.LogStore, stable raft.StableStore) *writes {
	return &writes{LogStore: log, StableStore: stable, turn: make(chan struct{}, 1), failed: make(chan error, 1), ending: make(chan struct{})}
}

// write does a write, again and again while the disk is full.
func (w *writes) write(f func() error) error {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	now := time.Now()
	w.began.Store(&now)
	defer func() {
		if ended := time.Now(); ended.Sub(now) >= slowWrite {
			w.slow.Store(&ended)
		}
		w.began.Store(nil)
	}()
	defer w.full.Store(false)
	for {
		if w.over.Load() {
			return errEnding
		}
		err := f()
		switch {
		case err == nil || !w.patient.Load():
			return err
		case !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT):
			w.fail(err)
			return err
		}
		w.full.Store(true)
		select {
		case <-time.After(fullRetry):
		case <-w.ending:
			return errEnding
		}
	}
}

func (w *writes) fail(err error) {
	w.over.Store(true) // a later write that succeeds would leave a gap
	select {
	case w.failed <- fmt.Errorf("%w: %w", ErrDisk, err):
	default: // one is enough
	}
}

// stop ends waits for room, now and later.
func (w *writes) stop() { w.end.Do(func() { close(w.ending) }) }

// StoreLog implements raft.LogStore.
func (w *writes) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (w *writes) StoreLogs(ls []*raft.Log) error {
	return w.write(func() error {
		fault.Crash(fault.RaftLogBefore)
		err := w.LogStore.StoreLogs(ls)
		fault.Crash(fault.RaftLogAfter)
		return err
	})
}

// Set implements raft.StableStore.
func (w *writes) Set(key, val []byte) error {
	return w.setStable(func() error { return w.StableStore.Set(key, val) })
}

// SetUint64 implements raft.StableStore. A term is never refused: when it
// cannot be written the member waits for its end. Then raft goes by it for a
// moment, in which no vote and no entry is written: a member that has
// forgotten the term could vote twice in it.
func (w *writes) SetUint64(key []byte, val uint64) error {
	err := w.setStable(func() error { return w.StableStore.SetUint64(key, val) })
	if err != nil && string(key) == termKey && w.patient.Load() {
		<-w.ending
		w.over.Store(true)
		return nil
	}
	return err
}

func (w *writes) setStable(f func() error) error {
	return w.write(func() error {
		fault.Crash(fault.RaftStableBefore)
		err := f()
		fault.Crash(fault.RaftStableAfter)
		return err
	})
}

// faulty are the stores of a server whose disk may have faults; in builds
// without faults nobody makes any.
type (
	faultyLog struct{ raft.LogStore }

	faultyStable struct{ raft.StableStore }

	faultySnapshots struct{ raft.SnapshotStore }

	faultySink struct{ raft.SnapshotSink }
)

// StoreLogs implements raft.LogStore.
func (s faultyLog) StoreLogs(ls []*raft.Log) error {
	if err := fault.Disk(); err != nil {
		return err
	}
	return s.LogStore.StoreLogs(ls)
}

// DeleteRange implements raft.LogStore.
func (s faultyLog) DeleteRange(first, last uint64) error {
	if err := fault.Disk(); err != nil {
		return err
	}
	return s.LogStore.DeleteRange(first, last)
}

// Set implements raft.StableStore.
func (s faultyStable) Set(key, val []byte) error {
	if err := fault.Disk(); err != nil {
		return err
	}
	return s.StableStore.Set(key, val)
}

// SetUint64 implements raft.StableStore.
func (s faultyStable) SetUint64(key []byte, val uint64) error {
	if err := fault.Disk(); err != nil {
		return err
	}
	return s.StableStore.SetUint64(key, val)
}

// Create implements raft.SnapshotStore.
func (s faultySnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := fault.Disk(); err != nil {
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, c, cIndex, trans)
	if err != nil {
		return nil, err
	}
	fault.Crash(fault.RaftSnapshotBegun)
	return faultySink{sink}, nil
}

// Write implements raft.SnapshotSink.
func (s faultySink) Write(b []byte) (int, error) {
	if err := fault.Disk(); err != nil {
		return 0, err
	}
	return s.SnapshotSink.Write(b)
}

// Close implements raft.SnapshotSink.
func (s faultySink) Close() error {
	if err := fault.Disk(); err != nil {
		return err
	}
	fault.Crash(fault.RaftSnapshotWritten)
	err := s.SnapshotSink.Close()
	fault.Crash(fault.RaftSnapshotKept)
	return err
}
