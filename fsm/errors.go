package fsm

import "errors"

// Errors that Decode and State.Apply return: the entry cannot be understood,
// so a node that cannot skip it must stop rather than diverge.
var (
	ErrUnknownCommand = errors.New("fsm: unknown command")
	ErrBadCommand     = errors.New("fsm: malformed command")
	ErrOutOfOrder     = errors.New("fsm: log entry applied out of order")
)

// ErrSnapshot is wrapped by every error about a snapshot that cannot be restored.
var ErrSnapshot = errors.New("fsm: invalid snapshot")

// Refusals: Result.Err of an entry that was understood and changed nothing.
// They are the same on every node.
var (
	ErrInvalid          = errors.New("fsm: value out of range")                               // a field of the command is impossible
	ErrNoRing           = errors.New("fsm: no ring yet")                                      // before RingInit
	ErrRingExists       = errors.New("fsm: the ring exists already")                          // second RingInit
	ErrUnknownNode      = errors.New("fsm: unknown node")                                     // no such server or slave
	ErrTooMany          = errors.New("fsm: too many nodes")                                   // server numbers or slaves used up
	ErrStale            = errors.New("fsm: the command names an incarnation that is over")    // NodeDown, ProgramsChanged, SlaveDown of an earlier start
	ErrOvertaken        = errors.New("fsm: a later command of this proposer was applied")     // the proposer did not keep its order
	ErrOperating        = errors.New("fsm: a merge is running")                               // "server is operating now."
	ErrStatusNotAllowed = errors.New("fsm: not allowed in this status")                       // "status is not allowed."
	ErrAlreadyOut       = errors.New("fsm: the server is out of service already")             // "Already server has been SERVICEOUT."
	ErrLastServer       = errors.New("fsm: no other server would remain in service")          // SERVICEOUT of the only server
	ErrBaseChanged      = errors.New("fsm: the ring changed since the table was planned")     // PendingTable of an older epoch
	ErrNothingPlanned   = errors.New("fsm: no pending table")                                 // MergeStart without PendingTable
	ErrDonorMissing     = errors.New("fsm: no server that acts holds the data of a slot")     // MergeStart waits for a donor
	ErrTooManyParts     = errors.New("fsm: too many servers for a change of PLACEMENT=chmpx") // PartsMax
	ErrReceiverMissing  = errors.New("fsm: no server of the pending table can take a slot")   // MergeStart waits for a receiver
	ErrNoMerge          = errors.New("fsm: no such merge is running")                         // wrong merge id, phase or seal
	ErrUnknownTransfer  = errors.New("fsm: the merge has no such transfer")                   // wrong donor or receiver
	ErrHeld             = errors.New("fsm: another server restarts")                          // ServerRestart: one after the other; no merge starts meanwhile
	ErrPlacement        = errors.New("fsm: places follow from names with PLACEMENT=chmpx")    // ServerReplace
	ErrLevel            = errors.New("fsm: feature levels do not go together")                // a node that cannot follow the log, or a command that not every member understands
	ErrNotReady         = errors.New("fsm: not every transfer of the merge is ready for it")  // MergeSeal before Ready, MergeCommit before Final
)

// Refusal returns the sentinel with this text, nil if there is none: refusals
// travel between nodes as text.
func Refusal(text string) error {
	for _, r := range refusals {
		if r.Error() == text {
			return r
		}
	}
	return nil
}

// RefusalText returns the text of the sentinel that err wraps, "" if there is none.
func RefusalText(err error) string {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return r.Error()
		}
	}
	return ""
}

// refusals are the sentinels that are remembered with a proposal, and travel.
var refusals = []error{
	ErrInvalid, ErrNoRing, ErrRingExists, ErrUnknownNode, ErrTooMany, ErrStale, ErrOperating, ErrStatusNotAllowed,
	ErrAlreadyOut, ErrLastServer, ErrBaseChanged, ErrNothingPlanned, ErrDonorMissing, ErrReceiverMissing,
	ErrTooManyParts, ErrNoMerge, ErrUnknownTransfer, ErrNotReady, ErrOvertaken,
	ErrHeld, ErrPlacement, ErrLevel,
}
