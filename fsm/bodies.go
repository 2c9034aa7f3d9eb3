package fsm

import "github.com/chmpx/chmpx/ring"

// Params are the ring-wide values. They are part of the log and the same for
// every node, whatever its configuration file says.
type Params struct {
	Slots       int         `json:"slots"`        // of Placement "slots": 1 to SlotsMax; 0 with "chmpx", which has as many as base servers
	Replica     int         `json:"replica"`      // copies beside the first owner, 0 to 63
	DeliverMode string      `json:"deliver_mode"` // "hash" or "random"
	Placement   string      `json:"placement"`    // "slots" or "chmpx"
	IDType      ring.IDType `json:"id_type"`      // what chmpxids and the ring order are computed from
	DoMerge     bool        `json:"do_merge"`     // off: data is never copied, so no owner is ever out of sync
	AutoMerge   bool        `json:"auto_merge"`   // the leader plans, starts and completes merges by itself
	MaxVoters   int         `json:"max_voters"`   // RAFTMAXVOTERS, at least 1
	// MergeTimeoutS is MERGETIMEOUT in seconds: the leader ends a merge that runs
	// for longer; 0: never. Rings of before have no such value.
	MergeTimeoutS int `json:"merge_timeout_s,omitempty"`
}

// SlotsMax is the largest number of slots of a ring, ownersMax that of slots
// times owners per slot.
const (
	SlotsMax  = 1 << 20
	ownersMax = 1 << 22
)

// MergeTimeoutSMax is the largest MERGETIMEOUT, in seconds: a year.
const MergeTimeoutSMax = 365 * 24 * 3600

// PartsMax is the largest least common multiple of the numbers of servers
// before and after a merge with Placement "chmpx": a ring of up to 90 servers
// may grow by one.
const PartsMax = 1 << 13

// RingInit is the first entry of a ring; only the first one counts, a later
// one is refused with ErrRingExists.
type RingInit struct {
	RingID uint64 `json:"ring_id"` // drawn at random by the node that starts the ring, not 0
	Era    uint32 `json:"era"`     // 1 for a new ring
	Group  string `json:"group"`
	Params Params `json:"params"`
}

// ServerUp admits a start of a server process. The log index of its entry is
// the server's incarnation. A ServerUp of the same Boot while the server is UP
// changes nothing; one of another Boot means that the process restarted unseen.
type ServerUp struct {
	ID      ring.ID       `json:"id"`
	Server  ring.Identity `json:"server"`
	Addr    string        `json:"addr"`            // host:port of PORT
	Boot    uint64        `json:"boot"`            // random per process start, not 0
	Suspend bool          `json:"suspend"`         // no server program is attached now; ignored for a server in service, which keeps what it had
	Levels  Levels        `json:"levels,omitzero"` // of its build; ErrLevel if they do not go with the ring
}

// NodeDown is the verdict that a server process has ended. It is void
// (ErrStale) unless it names the present incarnation of a server that is UP.
type NodeDown struct {
	ID          ring.ID          `json:"id"`
	Incarnation ring.Incarnation `json:"incarnation"`
}

// ProgramsChanged reports how many server programs are attached to a server.
// Only the step from and to 0 changes the ring. It is void (ErrStale) unless
// it names the present incarnation of a server that is UP.
type ProgramsChanged struct {
	ID          ring.ID          `json:"id"`
	Incarnation ring.Incarnation `json:"incarnation"`
	Count       int              `json:"count"`
}

// HoldMinUs and HoldMaxUs bound how long a planned restart is waited for.
const (
	HoldMinUs = 1_000_000
	HoldMaxUs = 3600_000_000
)

// ServerRestart asks a server that is UP to restart its process. While it is
// DOWN nobody acts for slots that it owns in sync, so that it comes back with
// all data, until HoldEnd or its next ServerUp; with DOMERGE off others act. It is not
// taken out of service meanwhile either. Refusals: ErrUnknownNode, ErrInvalid,
// ErrStatusNotAllowed (not UP), ErrOperating, ErrHeld.
type ServerRestart struct {
	ID     ring.ID `json:"id"`
	HoldUs int64   `json:"hold_us"` // HoldMinUs to HoldMaxUs
}

// HoldEnd ends the wait for a server that has not restarted in time. It is
// void (ErrStale) unless it names the incarnation that was to restart.
type HoldEnd struct {
	ID          ring.ID          `json:"id"`
	Incarnation ring.Incarnation `json:"incarnation"`
}

