package dataplane

import (
	"slices"
	"strings"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/ring"
)

// Status is what the data plane knows of itself, for operators.
type Status struct {
	Epoch    ring.Epoch      `json:"epoch"`    // of the table that routes now
	Serving  int             `json:"serving"`  // servers that act for at least one slot
	Programs int             `json:"programs"` // attached server programs
	Holding  bool            `json:"holding"`  // they are given nothing by hash; see Hold
	ShmBytes int64           `json:"shm_bytes"`
	Links    []LinkStatus    `json:"links"`
	Attached []ProgramStatus `json:"attached"`
	Ticks    uint64          `json:"ticks"`  // how often it looked after what waits
	Relays   int             `json:"relays"` // tunnels of others through this node
	Relay    RelayStats      `json:"relay"`
	Counters flow.Stats      `json:"counters"`
	StandIns []StandInStatus `json:"stand_ins,omitempty"` // whom this server stands in for, or has
	// NotesFailed is why this server cannot stand in for another one just now: it could not
	// write a note. "": it could, or has not tried.
	NotesFailed string `json:"notes_failed,omitempty"`
}

// LinkStatus is one link to or from another node.
type LinkStatus struct {
	Peer     ring.HexID `json:"peer"`
	Name     string     `json:"name"`
	Accepted bool       `json:"accepted"`      // the peer opened it
	State    string     `json:"state"`         // of the direct link
	Via      string     `json:"via,omitempty"` // name of the server that relays meanwhile
	Queued   int        `json:"queued_bytes"`
	Socket   int        `json:"socket"` // descriptor of the direct link, 0 if it has none; -1: there is no direct link
}

// ProgramStatus is one attached program.
type ProgramStatus struct {
	Session string `json:"session"`
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Server  bool   `json:"server"`
	Ended   bool   `json:"ended"` // the program is gone, its last messages are still on their way
}

// Status may be called from any goroutine.
func (p *Plane) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Epoch: p.epoch(), Serving: p.serving, Programs: p.programs, Holding: p.core.Holding(), ShmBytes: p.shmBytes, Counters: p.core.Stats(),
		Ticks: p.ticks, Relays: len(p.relays), Relay: p.relayStats, StandIns: p.standInStatus()}
	if err := p.standIns.failed; err != nil {
		s.NotesFailed = err.Error()
	}
	for _, d := range p.dialers {
		ls := LinkStatus{Peer: ring.HexID(d.id), Name: d.name, State: d.state.String(), Socket: -1}
		if d.link != nil {
			ls.Queued, ls.Socket = len(d.link.pending), d.link.descriptor()
		}
		if t := d.detour.tunnel; t != nil && t.up {
			ls.Via = t.via.name
		}
		s.Links = append(s.Links, ls)
	}
	for _, l := range p.inbound {
		s.Links = append(s.Links, LinkStatus{Peer: ring.HexID(l.id), Name: l.name, Accepted: true, State: ring.LinkAlive.String(), Queued: len(l.pending), Socket: l.descriptor()})
	}
	for _, t := range p.tunnelsIn {
		s.Links = append(s.Links, LinkStatus{Peer: ring.HexID(t.id), Name: t.name, Accepted: true, State: ring.LinkUnknown.String(), Via: t.via.name, Socket: -1})
	}
	slices.SortFunc(s.Links, func(a, b LinkStatus) int {
		if a.Accepted != b.Accepted {
			if a.Accepted {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Name+a.Peer.String(), b.Name+b.Peer.String())
	})
	for _, a := range p.attached {
		s.Attached = append(s.Attached, ProgramStatus{Session: a.id.String(), Name: a.name, PID: int(a.process.pid), Server: a.server, Ended: a.ended})
	}
	slices.SortFunc(s.Attached, func(a, b ProgramStatus) int { return strings.Compare(a.Session, b.Session) })
	return s
}

// descriptor returns the number of the connection's descriptor, 0 if it has
// none, -1 once the link is about to end; p.mu is held.
func (l *link) descriptor() (number int) {
	if l.dead != nil {
		return -1
	}
	switch s := l.sock.(type) {
	case *hotSocket:
		return s.descriptor()
	case *rawSocket:
		if err := s.rc.Control(func(fd uintptr) { number = int(fd) }); err != nil {
			return -1 // closed
		}
	}
	return number
}
