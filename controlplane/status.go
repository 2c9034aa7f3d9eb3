package controlplane

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Status is what a node knows of the ring and of itself, for operators. Its
// JSON form is what GET /v1/status of the control port returns.
type Status struct {
	ID          ring.HexID       `json:"id"`
	Name        string           `json:"name"`
	Group       string           `json:"group"`
	Role        string           `json:"role"`                // "server" or "slave"
	WaitsFor    string           `json:"waits_for,omitempty"` // what keeps the node from taking part; empty: nothing
	Warnings    []string         `json:"warnings,omitempty"`
	RingID      ring.HexID       `json:"ring_id"`
	Epoch       ring.Epoch       `json:"epoch"`
	Version     uint64           `json:"version"`
	Index       uint64           `json:"index"`            // of the log: this status shows the ring as it is up to here
	Params      *fsm.Params      `json:"params,omitempty"` // ring-wide values; nil: no ring yet
	Incarnation ring.Incarnation `json:"incarnation"`      // of this process start; 0: not admitted
	Programs    int              `json:"programs"`         // as last reported by the data plane
	Raft        RaftStatus       `json:"raft"`
	Quorum      QuorumStatus     `json:"quorum"`
	Servers     []ServerStatus   `json:"servers"`
	Slaves      []SlaveStatus    `json:"slaves"`
	// SuspendMerge: SUSPENDMERGE is on, AUTOMERGE is ignored.
	SuspendMerge bool `json:"suspend_merge"`
	// MergeHeld: ABORTMERGE or NOSUSPENDMERGE was the last word; nothing starts by
	// itself before the next command or change of membership.
	MergeHeld bool         `json:"merge_held"`
	Merge     *MergeStatus `json:"merge,omitempty"`
	// Level is the feature level of the ring, 0: no ring yet. LevelHeldBy are the
	// members that hold it back, where others have a higher one.
	Level       int      `json:"level,omitempty"`
	LevelHeldBy []string `json:"level_held_by,omitempty"`
}

// RaftStatus is the state of raft on this node.
type RaftStatus struct {
	ID         string     `json:"id"`       // raft server id; empty before the node has one
	Role       string     `json:"role"`     // "leader", "follower", "candidate", "none"
	Suffrage   string     `json:"suffrage"` // "voter", "nonvoter", "none"
	LeaderID   ring.HexID `json:"leader_id,omitempty"`
	Leader     string     `json:"leader,omitempty"` // name of the leader, empty: none known
	LeaderAddr string     `json:"leader_addr,omitempty"`
	Term       uint64     `json:"term"`
	LastIndex  uint64     `json:"last_index"`
	Commit     uint64     `json:"commit_index"`
	Applied    uint64     `json:"applied_index"`
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
	ID          ring.HexID       `json:"id"`
	Name        string           `json:"name"`
	CtlPort     uint16           `json:"ctlport"`
	Addr        string           `json:"addr"`
	Status      string           `json:"status"`    // CHMPX's words
	Service     string           `json:"service"`   // "in" or "out"
	Up          bool             `json:"up"`        // false: DOWN
	Suspended   bool             `json:"suspended"` // no server program is attached
	Action      string           `json:"action"`    // "none", "add" or "delete": what the next merge makes of it
	Operate     string           `json:"operate"`   // "nothing", "pending", "doing" or "done": its part in the merge
	Incarnation ring.Incarnation `json:"incarnation"`
	BaseHash    int32            `json:"base_hash"`
	PendingHash int32            `json:"pending_hash"`
	StatusTime  int64            `json:"status_time"` // unix microseconds of the last change
	Link        string           `json:"link"`        // this node's own evidence: alive, refused, silent, unknown; "self"
	Raft        string           `json:"raft"`        // "voter", "nonvoter", "none"
	Leader      bool             `json:"leader"`
	Restarting  bool             `json:"restarting,omitempty"`  // it was asked to restart; while it is down nobody acts for what it owns
	ReplacedBy  ring.HexID       `json:"replaced_by,omitempty"` // who is to take its place
	Forget      bool             `json:"forget,omitempty"`      // it is being forgotten: the next that leads removes it
}

// SlaveStatus is one slave as this node sees it.
type SlaveStatus struct {
	ID      ring.HexID `json:"id"`
	Name    string     `json:"name"`
	CtlPort uint16     `json:"ctlport"`
	Up      bool       `json:"up"`
}

// MergeStatus is the progress of the merge that runs.
type MergeStatus struct {
	ID        uint64           `json:"id"`
	Phase     string           `json:"phase"`
	Transfers []TransferStatus `json:"transfers"`
	Forced    bool             `json:"forced,omitempty"` // COMPMERGE FORCE: it is completed without what is partial
	// Stalled: something is to be copied or handed over, and for this many
	// seconds, 60 at least, this node has seen no progress; 0: it goes on.
	Stalled int `json:"stalled,omitempty"`
}

