package dataplane

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// silentReporter takes reports and does nothing with them.
type silentReporter struct{}

func (silentReporter) ProgramsChanged(int)                            {}
func (silentReporter) Link(ring.Evidence)                             {}
func (silentReporter) TransferReady(uint64, ring.ID, ring.ID)         {}
func (silentReporter) TransferFinal(uint64, uint64, ring.ID, ring.ID) {}

// Proves that what is noted about a server outlives a later note of it that
// cannot be written, and that a note goes again whose stand-in does not begin, because the server
// has been reached meanwhile, while one of before stays.
func TestNoteOfBeforeStays(t *testing.T) {
	dir := t.TempDir()
	p, err := New(Config{Self: 1, Reporter: silentReporter{}, Logger: slog.New(slog.DiscardHandler), DataDir: dir, RunDirs: []string{dir},
		Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.view.Table = &ring.Table{RingID: 7, Epoch: ring.Epoch{Era: 1, Index: 20}}
	before := ring.StandIn{For: 2, Incarnation: 3, RingID: 7, Epoch: ring.Epoch{Era: 1, Index: 10}, SinceUs: 5}
	ask := func() {
		p.mu.Lock()
		(*ports)(p).StandIn(p.core.Peer(2), 3)
		p.mu.Unlock()
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
