package fsm

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/ring"
)

// SnapshotBytesMax bounds what Restore reads.
const SnapshotBytesMax = 256 << 20

// RaftFSM makes a State the finite state machine of a raft node. raft calls
// Apply, Snapshot and Restore from one goroutine; View may be called from any.
type RaftFSM struct {
	state   *State
	onApply func(View)
	onFatal func(error)
	failed  error
	shown   atomic.Pointer[shown]
}

// shown is what others see of the state, all of one moment.
type shown struct {
	view    *View  // the last one that changed
	applied uint64 // log index of the last entry
}

var _ raft.FSM = (*RaftFSM)(nil)

// NewRaftFSM returns a state machine without entries. onApply is called
// synchronously after each entry that changed something and after each
// restore, in log order. onFatal is called once, when an entry of the log
// cannot be understood: the node must stop; later entries are not applied.
// Neither may be nil.
func NewRaftFSM(onApply func(View), onFatal func(error)) *RaftFSM {
	return NewRaftFSMOf(Build{}, onApply, onFatal)
}

// NewRaftFSMOf is NewRaftFSM as in another build.
func NewRaftFSMOf(b Build, onApply func(View), onFatal func(error)) *RaftFSM {
	f := &RaftFSM{state: NewOf(b), onApply: onApply, onFatal: onFatal}
	f.shown.Store(&shown{view: &View{}})
	return f
}

// Failed returns why nothing more is applied, nil if that is not so. It is for the
// goroutine that applies and restores.
func (f *RaftFSM) Failed() error { return f.failed }

// View returns the newest view.
func (f *RaftFSM) View() View { return *f.shown.Load().view }

// Applied returns the log index of the last command that was applied or
// restored: View shows it and everything before.
func (f *RaftFSM) Applied() uint64 { return f.shown.Load().applied }

// ViewAt returns the newest view and Applied of the same moment: the same index
// is the same view on every node.
func (f *RaftFSM) ViewAt() (View, uint64) {
	s := f.shown.Load()
	return *s.view, s.applied
}

// Apply implements raft.FSM. What it returns is always a Result.
func (f *RaftFSM) Apply(l *raft.Log) any {
	if f.failed != nil {
		return Result{Index: l.Index, Err: f.failed}
	}
	c, err := Decode(l.Data)
	if err != nil {
		return f.fail(l, err)
	}
	res, err := f.state.Apply(l.Index, c)
	if err != nil {
		return f.fail(l, err)
	}
	if res.Changed {
		f.publish(l.Index)
	} else {
		f.shown.Store(&shown{view: f.shown.Load().view, applied: l.Index})
	}
	return res
}

func (f *RaftFSM) fail(l *raft.Log, err error) Result {
	f.failed = fmt.Errorf("apply log entry %d: %w", l.Index, err)
	f.onFatal(f.failed)
	return Result{Index: l.Index, Err: f.failed}
}

func (f *RaftFSM) publish(applied uint64) {
	v := f.state.View()
	f.shown.Store(&shown{view: &v, applied: applied})
	f.onApply(v)
}

// Snapshot implements raft.FSM.
func (f *RaftFSM) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed != nil {
		return nil, f.failed
	}
	return snapshot(f.state.Snapshot()), nil
}

// Restore implements raft.FSM. The state is as before when it fails.
func (f *RaftFSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, SnapshotBytesMax+1))
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if err := f.state.Restore(b); err != nil {
		if errors.Is(err, ErrLevel) && f.failed == nil { // no other snapshot will do
			f.failed = err
			f.onFatal(err)
		}
		return err
	}
	f.publish(f.state.index)
	return nil
}

// snapshot is an encoded state on its way to raft's snapshot store.
type snapshot []byte

// Persist implements raft.FSMSnapshot.
func (b snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(b); err != nil {
		return fmt.Errorf("persist snapshot: %w", cancel(sink, err))
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("persist snapshot: %w", err)
	}
	return nil
}

// cancel gives the sink up and returns why.
func cancel(sink raft.SnapshotSink, err error) error {
	if cerr := sink.Cancel(); cerr != nil {
		return fmt.Errorf("%w (cancel: %w)", err, cerr)
	}
	return err
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}

// renewed is a state machine whose snapshot is that of a new ring.
type renewed struct {
	*RaftFSM
	ringID uint64
	by     ring.ID
}

// Renewed returns f for raft.RecoverCluster: its snapshot is of the new ring
// that Renew makes.
func (f *RaftFSM) Renewed(ringID uint64, by ring.ID) raft.FSM { return renewed{f, ringID, by} }

// Snapshot implements raft.FSM.
func (f renewed) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed != nil {
		return nil, f.failed
	}
	if err := f.state.Renew(f.ringID, f.by); err != nil {
		return nil, err
	}
	return f.RaftFSM.Snapshot()
}
