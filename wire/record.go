package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/chmpx/chmpx/ring"
)

// ErrRecord is wrapped by every error about bytes that are no ring record.
var ErrRecord = errors.New("wire: invalid record")

// Sizes of the fixed part of each record; the payload follows.
const (
	OutRequestBytes = 32
	OutReplyBytes   = 48
	InRequestBytes  = 56
	InReplyBytes    = 8
	ControlBytes    = 16
)

// SeqMax is the largest sequence that a record or frame may carry: so a sequence
// and a window more never wrap, and no loop over sequences is endless.
const SeqMax = 1<<62 - 1

// MessageBytesMax returns the largest payload of a message or reply that a
// segment with rings of ringBytes and a frame between nodes carry.
func MessageBytesMax(ringBytes int) int { return min(ringBytes/4-128, PayloadBytesMax) }

// OutRequest is a record of the request ring from a program to its node:
//
//	0 seq u64  8 hash u64  16 deadlineUnixMs i64
//	24 flags u16  26 kind u8  27 zero [5]  32 payload
type OutRequest struct {
	Seq            uint64 // 1, 2, 3 ... per session
	Hash           uint64
	DeadlineUnixMs int64 // 0 = none
	Flags          Flags
	Kind           Kind
}

// Put encodes the fixed part into b, which must hold OutRequestBytes. It does not allocate.
func (r *OutRequest) Put(b []byte) {
	_ = b[OutRequestBytes-1]
	le := binary.LittleEndian
	le.PutUint64(b[0:], r.Seq)
	le.PutUint64(b[8:], r.Hash)
	le.PutUint64(b[16:], uint64(r.DeadlineUnixMs))
	le.PutUint64(b[24:], uint64(r.Flags)|uint64(r.Kind)<<16)
}

// Get decodes a record and returns its payload, which aliases rec. Every field
// is read once, so what was checked is what the caller has, even when the
// other side still writes to rec. It does not allocate unless it fails.
func (r *OutRequest) Get(rec []byte) (payload []byte, err error) {
	if len(rec) < OutRequestBytes {
		return nil, tooShort("request of a program", len(rec), OutRequestBytes)
	}
	le := binary.LittleEndian
	r.Seq = le.Uint64(rec[0:])
	r.Hash = le.Uint64(rec[8:])
	r.DeadlineUnixMs = int64(le.Uint64(rec[16:]))
	w := le.Uint64(rec[24:])
	r.Flags, r.Kind = Flags(w), Kind(w>>16)
	switch {
	case r.Seq == 0 || r.Seq > SeqMax:
		return nil, fmt.Errorf("%w: sequence %d, 1 to %d are allowed", ErrRecord, r.Seq, uint64(SeqMax))
	case r.Kind >= kindEnd || w>>24 != 0:
		return nil, fmt.Errorf("%w: kind %d, known are 0 to %d", ErrRecord, w>>16, kindEnd-1)
	case r.DeadlineUnixMs < 0:
		return nil, fmt.Errorf("%w: deadline %d", ErrRecord, r.DeadlineUnixMs)
	}
	return rec[OutRequestBytes:], nil
}

// GiveUp marks the message as given up; see FlagGivenUp.
func (r *OutRequest) GiveUp(maybe bool) {
	r.Flags = r.Flags&^FlagMaybeRepeat | FlagGivenUp
	if maybe {
		r.Flags |= FlagMaybeRepeat
	}
}

// Again marks a message that another process of the node reads once more: the
// one before may have delivered it. What that one gave up stays as it left it.
func (r *OutRequest) Again() {
	if r.Flags&FlagGivenUp == 0 {
		r.Flags |= FlagMaybeRepeat
	}
}

// OutReply is a record of the reply ring from a program to its node:
//
//	0 seq u64  8 toNode u64  16 toSession [16]
//	32 toSeq u64  40 deadlineUnixMs i64  48 payload
type OutReply struct {
	Seq            uint64 // 1, 2, 3 ... per session, counted apart from requests
	ToNode         ring.ID
	ToSession      SessionID
	ToSeq          uint64 // sequence of the request that it answers
	DeadlineUnixMs int64  // 0 = none
}

// Put encodes the fixed part into b, which must hold OutReplyBytes. It does not allocate.
func (r *OutReply) Put(b []byte) {
	_ = b[OutReplyBytes-1]
	le := binary.LittleEndian
	le.PutUint64(b[0:], r.Seq)
	le.PutUint64(b[8:], uint64(r.ToNode))
	copy(b[16:32], r.ToSession[:])
	le.PutUint64(b[32:], r.ToSeq)
	le.PutUint64(b[40:], uint64(r.DeadlineUnixMs))
}

// Get decodes a record and returns its payload, which aliases rec; see OutRequest.Get.
func (r *OutReply) Get(rec []byte) (payload []byte, err error) {
	if len(rec) < OutReplyBytes {
		return nil, tooShort("reply of a program", len(rec), OutReplyBytes)
	}
	le := binary.LittleEndian
	r.Seq = le.Uint64(rec[0:])
	r.ToNode = ring.ID(le.Uint64(rec[8:]))
	copy(r.ToSession[:], rec[16:32])
	r.ToSeq = le.Uint64(rec[32:])
	r.DeadlineUnixMs = int64(le.Uint64(rec[40:]))
	if r.Seq == 0 || r.Seq > SeqMax || r.ToSeq == 0 || r.ToNode == 0 || r.ToSession == (SessionID{}) || r.DeadlineUnixMs < 0 {
		return nil, fmt.Errorf("%w: reply %d to request %d of session %v on node %v", ErrRecord, r.Seq, r.ToSeq, r.ToSession, r.ToNode)
	}
	return rec[OutReplyBytes:], nil
}