// ServerReplace asks for New to take the place of Old, which is in service: with
// the merge in which New joins Old leaves, and its slots, and no others, go to
// New. New may be no member yet; until it joins, Old stays and AUTOMERGE does
// not take it out. SERVICEIN or SERVICEOUT of Old and ABORTMERGE take it back. Refusals:
// ErrInvalid, ErrUnknownNode (Old), ErrOperating, ErrStatusNotAllowed, ErrPlacement.
type ServerReplace struct {
	Old ring.ID `json:"old"`
	New ring.ID `json:"new"`
}

// ServerForget says that a server which is SERVICE OUT and DOWN is to be removed
// from the ring: it does not come up any more, and the leader, whoever that is by
// then, takes it out of raft and proposes ServerForgotten. It cannot be taken back.
// Refusals: ErrUnknownNode, ErrStatusNotAllowed.
type ServerForget struct {
	ID ring.ID `json:"id"`
}

// ServerForgotten removes a server from the ring that is to be forgotten and no
// member of raft any more. Refusals: ErrUnknownNode, ErrStatusNotAllowed.
type ServerForgotten struct {
	ID ring.ID `json:"id"`
}

// StoodIn says that server By has stood in for server For, which was unreachable
// under this incarnation, by the table of this epoch, while nothing could be
// decided. Where both of them have a slot in sync and For comes first, For
// lacks what By took, if it is DOWN; else the ring went on with For, and By lacks what
// that took. The one that lacks something is out of sync from now on (not with
// DOMERGE off). A note that was applied before, or an older one, changes nothing.
// Refusals: ErrUnknownNode, ErrInvalid.
type StoodIn struct {
	By          ring.ID          `json:"by"`
	For         ring.ID          `json:"for"`
	Incarnation ring.Incarnation `json:"incarnation"`
	Epoch       ring.Epoch       `json:"epoch"`
}

// ServiceIn asks to take a server into service (SERVICEIN). Refusals:
// ErrUnknownNode, ErrOperating, ErrStatusNotAllowed.
type ServiceIn struct {
	ID ring.ID `json:"id"`
}

// ServiceOut asks to take a server out of service (SERVICEOUT). Refusals:
// ErrUnknownNode, ErrOperating, ErrStatusNotAllowed, ErrAlreadyOut (DOWN and
// out: CHMPX answers SUCCEED), ErrLastServer.
type ServiceOut struct {
	ID ring.ID `json:"id"`
	// Auto: not an operator but AUTOMERGE asks, because the server is DOWN for
	// long (DOWNOUT). Such a server stays, or comes back, when it is UP again.
	Auto bool `json:"auto,omitempty"`
}

// PendingTable installs the table that the next merge leads to. Delta is the
// difference from the base assignment (ring.Assignment.Delta). Refusals:
// ErrOperating, ErrBaseChanged (Base and Version are not those of the present
// table), ErrInvalid, ErrTooManyParts.
type PendingTable struct {
	Base    ring.Epoch `json:"base"`
	Version uint64     `json:"version,omitempty"` // of the table; 0: only Base counts
	Delta   []byte     `json:"delta"`
}

// MergeStart starts the merge to the pending table; the merge's id is the
// index of this entry. Refusals: ErrOperating, ErrNothingPlanned,
// ErrDonorMissing, ErrReceiverMissing.
type MergeStart struct{}

// TransferReady reports that the receiver has nearly caught up with the donor.
// Refusals: ErrNoMerge, ErrUnknownTransfer, ErrStale.
type TransferReady struct {
	MergeID  uint64  `json:"merge_id"`
	Donor    ring.ID `json:"donor"`
	Receiver ring.ID `json:"receiver"`
}

// MergeSeal closes the slots under transfer at their donors until MergeCommit,
// MergeUnseal or MergeAbort. Refusals: ErrNoMerge, ErrNotReady.
type MergeSeal struct {
	MergeID uint64 `json:"merge_id"`
}

// TransferFinal reports that the donor has stopped serving the sealed slots
// and the receiver has imported everything. Seal is the merge's Seal (index of
// the MergeSeal entry) that the donor had applied when it stopped: a report
// about an earlier seal of the same merge must not count, because the donor
// served again in between. Refusals: ErrNoMerge, ErrUnknownTransfer, ErrStale.
type TransferFinal struct {
	MergeID  uint64  `json:"merge_id"`
	Seal     uint64  `json:"seal"`
	Donor    ring.ID `json:"donor"`
	Receiver ring.ID `json:"receiver"`
}

// MergeCommit makes the pending table the base table. Refusals: ErrNoMerge,
// ErrNotReady.
type MergeCommit struct {
	MergeID uint64 `json:"merge_id"`
}

// MergeUnseal opens the sealed slots at their donors again; the merge goes on
// copying and its Finals are void. Refusal: ErrNoMerge.
type MergeUnseal struct {
	MergeID uint64 `json:"merge_id"`
}

