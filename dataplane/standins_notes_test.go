package dataplane

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// silentReporter takes reports and does nothing with them.
type silentReporter struct{}

func (silentReporter) ProgramsChanged(int)                            {}
func (silentReporter) Link(ring.Evidence)                             {}
func (silentReporter) TransferReady(uint64, ring.ID, ring.ID)         {}
func (silentReporter) TransferFinal(uint64, uint64, ring.ID, ring.ID) {}

// notesPlane returns a plane that does not run, in a ring, and that writes notes.
func notesPlane(t *testing.T, log slog.Handler) *Plane {
	t.Helper()
	dir := t.TempDir()
	p, err := New(Config{Self: 1, Reporter: silentReporter{}, Logger: slog.New(log), DataDir: dir, RunDirs: []string{dir},
		Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	p.view.Table = &ring.Table{RingID: 7, Epoch: ring.Epoch{Era: 1, Index: 20}}
	return p
}

// askNote wants a note of a server on disk.
func (p *Plane) askNote(id ring.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	(*ports)(p).StandIn(p.core.Peer(id), 3)
}

// Proves that a disk that takes no notes is told once when that begins and once when
// it ends, however many notes are wanted meanwhile; that the status says so in between; and that
// the end is found without another note.
func TestNotesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		p := notesPlane(t, slog.NewTextHandler(&logged, nil))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop()
		wg.Go(func() { p.keepStandIns(ctx) })
		wg.Go(func() { p.runReports(ctx) }) // they log
		logged.Reset()
		if err := os.MkdirAll(filepath.Join(p.standIns.path, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		for id := range ring.ID(5) {
			p.askNote(10 + id)
			<-time.After(3 * notesAgain)
			synctest.Wait()
		}
		if got := p.Status().NotesFailed; !strings.Contains(got, p.standIns.path) {
			t.Errorf("the status says %q", got)
		}
		if err := os.RemoveAll(p.standIns.path); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * notesAgain)
		synctest.Wait()
		if got := p.Status().NotesFailed; got != "" {
			t.Errorf("afterwards the status says %q", got)
		}
		p.askNote(20)
		<-time.After(3 * notesAgain)
		synctest.Wait()
		text := logged.String()
		if strings.Count(text, "\n") != 2 || strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "written again") {
			t.Errorf("logged:\n%s", text)
		}
	})
}

// Proves that more notes than are kept fail until the ring knows one of them.
func TestManyNotes(t *testing.T) {
	p := notesPlane(t, slog.DiscardHandler)
	for i := range standInsMax {
		p.standIns.notes = append(p.standIns.notes, ring.StandIn{For: ring.ID(100 + i), Incarnation: 1, RingID: 7})
	}
	failed := func() bool { return p.Status().NotesFailed != "" }
	p.askNote(2)
	for range 2 {
		if !p.writeStandIns(&batch{}) || !failed() {
			t.Fatalf("status %q, with %d notes", p.Status().NotesFailed, len(p.StandIns()))
		}
	}
	p.ForgetStandIn(p.StandIns()[0])
	if p.writeStandIns(&batch{}); failed() {
		t.Errorf("status %q, with %d notes", p.Status().NotesFailed, len(p.StandIns()))
	}
}

// Proves that what is noted about a server outlives a later note of it that
// cannot be written, and that a note goes again whose stand-in does not begin, because the server
// has been reached meanwhile, while one of before stays.
func TestNoteOfBeforeStays(t *testing.T) {
	p := notesPlane(t, slog.DiscardHandler)
	before := ring.StandIn{For: 2, Incarnation: 3, RingID: 7, Epoch: ring.Epoch{Era: 1, Index: 10}, SinceUs: 5}
	ask := func() {
		p.askNote(2)
		p.writeStandIns(&batch{})
	}
	expect := func(what string, want ...ring.StandIn) {
		t.Helper()
		if got := p.StandIns(); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	ask()
	expect("it does not begin")
	p.standIns.notes = []ring.StandIn{before}
	ask()
	expect("it does not begin again", before)
	if err := os.Remove(p.standIns.path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(p.standIns.path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	ask()
	expect("it cannot be written", before)
}
