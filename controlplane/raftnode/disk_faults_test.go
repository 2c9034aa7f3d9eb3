//go:build faults

package raftnode

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/internal/fault"
)

// TestFaultDisk proves that the stores of a server feel the disk of package
// fault: the log waits for room, a snapshot fails.
func TestFaultDisk(t *testing.T) {
	faults := t.TempDir()
	say := func(text string) {
		tmp := filepath.Join(faults, "tmp")
		if err := errors.Join(os.WriteFile(tmp, []byte(text), 0o600), os.Rename(tmp, filepath.Join(faults, fault.FileDisk))); err != nil {
			t.Fatal(err)
		}
	}
	say("full")
	defer fault.Use(fault.Env{Dir: faults})()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.OpenStores(NewLogger(slog.New(slog.DiscardHandler)), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.stable.SetUint64([]byte(termKey), 1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a term before raft runs: %v", err)
	}
	if _, err := s.snaps.Create(1, 1, 1, raft.Configuration{}, 1, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a snapshot: %v", err)
	}
	s.writes.patient.Store(true)
	done := make(chan error, 1)
	go func() { done <- s.log.StoreLog(&raft.Log{Index: 1, Term: 1}) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !s.Full() {
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatalf("on a full disk: %v", err)
		}
	}
	say("ok")
	if err := <-done; err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if last, err := s.log.LastIndex(); last != 1 || err != nil {
		t.Errorf("last entry %d, %v", last, err)
	}
}
