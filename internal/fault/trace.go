package fault

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
)

// What is what an Event tells.
type What uint8

// The events of a node. Frames are those between nodes; what a node sends to
// itself is among them, with itself as peer.
const (
	// Started begins the trace of a process. Seq: its process id.
	Started What = 1 + iota
	// FrameSent: a frame was queued for Peer. One that its link loses never arrives.
	FrameSent
	// FrameReceived: a frame came from Peer and is about to be acted on.
	FrameReceived
	// Delivered: a message or reply was written into the in-ring of a program.
	// Session and Seq are the message's, or of a reply the request's that it
	// answers; Peer is the node of its sender, 0 for a reply; Type tells the two
	// apart; Attempt is the number of the program, see Attached.
	Delivered
	// Taken: the head of a program's in-ring has passed a message: it is acknowledged. As Delivered.
	Taken
	// Withdrawn: a program ended, or was cut off, with a message untaken. As Delivered.
	Withdrawn
	// Restored: a program that came back had a message untaken, which stays in
	// its in-ring. As Delivered.
	Restored
	// Struck: as Restored, but it was struck out.
	Struck
	// Settled: all messages of Session up to Seq are settled, their room may be
	// given back. Kind 1: its replies, by their own sequences. Seq 0: none that this
	// process has read.
	Settled
	// GivenUp: a message of Session was given up and is about to be told so.
	// Flags: as wire.FlagMaybeRepeat if it may have been taken.
	GivenUp
	// TableInstalled: the node goes by another table. The epoch is the table's, Seq
	// its version, Hash the ring's id, Attempt a checksum of who owns what. Flags: 1
	// this node lacks data of slots that it owns, 2 it owns none.
	TableInstalled
	// Admitted: the ring knows this process under another incarnation, 0: no more.
	Admitted
	// Attached: a program has attached, whose Session is its own. Attempt is the
	// number that this process gave it. Flags: 1 it is a server program, 2 it handed a
	// segment back, 4 it takes by Done.
	Attached
	// Detached: a program has ended. As Attached.
	Detached
	// StandIn: this node stands in for Peer from here on. Hash is the incarnation
	// of Peer.
	StandIn
	// StandInOver: it does no longer.
	StandInOver
	// InPlace: the message that was Delivered just before is another server's, Peer, which acts
	// for its hash by this node's table. Otherwise as Delivered.
	InPlace

	whatEnd
)

// String returns a lower-case word.
func (w What) String() string {
	words := [whatEnd]string{"", "started", "frame sent", "frame received", "delivered", "taken", "withdrawn", "restored", "struck",
		"settled", "given up", "table installed", "admitted", "attached", "detached", "stands in", "stands in no longer", "given in place of the owner"}
	if w == 0 || w >= whatEnd {
		return fmt.Sprintf("event %d", uint8(w))
	}
	return words[w]
}

// Event is one line of a trace. Ids and types are those of packages ring and
// wire, as plain numbers.
type Event struct {
	Number uint64 // 1, 2, 3 ... of the file, through all processes that wrote to it
	AtNs   int64  // CLOCK_MONOTONIC of the host

	What  What
	Type  uint8 // wire.Type of a frame
	Kind  uint8 // wire.Kind of a message
	Flags uint16
	Peer  uint64 // ring.ID of the other node

	Session [16]byte
	Seq     uint64 // of an acknowledgement the base
	Hash    uint64 // of an acknowledgement the mask: bit i stands for Seq+i
	Attempt uint32

	// Era and Index are the epoch in a frame that has one (a message, MOVED),
	// else that of the node's table at that time.
	Era   uint32
	Index uint64

	LowDelta, PredDelta uint16 // of a message
	Incarnation         uint64 // of this process at that time, 0: not admitted
}

// Sizes of a trace file.
const (
	RecordBytes = 96
	// TraceBytes is the size of a trace file if nothing else is said.
	TraceBytes = 32 << 20
)

// A trace file is a head of RecordBytes and records of RecordBytes each; it is
// written round and round. The head, little-endian:
//
//	0 "CHMPXTRC"   8 version u32   12 RecordBytes u32   16 number of records u64   24 zero
//
// The record with number n lies at place (n-1) modulo the number of records:
//
//	 0 number u64   8 at i64   16 what u8  17 type u8  18 kind u8  19 zero  20 flags u16  22 zero
//	24 peer u64    32 session [16]
//	48 seq u64     56 hash u64
//	64 index u64   72 era u32  76 attempt u32
//	80 incarnation u64
//	88 lowDelta u16  90 predDelta u16  92 CRC-32C of what is before
//
// So a record that was half written when its process was killed shows.
const (
	traceMagic   = "CHMPXTRC"
	traceVersion = 1
)

