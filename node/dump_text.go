package node

import (
	"os"
	"slices"
	"strconv"

	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// showDump is DUMP.
func (s *statusText) showDump() ctlport.Dump {
	data, view, cfg := s.data(), s.view(), s.conf()
	entries := s.entries(data.Programs)
	d := ctlport.Dump{
		Self: s.showSelf(), Operating: view.Operating(), Revision: cfg.Revision, Date: cfg.Date, Replica: cfg.Replica,
		NodesMax: number(cfg.Value("MAXCHMPX")), PID: os.Getpid(), Start: s.start,
		Options: ctlport.Options{
			IDType: s.idType, Random: cfg.DeliverMode == "RANDOM", AutoMerge: cfg.AutoMerge, SuspendMerge: view.SuspendMerge,
			DoMerge: cfg.DoMerge, MergeTimeout: cfg.MergeTimeout, History: s.trace.Max(),
		},
	}
	if view.RingID != 0 { // what the ring has counts
		d.Replica, d.Options.Random = view.Params.Replica, view.Params.DeliverMode == "random"
	}
	for _, a := range data.Attached {
		if !a.Ended {
			d.Programs = append(d.Programs, a.PID)
		}
	}
	for _, e := range entries {
		d.Servers = append(d.Servers, ctlport.Peer{Node: e.node, ID: e.id, Socket: dialled(data, e.id)})
	}
	d.Slaves = s.openers(data, entries, view)
	d.Base = placed(d.Servers, func(n ctlport.Node) int32 { return n.BaseHash })
	d.Pending = placed(d.Servers, func(n ctlport.Node) int32 { return n.PendingHash })
	return d
}

// openers returns the nodes whose links this one has accepted, as CHMPX shows
// them: a server that has opened one is a slave here. A slave that the ring does
// not list yet is left out, because its control port is not known.
func (s *statusText) openers(data dataplane.Status, servers []entry, view fsm.View) []ctlport.Peer {
	var all []ctlport.Peer
	for _, l := range data.Links {
		if !l.Accepted || l.Socket < 0 {
			continue
		}
		p := ctlport.Peer{ID: ring.ID(l.Peer), Slave: true, Socket: l.Socket}
		if i := slices.IndexFunc(servers, func(e entry) bool { return e.id == ring.ID(l.Peer) }); i >= 0 {
			p.Node = slaveNode(servers[i].identity)
			p.StatusTime = servers[i].node.StatusTime
		} else if i := slices.IndexFunc(view.Slaves, func(v fsm.Slave) bool { return v.ID == ring.ID(l.Peer) }); i >= 0 {
			p.Node = slaveNode(view.Slaves[i].Identity)
			p.StatusTime = statusTime(view.Slaves[i].StatusTime)
		} else {
			continue
		}
		all = append(all, p)
	}
	return all
}

// slaveNode shows a node as a slave.
func slaveNode(id ring.Identity) ctlport.Node {
	return ctlport.Node{
		Name: id.Name, Port: -1, CtlPort: int(id.CtlPort), CUK: id.CUK, CustomSeed: id.CustomSeed, CtlEndpoints: id.CtlEndpoints,
		Status: ring.Slave | ring.Up, BaseHash: -1, PendingHash: -1,
	}
}

// dialled returns the descriptor of this node's own link to a server, -1 if it has none.
func dialled(data dataplane.Status, to ring.ID) int {
	for _, l := range data.Links {
		if ring.ID(l.Peer) == to && !l.Accepted {
			return l.Socket
		}
	}
	return -1
}

// placed returns the servers that have a number, in the order of these numbers.
func placed(servers []ctlport.Peer, number func(ctlport.Node) int32) []ring.ID {
	var with []ctlport.Peer
	for _, p := range servers {
		if number(p.Node) >= 0 {
			with = append(with, p)
		}
	}
	slices.SortFunc(with, func(a, b ctlport.Peer) int { return int(number(a.Node) - number(b.Node)) })
	ids := make([]ring.ID, 0, len(with))
	for _, p := range with {
		ids = append(ids, p.ID)
	}
	return ids
}

// passages is what TRACEVIEW shows.
func (n *Node) passages() []ctlport.Trace {
	var all []ctlport.Trace
	for _, p := range n.data.History() {
		all = append(all, ctlport.Trace{Out: p.Out, MQ: p.Program, Bytes: p.Bytes, At: p.At})
	}
	return all
}

// number returns a value of the configuration that was checked when it was read.
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
