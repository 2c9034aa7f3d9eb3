package controlplane

import "github.com/chmpx/chmpx/ring"

// Status is what a node knows of the ring and of itself, for operators. Its
// JSON form is what GET /v1/status of the control port returns.
type Status struct {
	ID          ring.ID          `json:"id"`
	Name        string           `json:"name"`
	Group       string           `json:"group"`
	Role        string           `json:"role"`               // "server" or "slave"
	WaitsFor    string           `json:"waits_for,omitempty"` // what keeps the node from taking part; empty: nothing
	Warnings    []string         `json:"warnings,omitempty"`
	RingID      uint64           `json:"ring_id,string"`
	Epoch       ring.Epoch       `json:"epoch"`
	Version     uint64           `json:"version"`
	Incarnation ring.Incarnation `json:"incarnation"` // of this process start; 0: not admitted
	Programs    int              `json:"programs"`    // as last reported by the data plane
	Raft        RaftStatus       `json:"raft"`
	Quorum      QuorumStatus     `json:"quorum"`
	Servers     []ServerStatus   `json:"servers"`
	Slaves      []SlaveStatus    `json:"slaves"`
	Merge       *MergeStatus     `json:"merge,omitempty"`
}

// RaftStatus is the state of raft on this node.
type RaftStatus struct {
	ID         string  `json:"id"`       // raft server id; empty before the node has one
	Role       string  `json:"role"`     // "leader", "follower", "candidate", "none"
	Suffrage   string  `json:"suffrage"` // "voter", "nonvoter", "none"
	LeaderID   ring.ID `json:"leader_id,omitempty"`
	Leader     string  `json:"leader,omitempty"` // name of the leader, empty: none known
	LeaderAddr string  `json:"leader_addr,omitempty"`
	Term       uint64  `json:"term"`
	LastIndex  uint64  `json:"last_index"`
	Commit     uint64  `json:"commit_index"`
	Applied    uint64  `json:"applied_index"`
}

// QuorumStatus says whether changes can be committed.
type QuorumStatus struct {
	OK      bool     `json:"ok"`     // a leader is known
	Voters  int      `json:"voters"` // in the configuration of raft
	Have    int      `json:"have"`   // voters that this node believes to be reachable, itself included
	Need    int      `json:"need"`
	Missing []string `json:"missing,omitempty"` // names of unreachable voters
}

// ServerStatus is one server as this node sees it.
type ServerStatus struct {
	ID          ring.ID          `json:"id"`
	Name        string           `json:"name"`
	CtlPort     uint16           `json:"ctlport"`
	Addr        string           `json:"addr"`
	Status      string           `json:"status"` // CHMPX's words
	Incarnation ring.Incarnation `json:"incarnation"`
	BaseHash    int32            `json:"base_hash"`
	PendingHash int32            `json:"pending_hash"`
	StatusTime  int64            `json:"status_time"` // unix microseconds of the last change
	Link        string           `json:"link"`        // this node's own evidence: alive, refused, silent, unknown; "self"
	Raft        string           `json:"raft"`        // "voter", "nonvoter", "none"
	Leader      bool             `json:"leader"`
}

// SlaveStatus is one slave as this node sees it.
type SlaveStatus struct {
	ID   ring.ID `json:"id"`
	Name string  `json:"name"`
	Up   bool    `json:"up"`
}

// MergeStatus is the progress of the merge that runs.
type MergeStatus struct {
	ID        uint64           `json:"id"`
	Phase     string           `json:"phase"`
	Transfers []TransferStatus `json:"transfers"`
}

// TransferStatus is one transfer of a merge.
type TransferStatus struct {
	Donor    ring.ID `json:"donor"`
	Receiver ring.ID `json:"receiver"`
	Slots    int     `json:"slots"`
	Ready    bool    `json:"ready"`
	Final    bool    `json:"final"`
}