// InRequest is a record of the request ring from a node to a program:
//
//	0 seq u64  8 hash u64  16 from u64  24 session [16]
//	40 deadlineUnixMs i64  48 flags u16  50 kind u8  51 zero [5]  56 payload
type InRequest struct {
	Seq            uint64 // in the sender's session
	Hash           uint64
	From           ring.ID   // node of the sender
	Session        SessionID // of the sender
	DeadlineUnixMs int64     // 0 = none
	Flags          Flags
	Kind           Kind
}

// Put encodes the fixed part into b, which must hold InRequestBytes. It does not allocate.
func (r *InRequest) Put(b []byte) {
	_ = b[InRequestBytes-1]
	le := binary.LittleEndian
	le.PutUint64(b[0:], r.Seq)
	le.PutUint64(b[8:], r.Hash)
	le.PutUint64(b[16:], uint64(r.From))
	copy(b[24:40], r.Session[:])
	le.PutUint64(b[40:], uint64(r.DeadlineUnixMs))
	le.PutUint64(b[48:], uint64(r.Flags)|uint64(r.Kind)<<16)
}

// Get decodes a record and returns its payload, which aliases rec; see OutRequest.Get.
func (r *InRequest) Get(rec []byte) (payload []byte, err error) {
	if len(rec) < InRequestBytes {
		return nil, tooShort("request from the node", len(rec), InRequestBytes)
	}
	le := binary.LittleEndian
	r.Seq = le.Uint64(rec[0:])
	r.Hash = le.Uint64(rec[8:])
	r.From = ring.ID(le.Uint64(rec[16:]))
	copy(r.Session[:], rec[24:40])
	r.DeadlineUnixMs = int64(le.Uint64(rec[40:]))
	w := le.Uint64(rec[48:])
	r.Flags, r.Kind = Flags(w), Kind(w>>16)
	if r.Seq == 0 || r.Seq > SeqMax || r.From == 0 || r.DeadlineUnixMs < 0 || r.Kind >= kindEnd {
		return nil, fmt.Errorf("%w: request %d from node %v", ErrRecord, r.Seq, r.From)
	}
	return rec[InRequestBytes:], nil
}

// PutInReply encodes the fixed part of a record of the reply ring from a node
// to a program into b, which must hold InReplyBytes: the sequence u64 of the
// request that is answered. The payload follows.
func PutInReply(b []byte, seq uint64) { binary.LittleEndian.PutUint64(b[:InReplyBytes], seq) }

// GetInReply decodes a record that begins with PutInReply; the payload aliases rec.
func GetInReply(rec []byte) (seq uint64, payload []byte, err error) {
	if len(rec) < InReplyBytes {
		return 0, nil, tooShort("reply from the node", len(rec), InReplyBytes)
	}
	if seq = binary.LittleEndian.Uint64(rec); seq == 0 {
		return 0, nil, fmt.Errorf("%w: reply to request 0", ErrRecord)
	}
	return seq, rec[InReplyBytes:], nil
}

// ControlType says what a Control record means.
type ControlType uint8

// The types of control records. The comments say what Value holds, and Detail
// where it is not zero.
const (
	ControlRequestFailed ControlType = iota + 1 // to the program: the request with sequence Value was taken by a server, or by a program, that ended before it replied
	ControlBye                                  // both ways: the sender ends this attachment in order; Value 0
	ControlServing                              // to the program: Value servers are in service
	ControlSettled                              // to the program: the message with sequence Value, which had FlagWantsSettled, was taken by every receiver; written before its room in the out-ring is released
	ControlUndelivered                          // to the program: the message with sequence Value was given up at its deadline; Detail 1: a server program may have taken it; written before its room is released
	ControlReceivers                            // to the program: the KindReplicate or KindBroadcast message with sequence Value goes to Detail servers
	controlEnd
)

// Control is a record of the control rings, of fixed size:
//
//	0 type u8  1 zero [3]  4 detail u32  8 value u64
type Control struct {
	Type   ControlType
	Detail uint32
	Value  uint64
}

// Put encodes the record into b, which must hold ControlBytes. It does not allocate.
func (c Control) Put(b []byte) {
	_ = b[ControlBytes-1]
	binary.LittleEndian.PutUint64(b[0:], uint64(c.Type)|uint64(c.Detail)<<32)
	binary.LittleEndian.PutUint64(b[8:], c.Value)
}

// Get decodes a record. It does not allocate unless it fails.
func (c *Control) Get(rec []byte) error {
	if len(rec) != ControlBytes {
		return fmt.Errorf("%w: control record of %d bytes, expected %d", ErrRecord, len(rec), ControlBytes)
	}
	w := binary.LittleEndian.Uint64(rec[0:])
	t := uint32(w)
	c.Type, c.Detail, c.Value = ControlType(t), uint32(w>>32), binary.LittleEndian.Uint64(rec[8:])
	if t == 0 || t >= uint32(controlEnd) {
		return fmt.Errorf("%w: control type %d, known are 1 to %d", ErrRecord, t, controlEnd-1)
	}
	return nil
}

func tooShort(what string, n, least int) error {
	return fmt.Errorf("%w: %s of %d bytes, at least %d expected", ErrRecord, what, n, least)
}
