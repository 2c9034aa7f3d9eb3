package shm

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// Segment is a formatted piece of shared memory. Its methods may be called
// from any goroutine.
type Segment struct {
	mem       []byte
	ringBytes int
	session   [16]byte
	sleeping  [sides]*uint32
	wantsRoom [sides]*uint32
}

// Format makes a fresh segment of mem, which must be zero and exactly
// SegmentBytes(ringBytes) long. Only the node formats, before it hands the
// memory out.
func Format(mem []byte, session [16]byte, ringBytes int) (*Segment, error) {
	if !validRingBytes(ringBytes) || len(mem) != SegmentBytes(ringBytes) || !aligned(mem) {
		return nil, fmt.Errorf("%w: %d bytes for rings of %d", ErrSize, len(mem), ringBytes)
	}
	ne := binary.NativeEndian
	ne.PutUint64(mem[offMagic:], segmentMagic)
	ne.PutUint32(mem[offVersion:], segmentVersion)
	ne.PutUint32(mem[offRingBytes:], uint32(ringBytes))
	copy(mem[offSession:], session[:])
	return newSegment(mem, ringBytes), nil
}

// Open checks a segment that somebody else formatted: magic, version, sizes
// and every cursor. mem must be the whole segment. Records are checked when
// they are read.
func Open(mem []byte) (*Segment, error) {
	if len(mem) < offData || !aligned(mem) {
		return nil, fmt.Errorf("%w: %d bytes are no segment", ErrSize, len(mem))
	}
	ne := binary.NativeEndian
	if m := ne.Uint64(mem[offMagic:]); m != segmentMagic {
		return nil, fmt.Errorf("%w: magic %#x", ErrCorrupt, m)
	}
	if v := ne.Uint32(mem[offVersion:]); v != segmentVersion {
		return nil, fmt.Errorf("%w: version %d, known is %d", ErrCorrupt, v, segmentVersion)
	}
	ringBytes := int(ne.Uint32(mem[offRingBytes:]))
	if !validRingBytes(ringBytes) || len(mem) != SegmentBytes(ringBytes) {
		return nil, fmt.Errorf("%w: rings of %d bytes in a segment of %d", ErrCorrupt, ringBytes, len(mem))
	}
	s := newSegment(mem, ringBytes)
	for d := range directions {
		for c := range classes {
			if r := s.ring(d, c); r.corrupt != nil {
				return nil, r.corrupt
			}
		}
	}
	return s, nil
}

func newSegment(mem []byte, ringBytes int) *Segment {
	s := &Segment{mem: mem, ringBytes: ringBytes, session: [16]byte(mem[offSession : offSession+16])}
	for side := range sides {
		s.sleeping[side] = word32(mem, offFlags+int(side)*2*flagStride)
		s.wantsRoom[side] = word32(mem, offFlags+int(side)*2*flagStride+flagStride)
	}
	return s
}

// Session returns the id that was given to Format, as it was when the segment was opened.
func (s *Segment) Session() [16]byte { return s.session }

// RingBytes returns the size of the Request and Reply rings.
func (s *Segment) RingBytes() int { return s.ringBytes }

// Sleep says that a side is about to wait for its doorbell. The side must look
// at its rings once more afterwards, before it waits.
// sync: sleeping (release and acquire; pairs with WakeNeeded. Publish, then
// WakeNeeded on one side against Sleep, then look on the other: one of the two
// sees what the other wrote, because both are sequentially consistent.)
func (s *Segment) Sleep(side Side) { atomic.StoreUint32(s.sleeping[side], 1) }

// Awake takes Sleep back.
func (s *Segment) Awake(side Side) {
	if atomic.LoadUint32(s.sleeping[side]) != 0 {
		atomic.StoreUint32(s.sleeping[side], 0)
	}
}

// WakeNeeded reports whether side sleeps, and takes the flag down: the caller,
// and only it, must ring the doorbell of that side. Call it after Publish.
// sync: sleeping (pairs with Sleep)
func (s *Segment) WakeNeeded(side Side) bool {
	return atomic.LoadUint32(s.sleeping[side]) != 0 && atomic.SwapUint32(s.sleeping[side], 0) != 0
}

// WantRoom says that a side found one of the rings that it produces into full.
// It must try once more afterwards, before it waits for its doorbell.
// sync: wants-room (pairs with RoomWanted, like sleeping)
func (s *Segment) WantRoom(side Side) { atomic.StoreUint32(s.wantsRoom[side], 1) }

// RoomWanted reports whether side waits for room, and takes the flag down: the
// caller must ring the doorbell of that side. Call it after Release.
// sync: wants-room (pairs with WantRoom)
func (s *Segment) RoomWanted(side Side) bool {
	return atomic.LoadUint32(s.wantsRoom[side]) != 0 && atomic.SwapUint32(s.wantsRoom[side], 0) != 0
}

// Producer returns the writing end of a ring, continuing where the ring
// stands. There must be only one at a time.
func (s *Segment) Producer(d Direction, c Class) *Producer {
	r := s.ring(d, c)
	return &Producer{ring: r, length: -1, next: r.tail0, published: r.tail0, seenHead: r.head0}
}

// Consumer returns the reading end of a ring, beginning with the oldest record
// that was not released. There must be only one that releases.
func (s *Segment) Consumer(d Direction, c Class) *Consumer {
	r := s.ring(d, c)
	return &Consumer{ring: r, pos: r.head0, seenTail: r.head0, released: r.head0}
}

// ring is what both ends of a ring have in common.
type ring struct {
	buf          []byte
	tail         *uint64 // written by the producer only
	head         *uint64 // written by the consumer only
	tail0, head0 uint64  // when the end was made
	corrupt      error   // why the ring cannot be used, sticky
}

func (s *Segment) ring(d Direction, c Class) ring {
	index := int(d)*int(classes) + int(c)
	off := offData + int(d)*(ControlRingBytes+2*s.ringBytes)
	for k := range c {
		off += ringSize(k, s.ringBytes)
	}
	size := ringSize(c, s.ringBytes)
	r := ring{
		buf:  s.mem[off : off+size : off+size],
		tail: word64(s.mem, offCursors+index*cursorStride),
		head: word64(s.mem, offCursors+index*cursorStride+offHead),
	}
	// Head first: it only follows tail, so a live ring never looks inverted.
	head := atomic.LoadUint64(r.head)
	tail := atomic.LoadUint64(r.tail)
	if tail < head || tail > cursorMax || tail%recordAlign != 0 || head%recordAlign != 0 || tail-head > uint64(size) {
		r.corrupt = fmt.Errorf("%w: ring %d/%d has head %d, tail %d, size %d", ErrCorrupt, d, c, head, tail, size)
		return r
	}
	r.head0, r.tail0 = head, tail
	return r
}
