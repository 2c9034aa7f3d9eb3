package ring

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Hash is CHMPX's first hash: 64-bit FNV-1a in which each byte is taken as a
// signed char, so that bytes from 0x80 on differ from the textbook. An empty
// input hashes to 0.
func Hash(p []byte) uint64 {
	if len(p) == 0 {
		return 0
	}
	h := uint64(14695981039346656037)
	for _, b := range p {
		h ^= uint64(int64(int8(b)))
		h *= 1099511628211
	}
	return h
}

// SecondHash is CHMPX's second hash: Hash of the input without its last byte,
// or of the whole input when it has one byte only.
func SecondHash(p []byte) uint64 {
	if len(p) > 1 {
		p = p[:len(p)-1]
	}
	return Hash(p)
}

// IDType says what a chmpxid is computed from (CHMPXIDTYPE).
type IDType uint8

// The values of CHMPXIDTYPE.
const (
	IDByName IDType = iota
	IDByCUK
	IDByCtlEndpoints
	IDByCustom
)

// ErrIDType is wrapped by ParseIDType.
var ErrIDType = errors.New("ring: unknown CHMPXIDTYPE")

// ParseIDType reads a value of CHMPXIDTYPE, in any case. CTLEPS is an alias of CTLENDPOINTS.
func ParseIDType(s string) (IDType, error) {
	switch strings.ToUpper(s) {
	case "NAME":
		return IDByName, nil
	case "CUK":
		return IDByCUK, nil
	case "CTLENDPOINTS", "CTLEPS":
		return IDByCtlEndpoints, nil
	case "CUSTOM":
		return IDByCustom, nil
	}
	return 0, fmt.Errorf("%w %q: NAME, CUK, CTLENDPOINTS and CUSTOM are allowed", ErrIDType, s)
}

// String returns the value as configuration files write it.
func (t IDType) String() string {
	switch t {
	case IDByName:
		return "NAME"
	case IDByCUK:
		return "CUK"
	case IDByCtlEndpoints:
		return "CTLENDPOINTS"
	case IDByCustom:
		return "CUSTOM"
	}
	return "IDType(" + strconv.Itoa(int(t)) + ")"
}

// seed returns the text that ids of a node are hashed from, "" if a part is missing.
func seed(group string, t IDType, n Identity) string {
	part := n.Name + ":" + strconv.FormatUint(uint64(n.CtlPort), 16)
	switch {
	case t == IDByCUK:
		part = n.CUK
	case t == IDByCustom:
		part = n.CustomSeed
	case t == IDByCtlEndpoints && n.CtlEndpoints != "":
		part = n.CtlEndpoints
	case n.Name == "":
		return ""
	}
	if group == "" || part == "" {
		return ""
	}
	return group + ":" + part
}

// NodeID computes a chmpxid as CHMPX does: the low halves of both hashes of
// the seed. It is 0 when the group, the name or what the type needs is empty.
func NodeID(group string, t IDType, n Identity) ID {
	s := seed(group, t, n)
	if s == "" || n.Name == "" {
		return 0
	}
	id := ID(Hash([]byte(s))<<32 | SecondHash([]byte(s))&0xffffffff)
	if id == ^ID(0) { // CHMPX's "invalid id"
		id--
	}
	return id
}

// BaseMessageID is CHMPX's base of message-queue ids, shown in dumps. Unlike
// NodeID it does not need a name for the types CUK and CUSTOM.
func BaseMessageID(group string, t IDType, n Identity) uint64 {
	s := seed(group, t, n)
	if s == "" {
		return 0
	}
	return Hash([]byte(s)) << 32
}

// Less is the ring order: byte-wise by name, control port, CUK, custom seed;
// with CUSTOM the seed comes first. Ports are in the order of their numbers;
// CHMPX, which cannot use ports above 32767, would take those for negative.
func Less(t IDType, a, b Identity) bool {
	if t == IDByCustom && a.CustomSeed != b.CustomSeed {
		return a.CustomSeed < b.CustomSeed
	}
	switch {
	case a.Name != b.Name:
		return a.Name < b.Name
	case a.CtlPort != b.CtlPort:
		return a.CtlPort < b.CtlPort
	case a.CUK != b.CUK:
		return a.CUK < b.CUK
	}
	return a.CustomSeed < b.CustomSeed
}
