package raftnode

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// snapshotNames returns what is in the directory of snapshots.
func snapshotNames(t *testing.T, d *Dir) (names []string, half bool) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.Path(), snapshotDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, slices.ContainsFunc(names, func(name string) bool { return filepath.Ext(name) == halfSuffix })
}

// TestHalfSnapshots proves that a start removes what a process left that was
// killed while it wrote a snapshot, and nothing else; whatever its directory is
// called, and nothing of another directory's.
func TestHalfSnapshots(t *testing.T) {
	for _, name := range []string{"x", "[x", "x[1]", `x\`, "x*"} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			others := filepath.Join(base, "x1", snapshotDir, "1-7-1"+halfSuffix)
			if err := os.MkdirAll(others, 0o700); err != nil {
				t.Fatal(err)
			}
			d, err := OpenDir(filepath.Join(base, name))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			open := func() *Stores {
				s, err := d.OpenStores(NewLogger(slog.New(slog.DiscardHandler)), true)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := open()
			_, trans := raft.NewInmemTransport("")
			for range 2 {
				whole, err := s.snaps.Create(raft.SnapshotVersionMax, 7, 1, raft.Configuration{}, 1, trans)
				if err == nil {
					err = whole.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.snaps.Create(raft.SnapshotVersionMax, 8, 1, raft.Configuration{}, 1, trans); err != nil {
					t.Fatal(err) // its process ends here
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open()
			defer s.Close()
			if left, half := snapshotNames(t, d); len(left) == 0 || half {
				t.Errorf("left: %q", left)
			}
			if list, err := s.snaps.List(); err != nil || len(list) == 0 || list[0].Index != 7 {
				t.Errorf("snapshots: %+v (%v)", list, err)
			}
			if _, err := os.Stat(others); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoRoomForSnapshot proves that nothing is left of a snapshot for which the
// disk has no room, and that one is written when it has. Only root can make such a disk.
func TestNoRoomForSnapshot(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("chmpx-test", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("no small disk: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.OpenStores(NewLogger(slog.New(slog.DiscardHandler)), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, trans := raft.NewInmemTransport("")
	snapshot := func(index uint64) error {
		sink, err := s.snaps.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, trans)
		if err != nil {
			return err
		}
		_, err = sink.Write([]byte(strings.Repeat("x", 1000)))
		return errors.Join(err, sink.Close())
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk should be full: %v", err)
	}
	for range 3 {
		if err := snapshot(7); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	if left, half := snapshotNames(t, d); half {
		t.Errorf("left: %q", left)
	}
	if err := errors.Join(os.Remove(ballast), snapshot(7)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
