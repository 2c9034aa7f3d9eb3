// Package wire encodes and decodes what travels: frames between nodes on data
// links, and the attach messages between a node and a program. It does no I/O
// and never panics, whatever the bytes.
package wire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/chmpx/chmpx/ring"
)

// SessionID names one attachment of one program. It is random, outlives the
// node and ends with the program. The zero value means "none".
type SessionID [16]byte

// String prints the id in hexadecimal.
func (s SessionID) String() string { return hex.EncodeToString(s[:]) }

// Type says what a frame is for.
type Type uint8

// The frame types. The comments name the header fields that a type uses
// besides Length and Type.
const (
	// TypeMessage carries a message: Kind, Flags, Session, Seq, Hash, Epoch, Attempt, LowDelta, PredDelta, DeadlineMs; payload.
	TypeMessage Type = iota + 1
	// TypeAck settles messages: Session, Seq (base), Hash (mask: bit i settles Seq+i).
	TypeAck
	// TypeLater refuses one transmission for now: Session, Seq, Attempt, Flags
	// (FlagMaybeRepeat: the refusing node may have forgotten that it took it;
	// FlagTooLarge: not for now but for good, its rings cannot hold it).
	TypeLater
	// TypeMoved refuses one transmission, the slot has another owner: Session,
	// Seq, Attempt, Flags (as Later), Epoch of the refusing node.
	TypeMoved
	// TypeRoom lifts an earlier Later: Session.
	TypeRoom
	// TypeBye says that a session has ended and everything is settled: Session.
	TypeBye
	// TypeReply carries a reply: Session (asker's), Hash (asker's Seq), Seq (reply's own), Attempt (stream, see ReplyAck), DeadlineMs; payload.
	TypeReply
	// TypeReplyAck settles replies: Attempt (stream that the Reply named), Seq (base), Hash (mask).
	TypeReplyAck
	// TypeReplyLater refuses a reply for now: Attempt (stream), Seq.
	TypeReplyLater
	// TypePing asks for a Pong: Epoch, Seq (bytes that a tunnel has carried). With
	// FlagStandIn it asks to stand in for the server whose id is Hash.
	TypePing
	// TypePong answers a Ping: Epoch, Seq (of the Ping). With FlagStandIn its sender
	// stands in for Hash.
	TypePong
	// TypeHello opens a link in each direction: Attempt (of the last tunnel that
	// its sender opened); payload is a Hello.
	TypeHello
	// TypeTableRequest asks for the peer's newest table: Epoch (of the asker).
	TypeTableRequest
	// TypeTable carries a table; payload is ring.Table's binary form.
	TypeTable
	// TypeRequestLost says that no reply comes to a request: the server program
	// that took it has ended, or its reply found no way. Session (asker's), Seq.
	// The asker's node sends it back when it knows.
	TypeRequestLost
	// TypeRelay carries a frame to a node that its sender has no link to: Seq
	// (id of the sender), Hash (id of the receiver), Attempt (number of the
	// tunnel, chosen by who opened it); payload is the frame, its header included.
	TypeRelay
	// TypeRelayBroken answers a Relay that cannot be passed on, and every later
	// one of that tunnel: Seq, Hash and Attempt as in the Relay. The end that gives
	// its tunnel up sends one, too.
	TypeRelayBroken

	typeEnd
)

// Kind says how a message finds its receiver.
type Kind uint8

// The kinds of messages.
const (
	KindHash      Kind = iota // to the acting owner of the hash
	KindRandom                // to any server in service, in turns; no order
	KindReplicate             // to every owner of the hash that is in service; no order
	KindBroadcast             // to every server in service; no order
	kindEnd
)

// Flags of a message.
type Flags uint16

// The flags of a message.
const (
	// FlagMaybeRepeat marks a message that a server program may have taken before.
	FlagMaybeRepeat Flags = 1 << iota
	// FlagWantsReply marks a request: its sender waits for a reply.
	FlagWantsReply
	// FlagWantsSettled marks a message whose program is to be told when it is
	// settled (ControlSettled). It does not travel between nodes.
	FlagWantsSettled
	// FlagWithoutSelf keeps a KindRandom, KindReplicate or KindBroadcast message
	// from the sender's own node. It does not travel between nodes.
	FlagWithoutSelf
	// FlagTooLarge is one of TypeLater and TypeReplyLater only.
	FlagTooLarge
	// FlagGivenUp is one of OutRequest only. The node sets it when it gives a
	// message up, before it says so: while the record has to wait for the room of
	// older ones, no later process may send what was told as not delivered. A
	// program that sets it itself has its message given up unsent.
	// FlagMaybeRepeat beside it says that a server program may have taken the
	// message, and does not change any more.
	FlagGivenUp
	// FlagStandIn says of a TypeMessage that its sender has no way to the acting
	// owner, for which this node stands in; TypePing and TypePong say that, too.
	FlagStandIn
)