// TransferStatus is one transfer of a merge.
type TransferStatus struct {
	Donor    ring.HexID `json:"donor"`
	Receiver ring.HexID `json:"receiver"`
	Slots    int        `json:"slots"`
	Ready    bool       `json:"ready"`
	Final    bool       `json:"final"`
	// Partial: nobody acts who has the data, of whom Donor is the first. The merge
	// waits for it, ABORTMERGE or COMPMERGE FORCE.
	Partial bool `json:"partial,omitempty"`
}

// View returns the ring as this node has applied its log. It is shared: do not
// change it. Any goroutine, any time.
func (p *Plane) View() fsm.View { return p.view() }

// Status returns what this node knows. It does not block on the network or the
// disk.
func (p *Plane) Status() Status {
	v, index := p.fsm.Load().ViewAt()
	cluster := p.clusterOf()
	st := Status{
		Index: index, SuspendMerge: v.SuspendMerge, MergeHeld: v.MergeHeld,
		ID: ring.HexID(p.cfg.Self.ID), Name: p.cfg.Self.Name, Group: p.cfg.Group, Role: "server",
		RingID: ring.HexID(v.RingID), Incarnation: p.incarnation(v),
		Raft:    p.raftStatus(v, cluster),
		Servers: []ServerStatus{}, Slaves: []SlaveStatus{},
	}
	if p.cfg.Slave {
		st.Role = "slave"
	}
	if v.RingID != 0 {
		st.Params = &v.Params
	}
	if v.Table != nil {
		st.Epoch, st.Version = v.Table.Epoch, v.Table.Version
	}
	st.Quorum = p.quorum(v, cluster, st.Raft.LeaderID != 0)
	p.mu.Lock()
	st.WaitsFor, st.Programs = p.waits, p.programs
	idle := time.Since(p.progressAt)
	for _, text := range []string{p.diskFull, p.lapsed, p.holds, p.alarm} {
		if text != "" {
			st.Warnings = append(st.Warnings, text)
		}
	}
	links := make(map[ring.ID]ring.LinkState, len(p.links))
	for id, e := range p.links {
		links[id] = e.State
	}
	p.mu.Unlock()
	if text := differingParams(v.Params, p.cfg.Params); v.RingID != 0 && text != "" {
		st.Warnings = append(st.Warnings, text)
	}
	if err := fsm.MergeBlocked(v); err != nil {
		st.Warnings = append(st.Warnings, "a merge is wanted and cannot start: "+err.Error())
	}
	if v.Table != nil {
		for _, s := range v.Table.Servers {
			shown := p.serverStatus(s, links[s.ID], cluster, ring.ID(st.Raft.LeaderID))
			m := v.Member(s.ID)
			shown.Restarting, shown.ReplacedBy, shown.Forget = m.HoldUs > 0, ring.HexID(m.ReplacedBy), m.Forget
			st.Servers = append(st.Servers, shown)
			st.Warnings = append(st.Warnings, p.memberWarnings(v, s, m)...)
		}
	}
	for _, s := range v.Slaves {
		st.Slaves = append(st.Slaves, SlaveStatus{ID: ring.HexID(s.ID), Name: s.Name, CtlPort: s.CtlPort, Up: s.Status.Live() == ring.Up})
	}
	st.levelStatus(v, p.unknownMembers(v, cluster))
	st.Merge = mergeStatus(v.Merge)
	if st.Merge != nil {
		st.Merge.Stalled = stalledFor(v.Merge, idle)
	}
	return st
}

func (p *Plane) serverStatus(s ring.Server, link ring.LinkState, cluster []raft.Server, leader ring.ID) ServerStatus {
	out := ServerStatus{
		ID: ring.HexID(s.ID), Name: s.Name, CtlPort: s.CtlPort, Addr: s.Addr, Status: s.Status.String(),
		Service: "out", Up: s.Status.Live() == ring.Up, Suspended: s.Status.Suspended(),
		Action: actionWords[s.Status.Action()], Operate: operateWords[s.Status.Operate()],
		Incarnation: s.Incarnation, BaseHash: s.BaseHash, PendingHash: s.PendingHash, StatusTime: s.StatusTime,
		Link: link.String(), Raft: "none", Leader: s.ID == leader,
	}
	if s.Status.Ring() == ring.ServiceIn {
		out.Service = "in"
	}
	if s.ID == p.cfg.Self.ID {
		out.Link = "self"
	}
	for _, m := range cluster {
		if owner, ok := ownerOf(m.ID); ok && owner == s.ID && !isSlaveID(m.ID) {
			out.Raft = suffrage(m)
		}
	}
	return out
}

// memberWarnings says what a server is waited for.
func (p *Plane) memberWarnings(v fsm.View, s ring.Server, m fsm.Member) (out []string) {
	if m.HoldUs > 0 {
		what := "is to restart"
		if s.Held {
			what = "restarts, and messages for what it owns wait"
		}
		out = append(out, fmt.Sprintf("%s %s: for at most %d s", serverName(v, s.ID), what, m.HoldUs/1_000_000))
	}
	if m.Forget {
		out = append(out, serverName(v, s.ID)+" is being forgotten")
	}
	if by := m.ReplacedBy; by != 0 && s.Status.Action() != ring.Delete {
		out = append(out, fmt.Sprintf("%s is to be replaced by %s, which cannot join yet: it is not up, has no program, or is not taken in (SERVICEIN)", serverName(v, s.ID), p.nameOf(v, by)))
	}
	return out
}

