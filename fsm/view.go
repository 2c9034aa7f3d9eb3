package fsm

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// View is what a State shows after one entry. It is immutable: neither its
// receiver nor the State may change what it points to.
type View struct {
	Index  uint64 // log index of the last entry applied
	RingID uint64 // 0: no ring yet
	Era    uint32
	Group  string
	Params Params

	Table *ring.Table // nil before RingInit
	// Members has what the table does not show of Table.Servers[i].
	Members []Member
	// Pending is the pending assignment: what MergeCommit makes the base. nil:
	// none. Its in-sync bits are the planner's and mean nothing.
	Pending *ring.Assignment
	Merge   *ring.Merge // nil: nothing planned and nothing running
	// MergeTimeUs is the time in the entry that last changed the merge's phase.
	MergeTimeUs int64
	// Unsealed says that this merge was sealed and opened again.
	Unsealed bool
	// MergeHeld: ABORTMERGE or NOSUSPENDMERGE was the last word, so nothing
	// starts by itself before the next command or change of membership.
	MergeHeld    bool
	SuspendMerge bool // SUSPENDMERGE is on
	LevelUsed    int  // the highest feature level of an entry; 0 says 1

	Slaves []Slave // by id
	// Stood are the newest notes of each pair of servers that the log has.
	Stood []StoodIn
}

// Member is the part of a server that its table entry does not show.
type Member struct {
	ID      ring.ID `json:"id"`
	Boot    uint64  `json:"boot"`    // of the last admitted start
	Startup bool    `json:"startup"` // started and neither taken in nor asked out since: AUTOMERGE takes it in when a program attaches
	// HoldUs: it was asked to restart (ServerRestart), and its DOWN is waited for; 0: not.
	HoldUs     int64   `json:"hold_us,omitempty"`
	ReplacedBy ring.ID `json:"replaced_by,omitempty"` // who is to take its place (ServerReplace), 0: nobody
	Forget     bool    `json:"forget,omitempty"`      // it is to be removed (ServerForget)
	Levels     Levels  `json:"levels,omitzero"`       // of the build of its last admitted start
}

// Member returns what the table does not show of a server, nothing if it is no
// member.
func (v View) Member(id ring.ID) Member {
	if i := v.Table.Index(id); i >= 0 {
		return v.Members[i]
	}
	return Member{}
}

// Slave is a slave node as the log lists it.
type Slave struct {
	ID ring.ID `json:"id"`
	ring.Identity
	Boot       uint64      `json:"boot"`
	Status     ring.Status `json:"status"`          // Slave with Up or Down
	StatusTime int64       `json:"status_time"`     // unix microseconds of the last change
	Levels     Levels      `json:"levels,omitzero"` // of the build of its last admitted start
}

// Server returns the table's entry of a server, nil if it is not a member. The
// result is shared: do not change it.
func (v View) Server(id ring.ID) *ring.Server {
	if i := v.Table.Index(id); i >= 0 {
		return &v.Table.Servers[i]
	}
	return nil
}

// Boot returns the boot id of the last admitted start of a server or slave, 0
// if it is not a member.
func (v View) Boot(id ring.ID) uint64 {
	if i := v.Table.Index(id); i >= 0 {
		return v.Members[i].Boot
	}
	if i, ok := slices.BinarySearchFunc(v.Slaves, id, compareSlave); ok {
		return v.Slaves[i].Boot
	}
	return 0
}

// Ring returns what the data plane of a node applies.
func (v View) Ring() ring.View { return ring.View{Table: v.Table, Merge: v.Merge} }

// Operating reports whether a merge runs (copying or sealed).
func (v View) Operating() bool { return operating(v.Merge) }

// Covered reports whether taking the server out of service would not have to
// wait for its data: every slot that it owns has an acting owner other than it,
// or data is never moved (DOMERGE off).
func (v View) Covered(id ring.ID) bool {
	i := v.Table.Index(id)
	if i < 0 || v.Table.Base == nil || !v.Params.DoMerge {
		return true
	}
	for slot := range v.Table.Base.Slots() {
		a := v.Table.ActingSlot(slot)
		if (a < 0 || a == i) && slices.Contains(v.Table.Base.Of(slot), v.Table.Servers[i].Number) {
			return false
		}
	}
	return true
}
