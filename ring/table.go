package ring

import (
	"errors"
	"fmt"
	"math"
)

// DefaultSlots is the number of slots of PLACEMENT=slots.
const DefaultSlots = 16384

// NoServer stands for "no server" wherever a server number is stored.
const NoServer = ^uint16(0)

// ErrTable is wrapped by every error about an impossible or corrupt table.
var ErrTable = errors.New("ring: invalid table")

// Identity is what a node's chmpxid is computed from (see NodeID).
type Identity struct {
	Name         string `json:"name"`
	CtlPort      uint16 `json:"ctlport"`
	CUK          string `json:"cuk,omitempty"`
	CtlEndpoints string `json:"ctlendpoints,omitempty"` // "host:port,host:port" in configuration order
	CustomSeed   string `json:"custom_seed,omitempty"`
}

// Server is one member of the ring as the table shows it.
type Server struct {
	ID          ID          `json:"id"`
	Number      uint16      `json:"number"` // stable within the ring, never given twice; slots name owners by it
	Identity                // name, control port, ...
	Addr        string      `json:"addr"` // host:port of PORT, resolved when dialled
	Status      Status      `json:"status"`
	Incarnation Incarnation `json:"incarnation"`
	BaseHash    int32       `json:"base_hash"`    // dense index among the base servers, -1 = none
	PendingHash int32       `json:"pending_hash"` // dense index among the pending servers, -1 = none
	StatusTime  int64       `json:"status_time"`  // unix microseconds of the last status change
	// Held: it is DOWN for a planned restart, and nobody acts for a slot that it owns
	// in sync until it is back or the time for it is over.
	Held bool `json:"held,omitempty"`
}

// Assignment says who owns each slot: Width owners a slot, in order of
// preference, by server number. Unused places hold NoServer and come last.
type Assignment struct {
	Width  int      // owners per slot = REPLICA+1, 1 to 64
	Owners []uint16 // slot i owns Owners[i*Width : (i+1)*Width]
	// InSync has bit k of entry i set when owner k of slot i holds its data.
	InSync []uint64
}

// Slots returns the number of slots.
func (a *Assignment) Slots() int { return len(a.InSync) }

// Of returns the owners of a slot, by number, without the unused places.
// The slice aliases a.
func (a *Assignment) Of(slot int) []uint16 {
	o := a.Owners[slot*a.Width : (slot+1)*a.Width]
	for i, n := range o {
		if n == NoServer {
			return o[:i]
		}
	}
	return o
}

// Clone returns a deep copy.
func (a *Assignment) Clone() *Assignment {
	return &Assignment{
		Width:  a.Width,
		Owners: append([]uint16(nil), a.Owners...),
		InSync: append([]uint64(nil), a.InSync...),
	}
}

// NewAssignment returns an assignment of slots without owners.
func NewAssignment(slots, width int) *Assignment {
	a := &Assignment{Width: width, Owners: make([]uint16, slots*width), InSync: make([]uint64, slots)}
	for i := range a.Owners {
		a.Owners[i] = NoServer
	}
	return a
}

// Table is the immutable routing truth of one epoch: who is in the ring and
// who acts for each slot. Build it with NewTable or UnmarshalTable.
type Table struct {
	Epoch   Epoch
	Version uint64   // log index of the last entry that changed anything shown here
	RingID  uint64   // drawn when the ring was bootstrapped
	Group   string   // GROUP of the configuration
	Random  bool     // DELIVERMODE=random: messages go round the serving servers, whatever their hash
	NoMerge bool     // DOMERGE=off: servers keep no data, and none is ever behind
	Servers []Server // in ring order (see Less); do not modify
	Base    *Assignment

	acting   []int16    // slot -> index into Servers, -1 = nobody
	serving  []int      // see Serving
	byID     map[ID]int // id -> index into Servers
	byNumber []int16    // number -> index into Servers, -1 = unknown; a slice, for it is read for each slot
}

// NewTable checks the parts and computes the acting owner of every slot. base
// may be nil: a ring in which nobody is in service yet. The table takes
// ownership of its arguments.
func NewTable(t Table) (*Table, error) {
	if len(t.Servers) > math.MaxInt16 {
		return nil, fmt.Errorf("%w: %d servers, at most %d allowed", ErrTable, len(t.Servers), math.MaxInt16)
	}
	t.byID = make(map[ID]int, len(t.Servers))
	t.byNumber = nil
	for i := range t.Servers {
		s := &t.Servers[i]
		if _, dup := t.byID[s.ID]; dup || s.ID == 0 {
			return nil, fmt.Errorf("%w: server id %v is zero or listed twice", ErrTable, s.ID)
		}
		if s.Number == NoServer || t.indexOfNumber(s.Number) >= 0 {
			return nil, fmt.Errorf("%w: server number %d is reserved or listed twice", ErrTable, s.Number)
		}
		for len(t.byNumber) <= int(s.Number) {
			t.byNumber = append(t.byNumber, -1)
		}
		t.byID[s.ID], t.byNumber[s.Number] = i, int16(i)
	}
	if err := t.computeActing(); err != nil {
		return nil, err
	}
	return &t, nil
}

