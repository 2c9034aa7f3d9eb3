package dataplane_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
)

// noted returns the notes on a node's disk.
func noted(t *testing.T, n *testNode) (notes []ring.StandIn) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "standins"))
	if err == nil {
		err = json.Unmarshal(b, &notes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return notes
}

// Proves that the next owner stands in for a server whose process has ended and
// that the table shows UP: not while its note cannot be written, then with the note on disk and
// messages marked; that a restarted process has the note and does not stand in; and that
// the note goes when the ring knows it.
func TestStandIn(t *testing.T) {
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, standIn: dataplane.StandInMin}).begin(2)
	owner, next := w.nodes[0], w.nodes[1]
	program := attach(t, next, client.RoleServer)
	next.await("the program", func() bool { return next.programs == 1 })
	disk := filepath.Join(next.dir, "standins")
	if err := os.MkdirAll(filepath.Join(disk, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	owner.stop()
	c := attach(t, w.slave(), client.RoleClient)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Send(ctx, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 2500*time.Millisecond) // its note fails at least once
	defer stop()
	if m, err := program.Receive(short); err == nil {
		t.Fatalf("without a note its program was given %s", m.Payload)
	}
	if got := next.plane.StandIns(); len(got) != 0 {
		t.Errorf("notes that are not on disk: %+v", got)
	}
	if err := os.RemoveAll(disk); err != nil {
		t.Fatal(err)
	}
	if m, err := program.Receive(ctx); err != nil || string(m.Payload) != "x" || !m.MaybeRepeat {
		t.Fatalf("its program was given %+v, %v", m, err)
	}
	st := next.plane.Status()
	if got := noted(t, next); len(got) != 1 || got[0].For != owner.id || got[0].Incarnation != owner.inc || got[0].RingID != 7 ||
		len(st.StandIns) != 1 || !st.StandIns[0].Active || !strings.HasPrefix(st.StandIns[0].Name, "server-0") || st.Counters.StoodIn != 1 {
		t.Errorf("noted %+v, status %+v, %d taken for it", got, st.StandIns, st.Counters.StoodIn)
	}
	next.stop()
	ln := listenAgain(t, next.addr)
	next = w.start(&testNode{id: next.id, inc: next.inc, addr: next.addr, dir: next.dir}, ln)
	st = next.plane.Status()
	notes := next.plane.CollectStandIns(time.Hour)
	if len(notes) != 1 || len(st.StandIns) != 1 || st.StandIns[0].Active {
		t.Fatalf("after a restart: notes %+v, status %+v", notes, st.StandIns)
	}
	next.plane.ForgetStandIn(notes[0])
	next.awaitStatus("the note goes", func(s *dataplane.Status) bool { return len(s.StandIns) == 0 && len(noted(t, next)) == 0 })
}

// Proves that notes that cannot be read keep a node from starting, by an error that names the file and the way out.
func TestBadNotes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "standins")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := dataplane.New(dataplane.Config{Self: 1, Reporter: &testNode{}, Logger: slog.New(slog.DiscardHandler), DataDir: dir, RunDirs: []string{dir},
		Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }})
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "move the file away") {
		t.Errorf("got %v", err)
	}
}
