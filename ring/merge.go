package ring

// MergePhase says how far a merge is.
type MergePhase uint8

// The phases of a merge, in order.
const (
	MergeNone    MergePhase = iota // no merge
	MergePlanned                   // a pending table is installed
	MergeCopying                   // started: receivers copy, donors serve on
	MergeSealed                    // donors hand out nothing more of the slots
)

// String returns the lower-case word used in status output.
func (p MergePhase) String() string {
	switch p {
	case MergePlanned:
		return "planned"
	case MergeCopying:
		return "copying"
	case MergeSealed:
		return "sealed"
	}
	return "none"
}

// Transfer hands slots from one server to another within a merge.
type Transfer struct {
	Donor               ID          `json:"donor"`
	Receiver            ID          `json:"receiver"`
	DonorIncarnation    Incarnation `json:"donor_incarnation"`
	ReceiverIncarnation Incarnation `json:"receiver_incarnation"`
	Slots               *SlotSet    `json:"slots"` // of the merge's division of the hashes, the same for all its transfers
	Ready               bool        `json:"ready"` // the receiver has caught up
	Final               bool        `json:"final"` // the donor has stopped and the receiver has everything
}

// Merge is a change of owners under way, as all nodes see it. It is immutable.
type Merge struct {
	ID        uint64     `json:"id"` // log index of MergeStart, 0 while planned
	Phase     MergePhase `json:"phase"`
	Seal      uint64     `json:"seal"` // log index of the MergeSeal in force, 0 if not sealed
	Transfers []Transfer `json:"transfers"`
	// Partial is what cannot be moved now: nobody acts for these slots, and their
	// new owners lack the data. Donor is the first server that holds it. When such
	// a one acts again its slots become transfers.
	Partial []Transfer `json:"partial,omitempty"`
	// Forced: the merge is completed without the data of Partial.
	Forced bool `json:"forced,omitempty"`
}
