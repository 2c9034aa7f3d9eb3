//go:build faults

package fault

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// tracer writes a trace file through a mapping: what was written is there
// whatever becomes of the process. A nil tracer writes nothing.
type tracer struct {
	mu   sync.Mutex // guards what follows; a leaf
	mem  []byte     // the whole file, nil when closed
	recs []byte     // the part with the records
	last uint64     // number of the newest record
}

// openTrace opens a file for tracing, of about size bytes if it is new.
func openTrace(file string, size int) (*tracer, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	isNew := st.Size() == 0
	if !isNew {
		size = int(st.Size())
	}
	if size < 2*RecordBytes {
		return nil, fmt.Errorf("%w: %d bytes, %d at least", ErrTrace, size, 2*RecordBytes)
	}
	size -= size % RecordBytes
	if isNew {
		if err := f.Truncate(int64(size)); err != nil {
			return nil, err
		}
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", file, err)
	}
	if isNew {
		putHead(mem, uint64(size/RecordBytes-1))
	}
	t := &tracer{mem: mem}
	if t.recs, err = places(mem); err != nil {
		t.close()
		return nil, err
	}
	events, err := DecodeTrace(mem)
	if err != nil {
		t.close()
		return nil, err
	}
	if n := len(events); n > 0 {
		t.last = events[n-1].Number
	}
	t.add(&Event{What: Started, Seq: uint64(os.Getpid())})
	return t, nil
}

func (t *tracer) add(e *Event) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mem == nil {
		return
	}
	if e.AtNs == 0 {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // never fails for this clock
		e.AtNs = ts.Nano()
	}
	t.last++
	e.Number = t.last
	at := (t.last - 1) % uint64(len(t.recs)/RecordBytes) * RecordBytes
	e.Put(t.recs[at:])
}

func (t *tracer) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mem != nil {
		_ = unix.Munmap(t.mem)
		t.mem, t.recs = nil, nil
	}
}
