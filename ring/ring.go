// Package ring holds the facts that every node of a ring must compute alike:
// hashes, node ids, statuses, the placement of slots on servers, and the
// immutable Table that routes messages.
//
// It is pure: no clock, no randomness, no I/O, no goroutine. Values of this
// package are safe to share between goroutines once built; nothing here
// changes after construction.
package ring

import (
	"cmp"
	"fmt"
	"strconv"
)

// ID is a chmpxid: the 64-bit identity of a node, computed by NodeID.
// 0 means "no node".
type ID uint64

// String prints the id as CHMPX does: 16 lower-case hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// HexID is an ID, or another random number of 64 bits, that JSON has as ID
// prints it: many readers take numbers for floats, and round those above 2^53.
type HexID ID

// String prints the id as ID does, so %x would print its digits once more.
func (id HexID) String() string { return ID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id HexID) MarshalText() ([]byte, error) { return []byte(ID(id).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It takes hexadecimal digits.
func (id *HexID) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil {
		return fmt.Errorf("ring: %.20q is no id of up to 16 hexadecimal digits", text)
	}
	*id = HexID(n)
	return nil
}

// Incarnation names one admitted start of a server process: the log index of
// the NodeUp entry that admitted it. 0 means "never admitted".
type Incarnation uint64

// Epoch names a table: the era of the ring (raised only by disaster recovery)
// and the log index of the last entry that changed who owns what. The zero
// Epoch is older than every other.
type Epoch struct {
	Era   uint32 `json:"era"`
	Index uint64 `json:"index"`
}

// Compare returns -1, 0 or +1 as e is older than, equal to or newer than o.
func (e Epoch) Compare(o Epoch) int {
	if c := cmp.Compare(e.Era, o.Era); c != 0 {
		return c
	}
	return cmp.Compare(e.Index, o.Index)
}

// String prints the epoch as era.index.
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Era, e.Index) }

// LinkState is what a server observes of another server through its own data link.
type LinkState uint8

// The states of a link, as evidence for the verdict about a server.
const (
	LinkUnknown LinkState = iota // nothing observed yet
	LinkAlive                    // connected and answering pings
	LinkRefused                  // the host refuses the connection: the process is dead
	LinkSilent                   // no answer for DOWNAFTER
)

// String returns the lower-case word used in status output.
func (s LinkState) String() string {
	switch s {
	case LinkAlive:
		return "alive"
	case LinkRefused:
		return "refused"
	case LinkSilent:
		return "silent"
	}
	return "unknown"
}

// Evidence is one observation that a server reports to the leader.
type Evidence struct {
	Peer        ID          `json:"peer"`
	Incarnation Incarnation `json:"incarnation"` // of the peer, as last seen in its hello, or in the table when it was dialled and refused; 0 if never seen
	State       LinkState   `json:"state"`
}

// StandIn is a server's note, on its disk, that it stands in for another one, or
// has: that one acts by the table of Epoch under Incarnation and was unreachable.
// Whoever collects the notes compares them with what the ring decided since.
type StandIn struct {
	For         ID          `json:"for"`
	Incarnation Incarnation `json:"incarnation"`
	RingID      uint64      `json:"ring_id,string"`
	Epoch       Epoch       `json:"epoch"`
	SinceUs     int64       `json:"since_us"` // unix microseconds
}