// HeaderBytes is the size of an encoded Header.
const HeaderBytes = 64

// PayloadBytesMax bounds the payload of any frame but TypeRelay, which carries
// a header more: the largest table and the largest message that travels in one piece.
const PayloadBytesMax = 4 << 20

// ErrFrame is wrapped by every error about bytes that are no frame.
var ErrFrame = errors.New("wire: invalid frame")

// Header is the fixed part of every frame, 64 bytes, little-endian:
//
//	 0 length u32   payload bytes that follow
//	 4 type u8      5 kind u8       6 flags u16
//	 8 session [16]
//	24 seq u64     32 hash u64
//	40 epoch.index u64             48 epoch.era u32
//	52 attempt u32
//	56 lowDelta u16  58 predDelta u16
//	60 deadlineMs u32
type Header struct {
	Length  uint32
	Type    Type
	Kind    Kind
	Flags   Flags
	Session SessionID
	Seq     uint64
	Hash    uint64
	Epoch   ring.Epoch
	Attempt uint32
	// LowDelta is Seq minus the oldest unsettled sequence of the session (0 = this one is the oldest).
	LowDelta uint16
	// PredDelta is Seq minus the newest earlier unsettled sequence of the same session and hash; 0 = there is none.
	PredDelta uint16
	// DeadlineMs is what is left until the deadline when the frame is sent; 0 = none.
	DeadlineMs uint32
}

// Low returns the oldest unsettled sequence that the header names.
func (h *Header) Low() uint64 { return h.Seq - uint64(h.LowDelta) }

// Pred returns the sequence that must be taken before this one, 0 if none.
func (h *Header) Pred() uint64 {
	if h.PredDelta == 0 {
		return 0
	}
	return h.Seq - uint64(h.PredDelta)
}

// Put encodes the header into b, which must hold HeaderBytes. It does not allocate.
func (h *Header) Put(b []byte) {
	_ = b[HeaderBytes-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], h.Length)
	b[4], b[5] = byte(h.Type), byte(h.Kind)
	le.PutUint16(b[6:], uint16(h.Flags))
	copy(b[8:24], h.Session[:])
	le.PutUint64(b[24:], h.Seq)
	le.PutUint64(b[32:], h.Hash)
	le.PutUint64(b[40:], h.Epoch.Index)
	le.PutUint32(b[48:], h.Epoch.Era)
	le.PutUint32(b[52:], h.Attempt)
	le.PutUint16(b[56:], h.LowDelta)
	le.PutUint16(b[58:], h.PredDelta)
	le.PutUint32(b[60:], h.DeadlineMs)
}

// Get decodes a header from the first HeaderBytes of b and checks it: a known
// type and kind, a payload within PayloadBytesMax, deltas that do not reach
// below sequence 1. It does not allocate unless it fails.
func (h *Header) Get(b []byte) error {
	if len(b) < HeaderBytes {
		return fmt.Errorf("%w: %d bytes, a header has %d", ErrFrame, len(b), HeaderBytes)
	}
	le := binary.LittleEndian
	h.Length = le.Uint32(b[0:])
	h.Type, h.Kind = Type(b[4]), Kind(b[5])
	h.Flags = Flags(le.Uint16(b[6:]))
	copy(h.Session[:], b[8:24])
	h.Seq = le.Uint64(b[24:])
	h.Hash = le.Uint64(b[32:])
	h.Epoch = ring.Epoch{Era: le.Uint32(b[48:]), Index: le.Uint64(b[40:])}
	h.Attempt = le.Uint32(b[52:])
	h.LowDelta = le.Uint16(b[56:])
	h.PredDelta = le.Uint16(b[58:])
	h.DeadlineMs = le.Uint32(b[60:])
	switch {
	case h.Type == 0 || h.Type >= typeEnd:
		return fmt.Errorf("%w: type %d, known are 1 to %d", ErrFrame, h.Type, typeEnd-1)
	case h.Kind >= kindEnd:
		return fmt.Errorf("%w: kind %d, known are 0 to %d", ErrFrame, h.Kind, kindEnd-1)
	case h.Length > h.payloadBytesMax():
		return fmt.Errorf("%w: payload of %d bytes, at most %d allowed", ErrFrame, h.Length, h.payloadBytesMax())
	case h.Type == TypeMessage && (h.Seq == 0 || h.Seq > SeqMax || uint64(h.LowDelta) >= h.Seq || uint64(h.PredDelta) >= h.Seq):
		return fmt.Errorf("%w: sequence %d with low delta %d and predecessor delta %d", ErrFrame, h.Seq, h.LowDelta, h.PredDelta)
	}
	return nil
}

// payloadBytesMax bounds the payload: a relayed frame brings its own header.
func (h *Header) payloadBytesMax() uint32 {
	if h.Type == TypeRelay {
		return HeaderBytes + PayloadBytesMax
	}
	return PayloadBytesMax
}
