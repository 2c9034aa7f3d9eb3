package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// statusText composes what the text commands show: the servers of the newest
// table that this node has, whether or not the ring has a leader, and those of
// the configuration that are no members yet. Its methods may be called from
// any goroutine.
type statusText struct {
	group  string
	idType ring.IDType
	self   config.Self
	id     ring.ID
	start  time.Time // of this node
	table  func() *ring.Table
	data   func() dataplane.Status
	view   func() fsm.View
	conf   func() *config.Config
	trace  ctlport.Tracing

	portSocket, ctlSocket int // descriptors of the listeners, -1: none
}

func (n *Node) newStatusText() *statusText {
	return &statusText{
		group: n.conf().Group, idType: n.idType, self: n.self, id: n.id, start: fault.Now(),
		table:      func() *ring.Table { return n.data.View().Table },
		data:       n.data.Status,
		view:       n.control.View,
		conf:       n.conf,
		trace:      ctlport.Tracing{Max: func() int { return limitsOf(n.conf()).HistoryMax }, Set: n.data.SetHistory, View: n.passages},
		portSocket: descriptor(n.portLn), ctlSocket: descriptor(n.ctlLn),
	}
}

// names returns what requests may call this node: its own name, that of its
// host, and those of the configured servers, of which it may be one.
func (n *Node) names() []string {
	all := []string{n.self.Name}
	if host, err := os.Hostname(); err == nil {
		all = append(all, host)
	}
	for _, s := range n.conf().Servers {
		all = append(all, s.Name)
	}
	return all
}

// answers returns what the control port answers to text commands; change does
// those that change the ring.
func (s *statusText) answers(version string, change func(context.Context, ctlport.Change) ctlport.Outcome) ctlport.Answers {
	return ctlport.Answers{
		Version: versionLine(version), Slave: !s.self.Server, IDType: s.idType, Self: s.showSelf, All: s.showAll,
		Dump: s.showDump, Trace: s.trace, Change: change,
	}
}

// versionLine is what VERSION prints: number, commit, TLS library.
func versionLine(version string) string {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				commit = setting.Value[:min(len(setting.Value), commitDigits)]
			}
		}
	}
	return fmt.Sprintf("Version %s (commit: %s) with crypto/tls", version, commit)
}

// commitDigits is how much of a commit's hash is shown.
const commitDigits = 7

// showAll is ALLSTATUS.
func (s *statusText) showAll() ctlport.All {
	entries := s.entries(s.data().Programs)
	all := ctlport.All{Group: s.group}
	for _, e := range entries {
		all.Servers = append(all.Servers, e.node)
	}
	return all
}

// showSelf is SELFSTATUS.
func (s *statusText) showSelf() ctlport.Self {
	data := s.data()
	entries := s.entries(data.Programs)
	out := ctlport.Self{
		Node: s.slave(), ID: s.id, Group: s.group, Slave: !s.self.Server,
		PortSocket: s.portSocket, CtlSocket: s.ctlSocket, ToServers: len(entries),
		// Messages of this node's programs and the replies to them, and what
		// other nodes sent here: servers are asked, mostly slaves ask.
		Servers: ctlport.Traffic{Sent: data.Counters.Transmitted, Received: data.Counters.RepliesDelivered},
		Slaves:  ctlport.Traffic{Sent: data.Counters.RepliesSent, Received: data.Counters.Accepted},
	}
	if i := slices.IndexFunc(entries, func(e entry) bool { return e.id == s.id }); i >= 0 {
		out.Node = entries[i].node
	}
	for _, l := range data.Links {
		if l.Accepted {
			out.FromSlaves++
		}
	}
	return out
}

// slave is this node when it is no server.
func (s *statusText) slave() ctlport.Node {
	n := slaveNode(identity(s.self))
	n.StatusTime = s.start
	return n
}

// entry is one server with what orders it.
type entry struct {
	id       ring.ID
	identity ring.Identity
	node     ctlport.Node
}

// entries returns the members, and the servers that are only configured, in
// ring order. programs is how many are attached to this node.
func (s *statusText) entries(programs int) []entry {
	servers := s.conf().Servers
	configured := make(map[ring.ID]config.Server, len(servers))
	var all []entry
	t := s.table()
	for _, c := range servers {
		m := member(s.group, s.idType, c)
		configured[m.ID] = c
		if t.Index(m.ID) < 0 {
			all = append(all, entry{m.ID, m.Identity, s.outsider(m.ID, c, programs)})
		}
	}
	if t != nil {
		for _, m := range t.Servers {
			all = append(all, entry{m.ID, m.Identity, memberNode(m, configured[m.ID])})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		switch {
		case ring.Less(s.idType, a.identity, b.identity):
			return -1
		case ring.Less(s.idType, b.identity, a.identity):
			return 1
		}
		return 0
	})
	return all
}

// memberNode shows a server as the ring has it; c, if it is configured here,
// adds what the ring does not know.
func memberNode(m ring.Server, c config.Server) ctlport.Node {
	n := ctlport.Node{
		Name: m.Name, Port: -1, CtlPort: int(m.CtlPort), CUK: m.CUK, CustomSeed: m.CustomSeed,
		Endpoints: c.Endpoints, CtlEndpoints: m.CtlEndpoints, ForwardPeers: c.ForwardPeers, ReversePeers: c.ReversePeers,
		Status: m.Status, BaseHash: m.BaseHash, PendingHash: m.PendingHash,
	}
	n.StatusTime = statusTime(m.StatusTime)
	if _, port, err := net.SplitHostPort(m.Addr); err == nil {
		if p, err := strconv.Atoi(port); err == nil {
			n.Port = p
		}
	}
	return n
}

// statusTime returns the time of a change of status; zero: unknown.
func statusTime(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// outsider shows a configured server that is no member: out of service, and
// down unless it is this very node.
func (s *statusText) outsider(id ring.ID, c config.Server, programs int) ctlport.Node {
	n := ctlport.Node{
		Name: c.Name, Port: c.Port, CtlPort: c.CtlPort, CUK: c.CUK, CustomSeed: c.CustomSeed,
		Endpoints: c.Endpoints, CtlEndpoints: c.CtlEndpoints, ForwardPeers: c.ForwardPeers, ReversePeers: c.ReversePeers,
		Status: ring.ServiceOut | ring.Down, BaseHash: -1, PendingHash: -1,
	}
	if id == s.id {
		n.Status, n.StatusTime = ring.ServiceOut|ring.Up, s.start
		if programs == 0 {
			n.Status |= ring.Suspend
		}
	}
	return n
}

// descriptor returns the number of a listener's descriptor, -1 if it has none.
func descriptor(ln net.Listener) int {
	number := -1
	c, ok := ln.(syscall.Conn)
	if !ok {
		return number
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return number
	}
	_ = raw.Control(func(fd uintptr) { number = int(fd) }) // fails only for a closed listener, which has none
	return number
}
