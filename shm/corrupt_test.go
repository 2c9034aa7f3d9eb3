package shm

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
)

// TestOpenRefuses proves that Open takes no segment that Format did not make
// or whose cursors are impossible.
func TestOpenRefuses(t *testing.T) {
	const ringBytes = RingBytesMin
	tests := []struct {
		name  string
		spoil func(mem []byte) []byte
		want  error
	}{
		{"empty", func(mem []byte) []byte { return nil }, ErrSize},
		{"header only", func(mem []byte) []byte { return mem[:offData] }, ErrCorrupt},
		{"one byte short", func(mem []byte) []byte { return mem[:len(mem)-1] }, ErrCorrupt},
		{"not aligned", func(mem []byte) []byte { return mem[1:] }, ErrSize},
		{"magic", func(mem []byte) []byte { mem[offMagic]++; return mem }, ErrCorrupt},
		{"version", func(mem []byte) []byte { mem[offVersion]++; return mem }, ErrCorrupt},
		{"ring size", func(mem []byte) []byte { mem[offRingBytes+1]++; return mem }, ErrCorrupt},
		{"head past tail", func(mem []byte) []byte { mem[offCursors+offHead] = 8; return mem }, ErrCorrupt},
		{"tail past the ring", func(mem []byte) []byte {
			binary.NativeEndian.PutUint64(mem[offCursors+5*cursorStride:], ringBytes+8)
			return mem
		}, ErrCorrupt},
		{"tail not aligned", func(mem []byte) []byte { mem[offCursors] = 4; return mem }, ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := make([]byte, SegmentBytes(ringBytes))
			if _, err := Format(mem, [16]byte{}, ringBytes); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(tt.spoil(mem)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	for _, size := range []int{0, 100, RingBytesMin + 8, RingBytesMin / 2, RingBytesMax * 2} {
		if _, err := Format(make([]byte, 1<<17), [16]byte{}, size); !errors.Is(err, ErrSize) {
			t.Errorf("format with rings of %d: %v, want ErrSize", size, err)
		}
	}
}

// TestCorruptPeer proves that nonsense written while a ring is in use gives
// ErrCorrupt, for good, and nothing else.
func TestCorruptPeer(t *testing.T) {
	put := func(p *Producer, n int) {
		if _, ok, err := p.Reserve(n); !ok || err != nil {
			t.Fatal(ok, err)
		}
		p.Commit()
		p.Publish()
	}
	header := func(c *Consumer, pos uint64, length, mark uint32) {
		binary.NativeEndian.PutUint32(c.buf[pos:], length)
		binary.NativeEndian.PutUint32(c.buf[pos+4:], mark)
	}
	consumer := []struct {
		name  string
		spoil func(c *Consumer)
	}{
		{"tail goes back", func(c *Consumer) { atomic.StoreUint64(c.tail, 8) }},
		{"tail laps the head", func(c *Consumer) { atomic.StoreUint64(c.tail, RingBytesMin+40) }},
		{"tail not aligned", func(c *Consumer) { atomic.StoreUint64(c.tail, 99) }},
		{"length past the tail", func(c *Consumer) { header(c, 32, 48, markRecord) }},
		{"length past the ring", func(c *Consumer) { header(c, 32, RingBytesMin, markRecord) }},
		{"length overflows", func(c *Consumer) { header(c, 32, ^uint32(0), markRecord) }},
		{"no mark", func(c *Consumer) { header(c, 32, 16, 0) }},
		{"pad of a wrong length", func(c *Consumer) { header(c, 32, 16, markPad) }},
		{"pad past the tail", func(c *Consumer) { header(c, 32, RingBytesMin-40, markPad) }},
	}
	for _, tt := range consumer {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, memories[0], RingBytesMin)
			prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
			put(prod, 24)
			if _, _, _, ok, err := cons.Next(); !ok || err != nil {
				t.Fatal(ok, err)
			}
			put(prod, 24)
			tt.spoil(cons)
			for range 2 {
				if _, _, _, ok, err := cons.Next(); ok || !errors.Is(err, ErrCorrupt) {
					t.Fatalf("got %v, %v; want ErrCorrupt", ok, err)
				}
			}
			if _, err := cons.At(0); !errors.Is(err, ErrCorrupt) {
				t.Errorf("At: %v, want ErrCorrupt", err)
			}
		})
	}
	for name, head := range map[string]uint64{"head past the tail": 64, "head goes back": 0, "head not aligned": 33} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, memories[0], RingBytesMin)
			prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
			put(prod, 24)
			_, _, end, _, _ := cons.Next()
			cons.Release(end)
			if prod.Head() != end {
				t.Fatalf("head %d, want %d", prod.Head(), end)
			}
			atomic.StoreUint64(prod.head, head)
			if prod.Head() != end || !errors.Is(prod.Err(), ErrCorrupt) {
				t.Errorf("head %d, %v; want the last good %d and ErrCorrupt", prod.Head(), prod.Err(), end)
			}
			if _, ok, err := prod.Reserve(1); ok || !errors.Is(err, ErrCorrupt) {
				t.Errorf("Reserve: %v, %v; want ErrCorrupt", ok, err)
			}
		})
	}
}

