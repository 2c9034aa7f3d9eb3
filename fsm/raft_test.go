package fsm

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// sink is a snapshot sink in memory.
type sink struct {
	bytes.Buffer
	fail              error
	closed, cancelled bool
}

func (s *sink) Write(b []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(b)
}
func (s *sink) ID() string    { return "test" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.cancelled = true; return nil }

func entryOf(t *testing.T, index uint64, body Body) *raft.Log {
	t.Helper()
	b, err := Encode(Command{Body: body})
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: b}
}

// TestRaftFSM proves that views come in log order and only for changes, and
// that a snapshot carries the state over, also to a node that applies on.
func TestRaftFSM(t *testing.T) {
	var seen []uint64
	var f *RaftFSM
	f = NewRaftFSM(func(v View) {
		seen = append(seen, v.Index)
		if shown, at := f.ViewAt(); shown.Index != v.Index || at != v.Index {
			t.Errorf("view of entry %d is shown as %d at %d", v.Index, shown.Index, at)
		}
	}, func(err error) { t.Fatal(err) })
	if v := f.View(); v.Table != nil || v.RingID != 0 {
		t.Fatalf("first view: %+v", v)
	}
	up := SlaveUp{ID: 5, Boot: 1}
	up.Slave.Name = "c"
	f.Apply(entryOf(t, 3, RingInit{RingID: 1, Era: 1, Group: "G", Params: testParams()}))
	f.Apply(entryOf(t, 4, up))
	if res := f.Apply(entryOf(t, 5, SlaveForget{ID: 6})).(Result); !errors.Is(res.Err, ErrUnknownNode) {
		t.Fatalf("refusal: %+v", res)
	}
	if v, at := f.ViewAt(); v.Index != 4 || at != 5 {
		t.Fatalf("after a refusal the view of entry %d is shown at %d", v.Index, at)
	}
	f.Apply(entryOf(t, 6, SlaveForget{ID: 5}))
	if len(seen) != 3 || seen[0] != 3 || seen[1] != 4 || seen[2] != 6 {
		t.Fatalf("views of entries %v, want 3 4 6", seen)
	}
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var to sink
	if err := snap.Persist(&to); err != nil || !to.closed {
		t.Fatalf("persist: %v, closed %t", err, to.closed)
	}
	snap.Release()
	restored := 0
	g := NewRaftFSM(func(View) { restored++ }, func(err error) { t.Fatal(err) })
	if err := g.Restore(io.NopCloser(&to.Buffer)); err != nil {
		t.Fatal(err)
	}
	if restored != 1 || g.View().Index != 6 || g.View().RingID != 1 {
		t.Fatalf("%d views after restore, the last %+v", restored, g.View())
	}
	if err := g.Restore(io.NopCloser(bytes.NewReader(nil))); !errors.Is(err, ErrSnapshot) || g.View().RingID != 1 {
		t.Fatalf("restore of nothing: %v", err)
	}
	full := sink{fail: io.ErrShortWrite}
	if err := snap.Persist(&full); !errors.Is(err, io.ErrShortWrite) || !full.cancelled {
		t.Fatalf("persist to a full disk: %v, cancelled %t", err, full.cancelled)
	}
}

// TestRaftFSMStops proves that an entry that cannot be understood is reported
// once and that nothing is applied after it.
func TestRaftFSMStops(t *testing.T) {
	var fatal []error
	views := 0
	f := NewRaftFSM(func(View) { views++ }, func(err error) { fatal = append(fatal, err) })
	f.Apply(&raft.Log{Index: 1, Data: []byte(`{"v":1,"type":"FromTheFuture","body":{}}`)})
	res := f.Apply(entryOf(t, 2, RingInit{RingID: 1, Era: 1, Group: "G", Params: testParams()})).(Result)
	if len(fatal) != 1 || !errors.Is(fatal[0], ErrUnknownCommand) || !errors.Is(res.Err, ErrUnknownCommand) || views != 0 {
		t.Fatalf("fatal %v, then %+v, %d views", fatal, res, views)
	}
	if _, err := f.Snapshot(); err == nil {
		t.Fatal("a snapshot of a state that has stopped")
	}
}
