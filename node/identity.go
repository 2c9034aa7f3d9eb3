package node

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// identity is what a node's chmpxid is computed from.
func identity(s config.Self) ring.Identity {
	return ring.Identity{Name: s.Name, CtlPort: uint16(s.CtlPort), CUK: s.CUK, CtlEndpoints: s.CtlEndpoints, CustomSeed: s.CustomSeed}
}

// member is a configured server as the control plane knows it.
func member(group string, t ring.IDType, s config.Server) controlplane.Member {
	id := ring.Identity{Name: s.Name, CtlPort: uint16(s.CtlPort), CUK: s.CUK, CtlEndpoints: s.CtlEndpoints, CustomSeed: s.CustomSeed}
	return controlplane.Member{ID: ring.NodeID(group, t, id), Identity: id, Addr: net.JoinHostPort(s.Name, strconv.Itoa(s.Port))}
}

// ringParams are the ring-wide values of a configuration. They count only if
// this node starts the ring.
func ringParams(c *config.Config, t ring.IDType) fsm.Params {
	p := fsm.Params{
		Slots: ring.DefaultSlots, Replica: c.Replica, IDType: t,
		DeliverMode: strings.ToLower(c.DeliverMode), Placement: strings.ToLower(c.Placement),
		DoMerge: c.DoMerge, AutoMerge: c.AutoMerge, MaxVoters: c.VotersMax, MergeTimeoutS: int(c.MergeTimeout / time.Second),
	}
	if p.Placement == "chmpx" {
		p.Slots = 0 // as many as base servers
	}
	return p
}

// admit says whether a node may have a data link: a server must be configured
// here or a member of the ring, a slave must match an SLVNODE entry by the name it gives.
func (n *Node) admit(h *wire.Hello, from net.Addr) error {
	cfg := n.conf()
	if h.Role == wire.NodeServer {
		for _, s := range cfg.Servers {
			if member(cfg.Group, n.idType, s).ID == h.ID {
				return nil
			}
		}
		if n.data.View().Table.Index(h.ID) >= 0 {
			return nil
		}
		return fmt.Errorf("server %q at %v is not in the configuration of this node", h.Name, from)
	}
	for _, s := range cfg.Slaves {
		if s.Matches(h.Name) {
			return nil
		}
	}
	return fmt.Errorf("slave %q at %v matches no SLVNODE entry of this node", h.Name, from)
}

// Status is what a node knows of itself, for operators: both planes side by side.
type Status struct {
	controlplane.Status
	Data    dataplane.Status `json:"data"`
	Process ProcessStatus    `json:"process"`
	Config  ConfigStatus     `json:"config"`
}

// Status may be called from any goroutine.
func (n *Node) Status() Status {
	st := Status{Status: n.control.Status(), Data: n.data.Status(), Process: processStatus(), Config: n.configStatus()}
	for _, s := range st.Data.StandIns {
		st.Warnings = append(st.Warnings, standInWarning(s))
	}
	if failed := st.Data.NotesFailed; failed != "" {
		st.Warnings = append(st.Warnings, "this server cannot stand in for others: "+failed)
	}
	if refused := st.Config.Refused; refused != "" {
		st.Warnings = append(st.Warnings, "the configuration has been changed and cannot take effect: "+refused)
	}
	return st
}

// standInWarning says for whom this server stands in, or has.
func standInWarning(s dataplane.StandInStatus) string {
	since := time.UnixMicro(s.SinceUs).UTC().Format(time.RFC3339)
	if s.Active {
		return fmt.Sprintf("this server has stood in for %s since %s: that one cannot be reached, and nothing is decided about it; if it runs, two servers answer for its keys", s.Name, since)
	}
	return fmt.Sprintf("this server stood in for %s from %s on, and the ring has not settled yet which of the two goes on", s.Name, since)
}