// TestChangedRecord proves that At checks a record anew.
func TestChangedRecord(t *testing.T) {
	p := newPair(t, memories[0], RingBytesMin)
	prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
	if _, ok, err := prod.Reserve(24); !ok || err != nil {
		t.Fatal(ok, err)
	}
	prod.Commit()
	prod.Publish()
	_, pos, _, _, _ := cons.Next()
	binary.NativeEndian.PutUint32(cons.buf[pos:], 25)
	if _, err := cons.At(pos); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

// FuzzSegment proves that opening and reading whatever bytes ends without a
// panic, without reading outside and within the bytes of the ring.
func FuzzSegment(f *testing.F) {
	p := newPair(f, memories[0], RingBytesMin)
	prod := p.program.Producer(ToNode, Request)
	for range 40 {
		if _, ok, _ := prod.Reserve(70); ok {
			prod.Commit()
		}
	}
	prod.Publish()
	f.Add(p.node.mem[offCursors:offData], p.node.Consumer(ToNode, Request).buf[:200])
	f.Add([]byte{8}, []byte{0, 0, 0, 0, 1, 0x4d, 0xc0, 0x7e})
	f.Fuzz(func(t *testing.T, cursors, records []byte) {
		mem := make([]byte, SegmentBytes(RingBytesMin))
		if _, err := Format(mem, [16]byte{}, RingBytesMin); err != nil {
			t.Fatal(err)
		}
		copy(mem[offCursors:offData], cursors)
		for off := offData; off < len(mem) && len(records) > 0; off += RingBytesMin {
			copy(mem[off:], records)
		}
		s, err := Open(mem)
		if err != nil {
			return
		}
		for d := range directions {
			for c := range classes {
				cons := s.Consumer(d, c)
				for n := 0; ; n++ {
					rec, pos, end, ok, err := cons.Next()
					if !ok || err != nil {
						break
					}
					if n > ControlRingBytes/recordHeaderBytes || len(rec) > len(cons.buf) {
						t.Fatalf("record %d of %d bytes", n, len(rec))
					}
					if again, err := cons.At(pos); err != nil || len(again) != len(rec) {
						t.Fatal("At differs from Next", err)
					}
					if n%2 == 0 {
						cons.Release(end)
					}
				}
				_, _, _ = s.Producer(d, c).Reserve(100)
			}
		}
	})
}

// TestCursorsNeverWrap proves that a ring whose cursors stand at the end of all
// numbers is refused: a record that ends there would lead its reader round the
// ring for ever.
func TestCursorsNeverWrap(t *testing.T) {
	const ringBytes, before = RingBytesMin, 1024
	mem := make([]byte, SegmentBytes(ringBytes))
	if _, err := Format(mem, [16]byte{}, ringBytes); err != nil {
		t.Fatal(err)
	}
	head := ^uint64(0) - before + 1
	cursors := mem[offCursors+int(Request)*cursorStride:]
	binary.NativeEndian.PutUint64(cursors, head+before-recordAlign)
	binary.NativeEndian.PutUint64(cursors[offHead:], head)
	data := mem[offData+ringSize(Control, ringBytes)+ringBytes:][:ringBytes] // Request, to the node
	for off := 0; off < ringBytes-before; off += recordHeaderBytes {
		putHeader(data[off:], 0, markRecord)
	}
	putHeader(data[ringBytes-before:], before-recordHeaderBytes, markRecord)
	seg, err := Open(mem)
	if errors.Is(err, ErrCorrupt) {
		return
	}
	c, n := seg.Consumer(ToNode, Request), 0
	for ok := true; ok && n < ringBytes; n++ {
		_, _, _, ok, _ = c.Next()
	}
	t.Errorf("opened (%v), and %d records were read from a ring of %d bytes", err, n, ringBytes)
}
