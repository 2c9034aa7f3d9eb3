package ring

import (
	"encoding/base64"
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// slotSetMax bounds the slots of a set, whoever wrote it.
const slotSetMax = 1 << 20

// SlotSet is a set of slots: of the hashes that leave certain remainders when
// divided by Slots. That number is the set's own. While a merge changes the
// number of slots of a ring it is a multiple of both numbers, so that each slot
// of the set lies in one slot before the merge and in one after it.
//
// Build it with NewSlotSet and Add; once shared it must not change.
type SlotSet struct {
	slots int
	bits  []uint64
	n     int
}

// NewSlotSet returns an empty set over slots 0 to slots-1.
func NewSlotSet(slots int) *SlotSet {
	return &SlotSet{slots: slots, bits: make([]uint64, (slots+63)/64)}
}

// Add puts a slot, which must be within the set's range, into the set.
func (s *SlotSet) Add(slot int) {
	if !s.Has(slot) {
		s.bits[slot/64] |= 1 << (slot % 64)
		s.n++
	}
}

// Has reports whether the set holds the slot. A nil set is empty.
func (s *SlotSet) Has(slot int) bool {
	return s != nil && slot >= 0 && slot < s.slots && s.bits[slot/64]&(1<<(slot%64)) != 0
}

// HasHash reports whether the set holds the slot of the hash. A nil set is empty.
func (s *SlotSet) HasHash(hash uint64) bool {
	return s != nil && s.slots > 0 && s.Has(int(hash%uint64(s.slots)))
}

// AddAll puts every slot of o, which is nil or of the same range, into the set.
func (s *SlotSet) AddAll(o *SlotSet) {
	if o == nil {
		return
	}
	s.n = 0
	for i, w := range o.bits {
		s.bits[i] |= w
		s.n += bits.OnesCount64(s.bits[i])
	}
}

// All returns the slots of the set in ascending order. A nil set is empty.
func (s *SlotSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		if s == nil {
			return
		}
		for i, w := range s.bits {
			for ; w != 0; w &= w - 1 {
				if !yield(64*i + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Len returns how many slots the set holds.
func (s *SlotSet) Len() int {
	if s == nil {
		return 0
	}
	return s.n
}

// Slots returns the range of the set: slots 0 to Slots()-1 may be in
// it, and a hash is in slot hash modulo Slots().
func (s *SlotSet) Slots() int {
	if s == nil {
		return 0
	}
	return s.slots
}

// MarshalText encodes the set as "range:base64 of its bits".
func (s *SlotSet) MarshalText() ([]byte, error) {
	raw := make([]byte, (s.slots+7)/8)
	for i := range raw {
		raw[i] = byte(s.bits[i/8] >> (8 * (i % 8)))
	}
	return []byte(strconv.Itoa(s.slots) + ":" + base64.RawStdEncoding.EncodeToString(raw)), nil
}

// UnmarshalText decodes what MarshalText made. It returns ErrTable for
// anything else.
func (s *SlotSet) UnmarshalText(b []byte) error {
	count, body, ok := strings.Cut(string(b), ":")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 0 || n > slotSetMax {
		return fmt.Errorf("%w: slot set of %q slots, 0 to %d allowed", ErrTable, count, slotSetMax)
	}
	raw, err := base64.RawStdEncoding.DecodeString(body)
	if err != nil || len(raw) != (n+7)/8 {
		return fmt.Errorf("%w: slot set of %d slots in %d bytes", ErrTable, n, len(raw))
	}
	d := NewSlotSet(n)
	for i, v := range raw {
		d.bits[i/8] |= uint64(v) << (8 * (i % 8))
		d.n += bits.OnesCount8(v)
	}
	if n%8 != 0 && raw[len(raw)-1]>>(n%8) != 0 {
		return fmt.Errorf("%w: slot set holds slots past %d", ErrTable, n)
	}
	*s = *d
	return nil
}
