package ring

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
)

// Limits of what is decoded.
const (
	slotsMax      = 1 << 20
	ownersMax     = 1 << 22 // slots x width
	widthMax      = 64
	tableJSONMax  = 1 << 20
	deltaVersion  = 1
	tableVersion  = 1
	tableHeadSize = 9 // magic, version, length of the JSON part
)

var tableMagic = [4]byte{'C', 'H', 'M', 'T'}

// Equal reports whether a and b name the same owners in the same state.
func (a *Assignment) Equal(b *Assignment) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Width == b.Width && slices.Equal(a.Owners, b.Owners) && slices.Equal(a.InSync, b.InSync)
}

// Delta encodes what makes a of base: a version byte, slots, width, then runs
// of (slots that stay, slots that change, their owners and in-sync bits), all
// as unsigned varints. base may be nil or of another shape: everything changes.
func (a *Assignment) Delta(base *Assignment) []byte {
	b := []byte{deltaVersion}
	b = binary.AppendUvarint(b, uint64(a.Slots()))
	b = binary.AppendUvarint(b, uint64(a.Width))
	same := func(slot int) bool {
		return base != nil && base.Width == a.Width && base.Slots() == a.Slots() && base.InSync[slot] == a.InSync[slot] &&
			slices.Equal(base.Owners[slot*a.Width:(slot+1)*a.Width], a.Owners[slot*a.Width:(slot+1)*a.Width])
	}
	for slot := 0; slot < a.Slots(); {
		from := slot
		for slot < a.Slots() && same(slot) {
			slot++
		}
		begin := slot
		for slot < a.Slots() && !same(slot) {
			slot++
		}
		b = binary.AppendUvarint(b, uint64(begin-from))
		b = binary.AppendUvarint(b, uint64(slot-begin))
		for s := begin; s < slot; s++ {
			for _, n := range a.Owners[s*a.Width : (s+1)*a.Width] {
				b = binary.AppendUvarint(b, uint64(n+1)) // NoServer is 0
			}
			b = binary.AppendUvarint(b, a.InSync[s])
		}
	}
	return b
}

// varints reads unsigned varints; bad is set once the input is wrong.
type varints struct {
	b   []byte
	bad bool
}

func (v *varints) next(limit uint64) uint64 {
	x, n := binary.Uvarint(v.b)
	if n <= 0 || x > limit {
		v.bad, v.b = true, nil
		return 0
	}
	v.b = v.b[n:]
	return x
}

// ApplyDelta returns base changed by delta, which Delta made against an equal
// base. It returns ErrTable for anything else and never panics.
func ApplyDelta(base *Assignment, delta []byte) (*Assignment, error) {
	if len(delta) == 0 || delta[0] != deltaVersion {
		return nil, fmt.Errorf("%w: unknown version of a delta", ErrTable)
	}
	v := &varints{b: delta[1:]}
	slots, width := int(v.next(slotsMax)), int(v.next(widthMax))
	if v.bad || slots == 0 || width == 0 || slots*width > ownersMax {
		return nil, fmt.Errorf("%w: delta of %d slots, %d owners each", ErrTable, slots, width)
	}
	var a *Assignment
	fits := base != nil && base.Width == width && base.Slots() == slots
	switch {
	case fits:
		a = base.Clone()
	case len(v.b) < slots*(width+1): // before anything is allocated for them
		return nil, fmt.Errorf("%w: delta of %d slots, %d owners each, in %d bytes", ErrTable, slots, width, len(v.b))
	default:
		a = NewAssignment(slots, width)
	}
	for slot := 0; slot < slots; {
		stay, change := int(v.next(uint64(slots-slot))), int(v.next(uint64(slots-slot)))
		if v.bad || stay+change == 0 || stay+change > slots-slot || stay > 0 && !fits {
			return nil, fmt.Errorf("%w: delta does not fit its base at slot %d", ErrTable, slot)
		}
		slot += stay
		for end := slot + change; slot < end; slot++ {
			for k := range width {
				a.Owners[slot*width+k] = uint16(v.next(uint64(NoServer))) - 1
			}
			a.InSync[slot] = v.next(^uint64(0))
			if v.bad || !a.wellFormed(slot) {
				return nil, fmt.Errorf("%w: delta has impossible owners for slot %d", ErrTable, slot)
			}
		}
	}
	if len(v.b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after a delta", ErrTable, len(v.b))
	}
	return a, nil
}

// wellFormed reports whether a slot's owners are distinct, come before the
// unused places, and whether only they are marked in sync.
func (a *Assignment) wellFormed(slot int) bool {
	o := a.Of(slot)
	for i, n := range a.Owners[slot*a.Width : (slot+1)*a.Width] {
		if (n == NoServer) != (i >= len(o)) || i < len(o) && slices.Contains(o[:i], n) {
			return false
		}
	}
	return a.InSync[slot]>>len(o) == 0
}

// tableJSON is the part of a table that is not its assignment.
type tableJSON struct {
	Epoch   Epoch    `json:"epoch"`
	Version uint64   `json:"version"`
	RingID  uint64   `json:"ring_id"`
	Group   string   `json:"group"`
	Random  bool     `json:"random,omitempty"`
	NoMerge bool     `json:"no_merge,omitempty"` // versions before do not have it, and read over it
	Servers []Server `json:"servers"`
	HasBase bool     `json:"has_base"`
}

// MarshalBinary encodes the table for links and for disk:
// "CHMT", version u8, length u32 and JSON of the head, delta of the base
// assignment, CRC-32C u32; integers are little-endian.
func (t *Table) MarshalBinary() ([]byte, error) {
	j, err := json.Marshal(tableJSON{
		Epoch: t.Epoch, Version: t.Version, RingID: t.RingID, Group: t.Group, Random: t.Random, NoMerge: t.NoMerge,
		Servers: t.Servers, HasBase: t.Base != nil,
	})
	if err != nil {
		return nil, fmt.Errorf("encode table: %w", err)
	}
	b := append(tableMagic[:], tableVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(j)))
	b = append(b, j...)
	if t.Base != nil {
		b = append(b, t.Base.Delta(nil)...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), nil
}

// UnmarshalTable decodes what MarshalBinary made and checks it. It returns
// ErrTable for anything else and never panics.
func UnmarshalTable(b []byte) (*Table, error) {
	if len(b) < tableHeadSize+4 || [4]byte(b) != tableMagic || b[4] != tableVersion {
		return nil, fmt.Errorf("%w: not a table, or of an unknown version", ErrTable)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, fmt.Errorf("%w: checksum differs", ErrTable)
	}
	n := binary.LittleEndian.Uint32(b[5:])
	rest := body[tableHeadSize:]
	if n > tableJSONMax || int(n) > len(rest) {
		return nil, fmt.Errorf("%w: head of %d bytes, %d are there", ErrTable, n, len(rest))
	}
	var j tableJSON
	if err := json.Unmarshal(rest[:n], &j); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	t := Table{Epoch: j.Epoch, Version: j.Version, RingID: j.RingID, Group: j.Group, Random: j.Random, NoMerge: j.NoMerge, Servers: j.Servers}
	switch rest = rest[n:]; {
	case j.HasBase:
		base, err := ApplyDelta(nil, rest)
		if err != nil {
			return nil, err
		}
		t.Base = base
	case len(rest) != 0:
		return nil, fmt.Errorf("%w: %d bytes after the head", ErrTable, len(rest))
	}
	return NewTable(t)
}