// ErrTrace is wrapped by every error about a file that is no trace.
var ErrTrace = errors.New("fault: invalid trace")

func checksum(b []byte) uint32 { return crc32.Checksum(b[:92], crc32.MakeTable(crc32.Castagnoli)) }

// Put encodes an event into b, which must hold RecordBytes.
func (e *Event) Put(b []byte) {
	_ = b[RecordBytes-1]
	le := binary.LittleEndian
	le.PutUint64(b[0:], e.Number)
	le.PutUint64(b[8:], uint64(e.AtNs))
	b[16], b[17], b[18], b[19] = byte(e.What), e.Type, e.Kind, 0
	le.PutUint32(b[20:], uint32(e.Flags))
	le.PutUint64(b[24:], e.Peer)
	copy(b[32:48], e.Session[:])
	le.PutUint64(b[48:], e.Seq)
	le.PutUint64(b[56:], e.Hash)
	le.PutUint64(b[64:], e.Index)
	le.PutUint32(b[72:], e.Era)
	le.PutUint32(b[76:], e.Attempt)
	le.PutUint64(b[80:], e.Incarnation)
	le.PutUint16(b[88:], e.LowDelta)
	le.PutUint16(b[90:], e.PredDelta)
	le.PutUint32(b[92:], checksum(b))
}

// Get decodes an event and reports whether b holds one: whole, with a number
// and a known What.
func (e *Event) Get(b []byte) bool {
	if len(b) < RecordBytes {
		return false
	}
	le := binary.LittleEndian
	*e = Event{
		Number: le.Uint64(b[0:]), AtNs: int64(le.Uint64(b[8:])),
		What: What(b[16]), Type: b[17], Kind: b[18], Flags: le.Uint16(b[20:]), Peer: le.Uint64(b[24:]),
		Session: [16]byte(b[32:48]), Seq: le.Uint64(b[48:]), Hash: le.Uint64(b[56:]), Attempt: le.Uint32(b[76:]),
		Era: le.Uint32(b[72:]), Index: le.Uint64(b[64:]),
		LowDelta: le.Uint16(b[88:]), PredDelta: le.Uint16(b[90:]), Incarnation: le.Uint64(b[80:]),
	}
	return e.Number != 0 && e.What != 0 && e.What < whatEnd && le.Uint32(b[92:]) == checksum(b)
}

// putHead encodes the head of a file with so many records.
func putHead(b []byte, records uint64) {
	copy(b, traceMagic)
	binary.LittleEndian.PutUint32(b[8:], traceVersion)
	binary.LittleEndian.PutUint32(b[12:], RecordBytes)
	binary.LittleEndian.PutUint64(b[16:], records)
}

// places checks the head of a trace and returns the part with the records.
func places(b []byte) ([]byte, error) {
	if len(b) < 2*RecordBytes || string(b[:8]) != traceMagic {
		return nil, fmt.Errorf("%w: %d bytes without the head of one", ErrTrace, len(b))
	}
	version, size := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	records := binary.LittleEndian.Uint64(b[16:])
	if version != traceVersion || size != RecordBytes || records != uint64(len(b)/RecordBytes-1) {
		return nil, fmt.Errorf("%w: version %d, %d records of %d bytes, %d bytes in all", ErrTrace, version, records, size, len(b))
	}
	return b[RecordBytes : (records+1)*RecordBytes], nil
}

// DecodeTrace returns the events in a trace file's bytes, in the order in which
// they were written. Records that were half written, and older ones that lie
// around them, are left out.
func DecodeTrace(b []byte) ([]Event, error) {
	recs, err := places(b)
	if err != nil {
		return nil, err
	}
	n := uint64(len(recs) / RecordBytes)
	var events []Event
	newest := uint64(0)
	for i := uint64(0); i < n; i++ {
		var e Event
		if e.Get(recs[i*RecordBytes:]) && (e.Number-1)%n == i {
			events = append(events, e)
			newest = max(newest, e.Number)
		}
	}
	events = slices.DeleteFunc(events, func(e Event) bool { return newest-e.Number >= n })
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Number, b.Number) })
	return events, nil
}

// ReadTrace is DecodeTrace of a file. Its process may still be writing, or be gone.
func ReadTrace(file string) ([]Event, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	events, err := DecodeTrace(b)
	if err != nil {
		return nil, fmt.Errorf("read trace %s: %w", file, err)
	}
	return events, nil
}
