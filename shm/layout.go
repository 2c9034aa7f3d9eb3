// Package shm is the shared memory between a node and one program: a segment
// with six single-producer single-consumer rings, two flags for each side, and
// doorbells to wake a side that sleeps.
//
// All ring code works over a []byte, so it is the same over the heap (where
// the race detector sees it) and over a mapping. What the other process writes
// is read once and checked: nonsense gives ErrCorrupt, a page that cannot be
// had gives ErrFault (see Guard), neither ends this process.
//
// Each Producer and each Consumer belongs to one goroutine at a time; the
// flags of a Segment and Doorbell.Ring may be used from any goroutine.
package shm

import "errors"

// Class says what a ring carries. Each class has rings of its own, so that
// none waits for room of another.
type Class uint8

// The classes, in the order in which a reader should serve them.
const (
	Control Class = iota // small fixed records, 64 KiB
	Reply                // replies
	Request              // messages
	classes
)

// Direction says which way a ring goes.
type Direction uint8

// The directions.
const (
	ToNode    Direction = iota // the program produces, the node consumes
	ToProgram                  // the node produces, the program consumes
	directions
)

// Side is one of the two users of a segment.
type Side uint8

// The sides.
const (
	NodeSide Side = iota
	ProgramSide
	sides
)

// Sizes of rings.
const (
	// ControlRingBytes is the size of each control ring.
	ControlRingBytes = 64 << 10
	// RingBytesMin and RingBytesMax bound ringBytes, a power of two.
	RingBytesMin = 4 << 10
	RingBytesMax = 256 << 20
)

// The segment, version 1. All numbers are in the byte order of the host.
//
//	0     magic u64 | version u32 | ringBytes u32 | session [16] | zero to 127
//	128   sleeping u32 of the node
//	256   wants room u32 of the node
//	384   sleeping u32 of the program
//	512   wants room u32 of the program
//	1024  6 x ring cursors of 256 bytes: tail u64 at 0, head u64 at 128
//	4096  ring data: to node Control, Reply, Request; to program likewise
//
// A ring is a sequence of records, each 8-byte aligned and in one piece:
//
//	0 length u32   of what follows the header, without padding to 8
//	4 mark u32     markRecord; markPad: fills the ring to its end; markVoid: was
//	               a record and is passed over (Consumer.Void)
//	8 record
//
// head <= tail, both count bytes since the segment was formatted and never
// wrap; position modulo ring size is the place in the ring. Bytes between head
// and tail belong to the consumer, all others to the producer.
const (
	segmentMagic   = 0x31_4d_48_53_58_50_4d_43 // "CMPXSHM1"
	segmentVersion = 1

	offMagic     = 0
	offVersion   = 8
	offRingBytes = 12
	offSession   = 16
	offFlags     = 128  // sides x {sleeping, wants room}, flagStride apart
	offCursors   = 1024 // directions x classes, cursorStride apart
	offData      = 4096

	flagStride   = 128 // two cache lines: the adjacent-line prefetcher takes pairs
	cursorStride = 256
	offHead      = 128 // of a ring's head from its tail

	cursorMax = 1 << 62 // when a ring is opened: what is added to it does not wrap

	recordHeaderBytes = 8
	recordAlign       = 8
	markRecord        = 0x7ec04d01
	markPad           = 0x7ec04d02
	markVoid          = 0x7ec04d03
)

func init() {
	if offSession+16 > offFlags || offFlags+int(sides)*2*flagStride > offCursors ||
		offCursors+int(directions)*int(classes)*cursorStride > offData ||
		offFlags%flagStride != 0 || offCursors%cursorStride != 0 || offData%4096 != 0 ||
		RingBytesMin%4096 != 0 || ControlRingBytes&(ControlRingBytes-1) != 0 || recordHeaderBytes%recordAlign != 0 {
		panic("BUG: the parts of a segment overlap or are not aligned")
	}
}

// Errors of this package.
var (
	// ErrCorrupt says that the other side, or a stranger, wrote what no correct peer writes.
	ErrCorrupt = errors.New("shm: corrupt segment")
	// ErrFault says that a page of the segment could not be had.
	ErrFault = errors.New("shm: memory fault in segment")
	// ErrTooLarge says that a record is larger than RecordBytesMax of its ring.
	ErrTooLarge = errors.New("shm: record too large")
	// ErrSize says that memory or ring sizes do not fit together.
	ErrSize = errors.New("shm: bad size")
	// ErrSealed says that a memfd lacks the seals that keep its size fixed.
	ErrSealed = errors.New("shm: memfd is not sealed")
	// ErrDescriptors says that a message carried another number of descriptors than expected.
	ErrDescriptors = errors.New("shm: wrong number of descriptors")
)

// ringSize returns the size of the rings of a class.
func ringSize(c Class, ringBytes int) int {
	if c == Control {
		return ControlRingBytes
	}
	return ringBytes
}

// SegmentBytes returns the size of a segment whose Request and Reply rings
// have ringBytes each. ringBytes must be valid (see RingBytesMin).
func SegmentBytes(ringBytes int) int {
	return offData + int(directions)*(ControlRingBytes+2*ringBytes)
}

// RecordBytesMax returns the largest record of a ring of ringBytes: with its
// header a quarter of the ring, so that it always fits an empty ring, however
// much of the end must be skipped.
func RecordBytesMax(ringBytes int) int { return ringBytes/4 - recordHeaderBytes }

// validSegmentBytes reports whether a segment can have this size.
func validSegmentBytes(n int64) bool {
	for ringBytes := RingBytesMin; ringBytes <= RingBytesMax; ringBytes *= 2 {
		if n == int64(SegmentBytes(ringBytes)) {
			return true
		}
	}
	return false
}

func validRingBytes(n int) bool {
	return n >= RingBytesMin && n <= RingBytesMax && n&(n-1) == 0
}

func align(n int) int { return (n + recordAlign - 1) &^ (recordAlign - 1) }
