package raftnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// ErrDamaged is wrapped when what lies in the data directory cannot be what a
// node has written.
var ErrDamaged = errors.New("raftnode: damaged")

// What this package knows of bbolt's file format (version 2): two meta pages
// begin the file, each with its page size and the number of pages in use, and
// the one with the higher transaction counts.
const (
	metaOffset   = 16 // behind the page header
	metaBytes    = 64
	metaMagic    = 0xED0CDAED
	pageBytesMax = 64 << 10
)

// checkLength finds out whether a log was cut off, as by a copy that ended
// early: bbolt maps the file and would end the process with a fault. Anything
// else that is wrong with it is for bbolt to say.
func checkLength(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var newest, need uint64
	for page := int64(512); page <= pageBytesMax; page *= 2 {
		for _, at := range []int64{metaOffset, page + metaOffset} {
			if tx, pages, ok := readMeta(f, at, page); ok && tx >= newest {
				newest, need = tx, pages*uint64(page)
			}
		}
	}
	if size := uint64(st.Size()); size < need {
		return fmt.Errorf("it is cut off: %d bytes, %d expected", size, need)
	}
	return nil
}

// readMeta reads a meta page; ok is false for anything but a sound one of this
// page size.
func readMeta(f io.ReaderAt, at, page int64) (tx, pages uint64, ok bool) {
	var b [metaBytes]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return 0, 0, false
	}
	order := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:56])
	if order.Uint32(b[0:]) != metaMagic || int64(order.Uint32(b[8:])) != page || order.Uint64(b[56:]) != sum.Sum64() {
		return 0, 0, false
	}
	return order.Uint64(b[48:]), order.Uint64(b[40:]), true
}

// checkPages reads every page that is in use: bbolt takes it for granted that
// they are sound, and panics later, partly on goroutines of its own, or follows
// a wild pointer. Here both end in an error.
func checkPages(path string) (err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	o := &bbolt.Options{ReadOnly: true, Timeout: boltOpenWait}
	defer calm(o, &err)()
	db, err := bbolt.Open(path, dataFileMode, o)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			var last []byte
			return b.ForEach(func(k, v []byte) error {
				if len(k) == 0 || v == nil || len(v) > entryBytesMax || bytes.Compare(last, k) >= 0 {
					return fmt.Errorf("an entry with %d bytes of key and %d of value, or not in order", len(k), len(v))
				}
				if found := b.Get(k); !bytes.Equal(found, v) { // reads all of it, and the pages above
					return fmt.Errorf("the entry with key %x is not where it is looked for", k)
				}
				last = k
				return nil
			})
		})
	})
}

// entryBytesMax is far more than any entry of the log has.
const entryBytesMax = 64 << 20

// checkEntries reads what raft will read: it panics on what it cannot decode.
func checkEntries(s *raftboltdb.BoltStore) error {
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if _, err := s.GetUint64([]byte(key)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return fmt.Errorf("read %s: %w", key, err)
		}
	}
	first, err := s.FirstIndex()
	if err != nil {
		return fmt.Errorf("find the first entry: %w", err)
	}
	last, err := s.LastIndex()
	if err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	}
	for i := first; i <= last && last > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return fmt.Errorf("read entry %d of %d to %d: %w", i, first, last, err)
		}
		if l.Index != i || l.Term == 0 || l.Type > raft.LogConfiguration {
			return fmt.Errorf("entry %d says index %d, term %d, type %d", i, l.Index, l.Term, l.Type)
		}
	}
	return nil
}

// calm turns panics and memory faults of this goroutine into err, and closes
// the file that is opened with o, whose lock would stay. To be used as:
// defer calm(o, &err)().
func calm(o *bbolt.Options, err *error) func() {
	was := debug.SetPanicOnFault(true)
	var opened *os.File
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		opened = f
		return f, err
	}
	return func() {
		debug.SetPanicOnFault(was)
		if r := recover(); r != nil {
			*err = fmt.Errorf("it cannot be read: %v", r)
			if opened != nil {
				opened.Close()
			}
		}
	}
}

// openBolt opens the log once everything in it has been read without fault.
func openBolt(o raftboltdb.Options) (_ *raftboltdb.BoltStore, err error) {
	if err := checkLength(o.Path); err != nil {
		return nil, err
	}
	if err := checkPages(o.Path); err != nil {
		return nil, err
	}
	defer calm(o.BoltOptions, &err)()
	s, err := raftboltdb.New(o)
	if err != nil {
		return nil, err
	}
	if err := checkEntries(s); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
