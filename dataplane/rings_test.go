package dataplane

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// A page of a segment that cannot be had is an error of every function that
// touches it, not the end of the process; half a frame is nowhere left.
func TestFaultsAreErrors(t *testing.T) {
	size := shm.SegmentBytes(shm.RingBytesMin)
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	a := &attachment{mem: mem}
	if a.seg, err = shm.Format(mem, [16]byte{1}, shm.RingBytesMin); err != nil {
		t.Fatal(err)
	}
	program := a.seg.Producer(shm.ToNode, shm.Request)
	for seq := range uint64(2) {
		rec, _, err := program.Reserve(wire.OutRequestBytes + 8)
		if err != nil {
			t.Fatal(err)
		}
		(&wire.OutRequest{Seq: seq + 1}).Put(rec)
		program.Commit()
	}
	program.Publish()
	if err := a.openRings(); err != nil {
		t.Fatal(err)
	}
	var q wire.OutRequest
	n, pos, _, ok, err := a.nextRequest(&q)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	to := &loop{}
	send := func() error {
		return a.transmit(to, &wire.Header{}, flow.Requests, &flow.Record{Position: pos, Size: uint32(n)})
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	before := len(to.buf)
	if err := unix.Ftruncate(fd, 0); err != nil {
		t.Fatal(err)
	}
	for name, touch := range map[string]func() error{
		"open rings":      a.openRings,
		"next request":    func() error { _, _, _, _, err := a.nextRequest(&q); return err },
		"next reply":      func() error { _, _, _, _, err := a.nextReply(new(wire.OutReply)); return err },
		"control":         a.drainControl,
		"sleep":           func() error { _, err := a.sleep(); return err },
		"taken":           func() error { _, err := a.taken(); return err },
		"write control":   func() error { _, err := a.writeControl(wire.Control{Type: wire.ControlBye}); return err },
		"transmit":        send,
		"deliver":         func() error { _, _, err := a.deliver(&flow.Delivery{Payload: make([]byte, 100)}); return err },
		"deliver a reply": func() error { _, _, err := a.deliver(&flow.Delivery{Stream: flow.Replies}); return err },
		"publish":         func() error { a.released = true; a.wrote = true; _, err := a.publish(); return err },
		"check":           func() error { _, err := checkHandedBack(a.seg, wire.SessionID{1}); return err },
	} {
		if err := touch(); !errors.Is(err, shm.ErrFault) {
			t.Errorf("%s: %v, want ErrFault", name, err)
		}
	}
	if a.more() {
		t.Error("a ring that cannot be read has more")
	}
	a.wantRoom()
	if len(to.buf) != before {
		t.Errorf("%d bytes of a frame are left", len(to.buf)-before)
	}
}
