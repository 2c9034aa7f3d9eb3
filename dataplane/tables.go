package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// tableStore keeps the newest table on disk, so that a restarted node knows
// the ring before anybody answers. A table that cannot be written costs a
// warning, never a message.
type tableStore struct {
	path   string
	loaded *ring.Table // what lay there at the start, nil if nothing
	log    *slog.Logger
	wake   chan struct{} // capacity 1

	mu     sync.Mutex // guards below; leaf lock
	frozen bool       // nothing is written any more
	newest *ring.Table
	of     *ring.Table // what bin encodes
	bin    []byte
}

// openTableStore reads the kept table. A damaged one is an error that names
// the file: it can be removed, the ring's log holds the truth.
func openTableStore(path, group string) (*tableStore, error) {
	s := &tableStore{path: path, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kept table: %w", err)
	}
	t, err := ring.UnmarshalTable(b)
	if err != nil {
		return nil, fmt.Errorf("read kept table %s (remove it to start without): %w", path, err)
	}
	if t.Group != group {
		return nil, fmt.Errorf("kept table %s is of group %q, the configuration says %q", path, t.Group, group)
	}
	s.loaded = t
	return s, nil
}

// save hands a table over for writing; it does not block.
func (s *tableStore) save(t *ring.Table) {
	if t == nil {
		return
	}
	s.mu.Lock()
	s.newest = t
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// encoded returns the binary form of t, made once per table; nil if it cannot be made.
func (s *tableStore) encoded(t *ring.Table) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != t {
		b, err := t.MarshalBinary()
		if err != nil {
			return nil
		}
		s.of, s.bin = t, b
	}
	return s.bin
}

// run writes the newest table whenever there is another, until ctx ends.
func (s *tableStore) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			select {
			case <-s.wake: // the last one must not be missing after the restart
				s.write()
			default:
			}
			return
		case <-s.wake:
			s.write()
		}
	}
}

// freeze leaves the file as it is.
func (s *tableStore) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
}

func (s *tableStore) write() {
	s.mu.Lock()
	t, frozen := s.newest, s.frozen
	s.mu.Unlock()
	if frozen {
		return
	}
	if err := writeFile(s.path, s.encoded(t)); err != nil {
		s.log.Warn("could not keep the table", "error", err)
	}
}

// writeFile replaces a file as a whole: a crash leaves the old one or the new one.
func writeFile(path string, b []byte) error {
	if err := fault.Disk(); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".table-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	fault.Crash(fault.NodeTableWritten)
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("replace %s: %w", filepath.Base(path), err)
	}
	fault.Crash(fault.NodeTableKept)
	return nil
}