// computeActing finds the acting owner of every slot, and who serves.
func (t *Table) computeActing() error {
	b := t.Base
	if b == nil {
		return nil
	}
	if b.Width < 1 || b.Width > 64 || b.Slots() == 0 || len(b.Owners) != b.Slots()*b.Width {
		return fmt.Errorf("%w: %d owners for %d slots of width %d", ErrTable, len(b.Owners), b.Slots(), b.Width)
	}
	t.acting = make([]int16, b.Slots())
	owns, holds := make([]bool, len(t.Servers)), make([]bool, len(t.Servers))
	for slot := range t.acting {
		t.acting[slot] = -1
		held := false
		for k, n := range b.Of(slot) {
			i := t.indexOfNumber(n)
			if i < 0 {
				return fmt.Errorf("%w: slot %d is owned by unknown server number %d", ErrTable, slot, n)
			}
			owns[i] = true
			if b.InSync[slot]&(1<<k) == 0 {
				continue
			}
			holds[i] = true
			held = held || t.Servers[i].Held
			if t.acting[slot] < 0 && t.Servers[i].Status.CanAct() {
				t.acting[slot] = int16(i)
			}
		}
		if held {
			t.acting[slot] = -1
		}
	}
	for i := range t.Servers {
		if t.Servers[i].Status.CanAct() && (holds[i] || !owns[i]) {
			t.serving = append(t.serving, i)
		}
	}
	return nil
}

// Slot returns the slot of a hash, -1 when nobody is in service.
func (t *Table) Slot(hash uint64) int {
	if len(t.acting) == 0 {
		return -1
	}
	return int(hash % uint64(len(t.acting)))
}

// Acting returns the index into Servers of the acting owner of a hash, -1 when
// there is none. It does not allocate.
func (t *Table) Acting(hash uint64) int {
	if t == nil || len(t.acting) == 0 {
		return -1
	}
	return int(t.acting[hash%uint64(len(t.acting))])
}

// ActingSlot is Acting for a slot number.
func (t *Table) ActingSlot(slot int) int {
	if t == nil || slot < 0 || slot >= len(t.acting) {
		return -1
	}
	return int(t.acting[slot])
}

// Owners appends to dst the indexes into Servers of every server that gets a
// message replicated by this hash: the owners of its slot that may act and are
// in sync, in their order, so that the first one is the acting owner. It
// appends nothing when there is none or one is waited for (Waits), and does not
// allocate when dst has room for REPLICA+1 indexes.
func (t *Table) Owners(hash uint64, dst []int) []int {
	if t == nil || len(t.acting) == 0 || t.Waits(hash) {
		return dst
	}
	slot := int(hash % uint64(len(t.acting)))
	for k, n := range t.Base.Of(slot) {
		if i := t.indexOfNumber(n); t.Base.InSync[slot]&(1<<k) != 0 && t.Servers[i].Status.CanAct() {
			dst = append(dst, i)
		}
	}
	return dst
}

// Waits reports whether nobody acts for a hash because one of its owners is
// held: it is back soon, and what is sent to the owners waits for it.
func (t *Table) Waits(hash uint64) bool {
	return t != nil && len(t.acting) > 0 && t.WaitsSlot(t.Slot(hash))
}

// WaitsSlot is Waits for one of the table's slots.
func (t *Table) WaitsSlot(slot int) bool {
	for k, n := range t.Base.Of(slot) {
		if t.Base.InSync[slot]&(1<<k) != 0 && t.Servers[t.indexOfNumber(n)].Held {
			return true
		}
	}
	return false
}

// Everyone appends to dst the indexes into Servers of every server that gets a
// broadcast: those of Serving. It does not allocate when dst has room for them.
func (t *Table) Everyone(dst []int) []int { return append(dst, t.Serving()...) }

// Serving returns the indexes into Servers, in ring order, of the servers that
// may be given messages without regard to a hash: they may act, and do not
// lack the data of all that they own. The slice is shared: do not change it.
func (t *Table) Serving() []int {
	if t == nil {
		return nil
	}
	return t.serving
}

// Index returns the position in Servers of the server with this id, -1 if it is not a member.
func (t *Table) Index(id ID) int {
	if t == nil {
		return -1
	}
	if i, ok := t.byID[id]; ok {
		return i
	}
	return -1
}

// IndexOfNumber returns the position in Servers of the server with this number, -1 if unknown.
func (t *Table) IndexOfNumber(n uint16) int {
	if t == nil {
		return -1
	}
	return t.indexOfNumber(n)
}

func (t *Table) indexOfNumber(n uint16) int {
	if int(n) < len(t.byNumber) {
		return int(t.byNumber[n])
	}
	return -1
}

// Newer reports whether t should replace o on a node. A nil table is older than any.
func (t *Table) Newer(o *Table) bool {
	if o == nil || t == nil {
		return t != nil
	}
	if c := t.Epoch.Compare(o.Epoch); c != 0 {
		return c > 0
	}
	return t.Version > o.Version
}
