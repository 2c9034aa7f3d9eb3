package raftnode

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// TestGapless proves that entries which do not follow on the last one take the place of all before them,
// also in the cache, and that others, those that replace some too, leave the log as it is.
func TestGapless(t *testing.T) {
	cache, err := raft.NewLogCache(logCacheCount, raft.NewInmemStore())
	if err != nil {
		t.Fatal(err)
	}
	log := gapless{cache}
	store := func(first, last, term uint64) {
		t.Helper()
		var ls []*raft.Log
		for i := first; i <= last; i++ {
			ls = append(ls, &raft.Log{Index: i, Term: term})
		}
		if err := log.StoreLogs(ls); err != nil {
			t.Fatal(err)
		}
	}
	has := func(first, last uint64) {
		t.Helper()
		f, ferr := log.FirstIndex()
		l, lerr := log.LastIndex()
		if f != first || l != last || errors.Join(ferr, lerr) != nil {
			t.Fatalf("entries %d to %d (%v), want %d to %d", f, l, errors.Join(ferr, lerr), first, last)
		}
		for i := uint64(1); i <= last+1; i++ {
			err := log.GetLog(i, new(raft.Log))
			if is := i >= first && i <= last; is != (err == nil) || !is && !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("entry %d of %d to %d: %v", i, first, last, err)
			}
		}
	}
	store(3, 5, 1) // an empty log begins anywhere
	has(3, 5)
	if err := log.StoreLog(&raft.Log{Index: 6, Term: 1}); err != nil {
		t.Fatal(err)
	}
	store(5, 7, 2)
	has(3, 7)
	store(9, 10, 3)
	has(9, 10)
	if err := log.StoreLog(&raft.Log{Index: 20, Term: 3}); err != nil {
		t.Fatal(err)
	}
	has(20, 20)
}