// The parts of a status for programs.
var (
	actionWords  = map[ring.Status]string{ring.NoAct: "none", ring.Add: "add", ring.Delete: "delete"}
	operateWords = map[ring.Status]string{ring.Nothing: "nothing", ring.Pending: "pending", ring.Doing: "doing", ring.Done: "done"}
)

// suffrage returns the word for a member's right to vote.
func suffrage(m raft.Server) string {
	if m.Suffrage == raft.Voter {
		return "voter"
	}
	return "nonvoter"
}

// raftStatus returns the state of raft on this node.
func (p *Plane) raftStatus(v fsm.View, cluster []raft.Server) RaftStatus {
	st := RaftStatus{Role: "none", Suffrage: "none"}
	n := p.node.Load()
	if n == nil {
		return st
	}
	id := *p.raftID.Load()
	st.ID = string(id)
	switch n.State() {
	case raft.Leader:
		st.Role = "leader"
	case raft.Follower:
		st.Role = "follower"
	case raft.Candidate:
		st.Role = "candidate"
	}
	if i := memberIndex(cluster, id); i >= 0 {
		st.Suffrage = suffrage(cluster[i])
	}
	leader, addr := p.leader()
	st.LeaderID, st.LeaderAddr = ring.HexID(leader), addr
	if st.LeaderID != 0 {
		st.Leader = p.nameOf(v, ring.ID(st.LeaderID))
	}
	st.Term, st.LastIndex = n.CurrentTerm(), n.LastIndex()
	st.Commit, st.Applied = n.CommitIndex(), n.AppliedIndex()
	return st
}

// nameOf returns how to call a server: as the ring knows it, else as our
// configuration does.
func (p *Plane) nameOf(v fsm.View, id ring.ID) string {
	if m := p.configuredServer(id); m != nil && v.Server(id) == nil {
		return m.label()
	}
	return serverName(v, id)
}

// quorum returns which voters this node believes to be reachable: with a
// leader by its links and the table, without one by having asked.
func (p *Plane) quorum(v fsm.View, cluster []raft.Server, led bool) QuorumStatus {
	q := QuorumStatus{OK: led}
	leader, _ := p.leader()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range cluster {
		if m.Suffrage != raft.Voter {
			continue
		}
		q.Voters++
		id, _ := ownerOf(m.ID)
		there := id == p.cfg.Self.ID || id == leader
		switch s, link := v.Server(id), p.links[id].State; {
		case there:
		case !led:
			there = p.reach[id]
		case link == ring.LinkUnknown:
			there = s == nil || s.Status.Live() == ring.Up
		default:
			there = link == ring.LinkAlive
		}
		if there {
			q.Have++
		} else {
			q.Missing = append(q.Missing, p.nameOf(v, id))
		}
	}
	q.Need = q.Voters/2 + 1
	return q
}

func mergeStatus(m *ring.Merge) *MergeStatus {
	if m == nil {
		return nil
	}
	out := &MergeStatus{ID: m.ID, Phase: fmt.Sprint(m.Phase), Transfers: []TransferStatus{}, Forced: m.Forced}
	for i, t := range slices.Concat(m.Transfers, m.Partial) {
		out.Transfers = append(out.Transfers, TransferStatus{
			Donor: ring.HexID(t.Donor), Receiver: ring.HexID(t.Receiver), Slots: t.Slots.Len(), Ready: t.Ready, Final: t.Final,
			Partial: i >= len(m.Transfers),
		})
	}
	return out
}

// stallLimit is after how long without progress a merge is called stalled.
const stallLimit = 60 * time.Second

// progress is how far a merge is, as far as the log tells.
type progress struct {
	id, seal              uint64
	phase                 ring.MergePhase
	ready, final, partial int
}

func progressOf(m *ring.Merge) progress {
	if m == nil {
		return progress{}
	}
	p := progress{id: m.ID, seal: m.Seal, phase: m.Phase, partial: len(m.Partial)}
	for _, t := range m.Transfers {
		p.ready += count(t.Ready)
		p.final += count(t.Final)
	}
	return p
}

// stalledFor returns for how many seconds a merge has been stalled that has
// made no progress for idle. One that has copied everything is not: it waits
// for its operator.
func stalledFor(m *ring.Merge, idle time.Duration) int {
	if m == nil || idle < stallLimit {
		return 0
	}
	p := progressOf(m)
	switch copied := p.ready == len(m.Transfers) && (p.partial == 0 || m.Forced); {
	case m.Phase == ring.MergeCopying && !copied, m.Phase == ring.MergeSealed && p.final < len(m.Transfers):
		return int(idle.Seconds())
	}
	return 0
}
