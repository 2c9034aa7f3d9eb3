package raftnode

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// failingStore is a store on a disk that can fail.
type failingStore struct {
	*raft.InmemStore
	err atomic.Pointer[error]
}

func (s *failingStore) fail(err error) { s.err.Store(&err) }

func (s *failingStore) failure() error {
	if err := s.err.Load(); err != nil && *err != nil {
		return fmt.Errorf("write: %w", *err)
	}
	return nil
}

func (s *failingStore) StoreLogs(ls []*raft.Log) error {
	return errors.Join(s.failure(), s.InmemStore.StoreLogs(ls))
}

func (s *failingStore) Set(key, val []byte) error {
	return errors.Join(s.failure(), s.InmemStore.Set(key, val))
}

func (s *failingStore) SetUint64(key []byte, val uint64) error {
	return errors.Join(s.failure(), s.InmemStore.SetUint64(key, val))
}

// writing returns a running member's stores and what is below them.
func writing() (*Stores, *failingStore) {
	s := &failingStore{InmemStore: raft.NewInmemStore()}
	w := newWrites(s, s)
	w.patient.Store(true)
	return &Stores{log: w, stable: w, writes: w}, s
}

// each calls f for every kind of write that raft does.
func each(t *testing.T, f func(t *testing.T, write func(s *Stores) error, term bool)) {
	for name, write := range map[string]func(s *Stores) error{
		"log":  func(s *Stores) error { return s.log.StoreLog(&raft.Log{Index: 1, Term: 1}) },
		"vote": func(s *Stores) error { return s.stable.Set([]byte("LastVoteCand"), []byte("a")) },
		"term": func(s *Stores) error { return s.stable.SetUint64([]byte(termKey), 7) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, write, name == "term") })
		})
	}
}

// TestFullDisk proves that writes wait for room, that it shows meanwhile, and
// that the end of the member ends them without a term that counts.
func TestFullDisk(t *testing.T) {
	each(t, func(t *testing.T, write func(s *Stores) error, term bool) {
		s, below := writing()
		below.fail(syscall.ENOSPC)
		done := make(chan error, 1)
		go func() { done <- write(s) }()
		<-time.After(4 * time.Second)
		go func() { done <- s.stable.SetUint64([]byte(termKey), 8) }() // with a heartbeat
		<-time.After(3 * time.Second)
		if !s.Full() || s.StalledFor() < 6*time.Second {
			t.Errorf("full: %v, stalled for %v", s.Full(), s.StalledFor())
		}
		below.fail(nil)
		for range 2 {
			if err := <-done; err != nil {
				t.Fatalf("with room again: %v", err)
			}
		}
		if s.Full() || s.StalledFor() != 0 {
			t.Errorf("with room again, full: %v, stalled for %v", s.Full(), s.StalledFor())
		}

		below.fail(syscall.ENOSPC)
		go func() { done <- write(s) }()
		<-time.After(time.Second)
		s.writes.stop()
		if err := <-done; (err == nil) != term || err != nil && !errors.Is(err, errEnding) {
			t.Errorf("at the end of the member: %v", err)
		}
		below.fail(nil)
		if err := s.stable.Set([]byte("LastVoteCand"), []byte("b")); (err == nil) == term {
			t.Errorf("a vote at the end of the member: %v", err)
		}
	})
}

// TestBrokenDisk proves that any other error is told and ends the member
// without a panic of raft, and that before raft runs errors come at once.
func TestBrokenDisk(t *testing.T) {
	each(t, func(t *testing.T, write func(s *Stores) error, term bool) {
		s, below := writing()
		below.fail(syscall.EIO)
		done := make(chan error, 1)
		go func() { done <- write(s) }()
		if err := <-s.Failed(); !errors.Is(err, ErrDisk) || !errors.Is(err, syscall.EIO) {
			t.Errorf("told %v", err)
		}
		below.fail(nil)
		if err := s.log.StoreLog(&raft.Log{Index: 2, Term: 1}); !errors.Is(err, errEnding) {
			t.Errorf("an entry behind one that was not written: %v", err)
		}
		s.writes.stop()
		if err := <-done; (err == nil) != term {
			t.Errorf("raft gets %v", err)
		}

		s, below = writing()
		s.writes.patient.Store(false)
		below.fail(syscall.ENOSPC)
		if err := write(s); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("before raft runs: %v", err)
		}
	})
}
