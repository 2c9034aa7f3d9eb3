package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

const (
	snapshotDir = "snapshots" // as raft calls it
	halfSuffix  = ".tmp"      // of a snapshot that is being written
)

// halfSnapshots is a directory of snapshots, in which some may be left that were
// never finished: raft never reads those, and never removes them.
type halfSnapshots string

// remove removes those whose names have a prefix.
func (dir halfSnapshots) remove(prefix string) error {
	entries, err := os.ReadDir(string(dir)) // no pattern: the path may have characters that mean something in one
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, prefix) && strings.HasSuffix(name, halfSuffix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(string(dir), name)))
		}
	}
	return err
}

// tidySnapshots removes what is left of a snapshot that cannot be written. While
// a disk is full raft tries every few seconds, and would leave one each time.
type tidySnapshots struct {
	raft.SnapshotStore
	half halfSnapshots
}

// Create implements raft.SnapshotStore.
func (s tidySnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, cIndex, trans)
	if err != nil {
		return nil, errors.Join(err, s.half.remove(fmt.Sprintf("%d-%d-", term, index)))
	}
	return tidySink{sink, s.half}, nil
}

type tidySink struct {
	raft.SnapshotSink
	half halfSnapshots
}

// Close implements raft.SnapshotSink.
func (s tidySink) Close() error {
	err := s.SnapshotSink.Close()
	if err != nil {
		err = errors.Join(err, s.half.remove(s.ID()))
	}
	return err
}
