package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
)

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
