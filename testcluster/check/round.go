package check

import "github.com/chmpx/chmpx/ring"

// Round is everything that was written down in one round: faults, then calm
// until nothing is open any more. All times are Now's.
type Round struct {
	Name           string // for people, for example "round 7, seed 42"
	StartNs, EndNs int64
	// StandIns says that servers may stand in for each other (STANDINAFTER): what is
	// promised then is judged, and what is not then is excused.
	StandIns bool

	// Histories are those of all programs that lived in the round, also of those
	// that were killed.
	Histories []History
	// Earlier are the sessions of earlier rounds, as in Header: what is taken of
	// them now is not judged.
	Earlier []string
	// Processes are all nodes and programs that lived in the round. What a
	// process owes after its end, and what its end excuses, is judged by them.
	Processes []Process
	// Observations are the answers of nodes to status requests, in any order.
	// They may begin with the last ones of the round before, so that going back
	// between rounds is seen.
	Observations []Observation
	// Ops are the commands that operators gave, and consistent reads.
	Ops []Op
	// Faults explain what happened: they are shown beside violations, and waits
	// are attributed to them. They excuse nothing; what is excused follows from
	// Processes and Observations.
	Faults []Fault
	// Traces are the frame traces of the nodes: name of the node to file. One that
	// is missing or cannot be read is left out, and said so in the report.
	Traces map[string]string
	// Before and After are what nodes used in quiet moments: after the warm-up of
	// the run, and at the end of this round, when its programs have ended. A
	// node without an entry in both is not judged for it.
	Before, After []Usage
}

// Process is one start of a node or of a program.
type Process struct {
	Name    string // of the node, or of the program
	Program bool   // it is a program, and its histories have its PID
	PID     int
	StartNs int64
	EndNs   int64 // 0: it outlived the round
	// Killed says that it ended without being asked to: by a signal, at a crash
	// point, or with its host. What it did last may be on no record.
	Killed bool
	// Wanted says that the harness ended it, killed or not. An end that nobody
	// wanted is a violation.
	Wanted bool
	Empty  bool // of a node: its disk was empty when it started, though it had not been once
}

// Fault is one fault that the harness caused, or one way in which it changed
// the ring.
type Fault struct {
	AtNs    int64
	UntilNs int64  // when it was over, 0: not before the end of the round
	Kind    string // for example "kill-node", "cut", "disk-hang"
	Target  []string
	Detail  string // for people
}

// Observation is what a node answered to one status request. AtNs is before it
// was asked, DoneNs after it had answered.
type Observation struct {
	AtNs, DoneNs int64
	Node         string // name of the node
	State        State
}

// State is the part of a node's status that is judged. It is decoded from what
// GET /v1/status returns.
type State struct {
	ID           ring.HexID       `json:"id"`
	RingID       ring.HexID       `json:"ring_id"`
	Epoch        ring.Epoch       `json:"epoch"`
	Version      uint64           `json:"version"`
	Incarnation  ring.Incarnation `json:"incarnation"`
	SuspendMerge bool             `json:"suspend_merge"`
	Raft         RaftState        `json:"raft"`
	Servers      []ServerState    `json:"servers"`
	Merge        *MergeState      `json:"merge"`
	Data         DataState        `json:"data"`
	Process      ProcessState     `json:"process"`
}

// RaftState is the state of raft on a node.
type RaftState struct {
	Role    string `json:"role"`
	Term    uint64 `json:"term"`
	Applied uint64 `json:"applied_index"`
}

// ServerState is one server as a node sees it.
type ServerState struct {
	ID          ring.HexID       `json:"id"`
	Name        string           `json:"name"`
	CtlPort     uint16           `json:"ctlport"`
	Status      string           `json:"status"`
	Incarnation ring.Incarnation `json:"incarnation"`
	BaseHash    int32            `json:"base_hash"`
	PendingHash int32            `json:"pending_hash"`
}

// MergeState is the merge that a node knows of. ID is 0 while it is only planned.
type MergeState struct {
	ID    uint64 `json:"id"`
	Phase string `json:"phase"`
}

// DataState is the state of a node's data plane.
type DataState struct {
	Epoch    ring.Epoch `json:"epoch"`
	Counters struct {
		Evicted uint64 `json:"evicted"` // senders' sessions forgotten for want of space
	} `json:"counters"`
}

// ProcessState names the process that answered.
type ProcessState struct {
	PID int `json:"pid"`
}

// Op is one command of an operator, or a read that is to see all commands which
// were answered before it began.
type Op struct {
	CallNs, ReturnNs int64
	Client           int    // who gave it; one after the other, from 0
	Node             string // name of the node that it was given to
	// Command is the first word in upper case: SUSPENDMERGE, NOSUSPENDMERGE,
	// SERVICEIN, SERVICEOUT, MERGE, COMPMERGE, ABORTMERGE, or READ.
	Command string
	Target  string // name of the server that SERVICEIN or SERVICEOUT is about
	Reply   string // for people
	OK      bool   // it was done
	Unknown bool   // no answer, or one that does not tell: it may have been done, perhaps later
	Read    *State // of a READ that was answered
}

// Usage is what a node's process uses, and what its data plane holds for programs.
type Usage struct {
	AtNs          int64
	Node          string
	PID           int
	Goroutines    int
	Descriptors   int // -1: not known
	HeapBytes     uint64
	ResidentBytes uint64
	SegmentBytes  int64
	Attached      int // programs, also those that have ended and are not settled
	Leads         bool
}