// MergeAbort ends a merge without its result. With Operator (ABORTMERGE) it
// ends any merge or plan whatever MergeID says, takes SERVICEOUTs back, and
// nothing starts by itself before the next command or change of membership; so
// does Hold (MERGETIMEOUT), of this merge. Refusal: ErrNoMerge (not with Operator).
type MergeAbort struct {
	MergeID  uint64 `json:"merge_id"`
	Operator bool   `json:"operator,omitempty"`
	Hold     bool   `json:"hold,omitempty"`
	Reason   string `json:"reason"` // for the log of operators
}

// SuspendMerge switches SUSPENDMERGE: while on, AUTOMERGE is ignored.
type SuspendMerge struct {
	On bool `json:"on"`
}

// MergeRequest is MERGE: one entry that installs the table which the leader
// planned and starts the merge to it, so that a repeated proposal does not find
// its own merge in the way. Without a Delta there was nothing to merge, and
// the entry changes nothing. Version is that of the table the plan was made
// from. Where MergeStart waits for a donor, this merge starts with what can move
// (ring.Merge.Partial). Refusals: those of PendingTable and of MergeStart.
type MergeRequest struct {
	Version uint64 `json:"version"`
	Delta   []byte `json:"delta,omitempty"`
}

// MergeComplete is COMPMERGE: it seals the merge that runs. When none runs, or
// it is sealed already, it changes nothing. Refusal: ErrNotReady.
type MergeComplete struct {
	// Force (COMPMERGE FORCE): what is partial is given up. Its new owners serve
	// with what they have of it.
	Force bool `json:"force,omitempty"`
}

// SlaveUp lists a slave node as UP.
type SlaveUp struct {
	ID     ring.ID       `json:"id"`
	Slave  ring.Identity `json:"slave"`
	Boot   uint64        `json:"boot"`            // random per process start, not 0
	Levels Levels        `json:"levels,omitzero"` // as of ServerUp
}

// SlaveDown lists a slave as DOWN. It is void (ErrStale) unless it names the
// boot that is UP.
type SlaveDown struct {
	ID   ring.ID `json:"id"`
	Boot uint64  `json:"boot"`
}

// SlaveForget removes a slave from the list.
type SlaveForget struct {
	ID ring.ID `json:"id"`
}

// Type implements Body.
func (RingInit) Type() CommandType { return CommandRingInit }

// Type implements Body.
func (ServerUp) Type() CommandType { return CommandServerUp }

// Type implements Body.
func (NodeDown) Type() CommandType { return CommandNodeDown }

// Type implements Body.
func (ProgramsChanged) Type() CommandType { return CommandProgramsChanged }

// Type implements Body.
func (ServerRestart) Type() CommandType { return CommandServerRestart }

// Type implements Body.
func (HoldEnd) Type() CommandType { return CommandHoldEnd }

// Type implements Body.
func (ServerReplace) Type() CommandType { return CommandServerReplace }

// Type implements Body.
func (ServerForget) Type() CommandType { return CommandServerForget }

// Type implements Body.
func (ServerForgotten) Type() CommandType { return CommandServerForgotten }

// Type implements Body.
func (StoodIn) Type() CommandType { return CommandStoodIn }

// Type implements Body.
func (ServiceIn) Type() CommandType { return CommandServiceIn }

// Type implements Body.
func (ServiceOut) Type() CommandType { return CommandServiceOut }

// Type implements Body.
func (PendingTable) Type() CommandType { return CommandPendingTable }

// Type implements Body.
func (MergeStart) Type() CommandType { return CommandMergeStart }

// Type implements Body.
func (TransferReady) Type() CommandType { return CommandTransferReady }

// Type implements Body.
func (MergeSeal) Type() CommandType { return CommandMergeSeal }

// Type implements Body.
func (TransferFinal) Type() CommandType { return CommandTransferFinal }

// Type implements Body.
func (MergeCommit) Type() CommandType { return CommandMergeCommit }

// Type implements Body.
func (MergeUnseal) Type() CommandType { return CommandMergeUnseal }

// Type implements Body.
func (MergeAbort) Type() CommandType { return CommandMergeAbort }

// Type implements Body.
func (SuspendMerge) Type() CommandType { return CommandSuspendMerge }

// Type implements Body.
func (MergeRequest) Type() CommandType { return CommandMergeRequest }

// Type implements Body.
func (MergeComplete) Type() CommandType { return CommandMergeComplete }

// Type implements Body.
func (SlaveUp) Type() CommandType { return CommandSlaveUp }

// Type implements Body.
func (SlaveDown) Type() CommandType { return CommandSlaveDown }

// Type implements Body.
func (SlaveForget) Type() CommandType { return CommandSlaveForget }
