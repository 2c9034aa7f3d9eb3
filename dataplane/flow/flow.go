// Package flow is the delivery core of a node: the rules by which messages
// reach the acting owner of their hash at least once and in order, whatever
// links, programs and nodes do meanwhile (the delivery contract).
//
// It is pure: events come in as method calls, effects go out through Ports;
// no goroutine, no clock, no randomness, no I/O. A Core is not safe for
// concurrent use; its owner serialises the calls. Time is passed in as
// nanoseconds of any monotonic clock.
package flow

import (
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Window is how many sequences past the oldest unsettled one a session may use.
const Window = 1024

// Stream tells the two kinds of records that a program hands to its node.
type Stream uint8

// The streams of a session.
const (
	Requests Stream = iota // messages, in sequence
	Replies                // answers to requests, unordered
)

// Record describes one record read from a program's out-ring. The payload
// stays in the ring; Position finds it again for every transmission.
type Record struct {
	Seq        uint64    // given by the library: 1, 2, 3 ... per session and stream; gaps are allowed, going back is not
	Position   uint64    // cursor of the record in the out-ring
	End        uint64    // cursor just past the record
	Hash       uint64    // Requests: the hash
	Size       uint32    // payload bytes
	Kind       wire.Kind // Requests: whom to
	Flags      wire.Flags
	DeadlineNs int64 // 0 = none

	// Replies only: whom to.
	ToNode    ring.ID
	ToSession wire.SessionID
	ToSeq     uint64
}

// Delivery is one message or reply for a program of this node.
type Delivery struct {
	Stream     Stream
	From       ring.ID        // node of the sender
	Session    wire.SessionID // Requests: the sender's session; Replies: zero
	Seq        uint64         // Requests: the message's; Replies: the asker's
	Hash       uint64
	Kind       wire.Kind
	Flags      wire.Flags
	DeadlineMs uint32
	Payload    []byte // valid only during the call
	TooLarge   bool   // set by Deliver, with ok false: the ring could not hold it if it were empty
}

// Ports is what a Core asks of the node around it. Calls must not block and
// must not call back into the Core.
type Ports interface {
	// Transmit queues a frame without payload for the peer. It is used for
	// acknowledgements and refusals, whose number the windows bound: the link
	// takes it always, or is being torn down and the frame is lost with it.
	// urgent false lets the frame wait for others, at most 1 ms.
	Transmit(p *Peer, h *wire.Header, urgent bool)
	// TransmitRecord queues a frame with the payload of a record of s.
	// It reports false when the link has no room: the core tries again after PeerRoom.
	TransmitRecord(p *Peer, h *wire.Header, s *Session, st Stream, r *Record) bool
	// Deliver puts a record into a program's in-ring. end is the cursor that
	// the program's head reaches once it has taken the record (see Core.Taken).
	// ok false: no room; the core tries nothing again by itself.
	Deliver(s *Session, d *Delivery) (end uint64, ok bool)
	// Settled says that every record of the stream up to the cursor end may be
	// forgotten: the out-ring's head may advance to it.
	Settled(s *Session, st Stream, end uint64)
	// Outcome tells what became of a message, before Settled for it. delivered:
	// every receiver has taken it; called only with FlagWantsSettled. Not
	// delivered: it was given up, at its deadline or because no receiver was
	// there or stayed; maybe says that a program may have taken it. The owner then
	// notes both in the ring (FlagGivenUp), before it tells the program: until the
	// record is released it may come back, through another process even, and must
	// not be sent.
	Outcome(s *Session, r *Record, delivered, maybe bool)
	// Receivers tells to how many servers a message of KindReplicate or
	// KindBroadcast goes; called once, when they are chosen: not if the deadline
	// passes before there is a table.
	Receivers(s *Session, seq uint64, n int)
	// RequestFailed tells the program that no reply comes to the request with
	// this sequence: who took it ended before it replied.
	RequestFailed(s *Session, seq uint64)
	// StandIn wants a note on disk that this node stands in for p, which has this
	// incarnation. StandInNoted tells how that went.
	StandIn(p *Peer, inc ring.Incarnation)
	// AskStandIn asks deputy, which is another node, whether it stands in for p
	// (StandInAsked there), under the epoch of the present table. It may be lost.
	AskStandIn(deputy, p *Peer)
	// StandInEnded says that this node does not stand in for p any more. What programs
	// hold for it may be displaced.
	StandInEnded(p *Peer)
	// PullTable asks the peer for its table, which is newer than this node's.
	PullTable(p *Peer)
	// SessionEnded says that a detached session has nothing left: its segment may be freed.
	SessionEnded(s *Session)
}
