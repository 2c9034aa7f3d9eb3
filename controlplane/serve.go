package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

// evidenceBody is what a server observes of all others.
type evidenceBody struct {
	Links    []ring.Evidence `json:"links"`
	StandIns []ring.StandIn  `json:"stand_ins,omitempty"`
}

// waitsBytesMax bounds what a server says of itself to others, who may repeat it.
const waitsBytesMax = 1000

// evidenceLinksMax bounds what one observer may report.
const evidenceLinksMax = 1024

// handle answers one request. It is called from many goroutines.
func (p *Plane) handle(ctx context.Context, req *request) *response {
	own := p.realm.Load()
	switch {
	case req.Group != p.cfg.Group:
		return &response{Code: codeGroup, Text: fmt.Sprintf("group %q, ours is %q", req.Group, p.cfg.Group)}
	case req.RingID != 0 && own != 0 && req.RingID != own:
		return &response{Code: codeOtherRing, Text: fmt.Sprintf("ring %016x, ours is %016x", req.RingID, own)}
	case req.Op == opProbe:
		return p.reply(p.answerProbe(req), nil)
	case req.From == 0 || !req.Slave && !p.knows(req.From):
		return &response{Code: codeRefused, Text: fmt.Sprintf("server %s is not in our configuration", req.From)}
	case req.Op == opWho:
		return p.reply(whoAnswer{Boot: p.bootAt(ctx, req.From), Level: p.view().LevelNeeded(req.From)}, nil)
	case req.Op == opStandIns && !req.Slave:
		return p.reply(standInsAnswer{Notes: p.standIns(true)}, nil)
	case !p.leads():
		_, addr := p.leader()
		return &response{Code: codeNotLeader, Leader: addr}
	case !p.leading.Load() || !p.upToDate():
		return p.reply(nil, errJustElected)
	}
	switch req.Op {
	case opPropose:
		return p.servePropose(ctx, req)
	case opCommand:
		return p.serveCommand(ctx, req)
	case opRead:
		return p.serveRead(ctx)
	case opEvidence:
		return p.serveEvidence(req)
	case opJoinServer:
		return p.serveJoinServer(ctx, req)
	case opJoinSlave:
		return p.serveJoinSlave(ctx, req)
	}
	return &response{Code: codeRefused, Text: fmt.Sprintf("unknown request %q", req.Op)}
}

// reply makes a response of a body or an error.
func (p *Plane) reply(body any, err error) *response {
	switch {
	case errors.Is(err, fsm.ErrLevel):
		return &response{Code: codeLevel, Text: err.Error()}
	case errors.Is(err, ErrRefused):
		return &response{Code: codeRefused, Text: err.Error()}
	case errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost):
		_, addr := p.leader()
		return &response{Code: codeNotLeader, Leader: addr, Uncertain: errors.Is(err, ErrUncertain)}
	case err != nil:
		return &response{Code: codeFailed, Text: err.Error(), Uncertain: errors.Is(err, ErrUncertain)}
	}
	b, err := json.Marshal(body)
	if err != nil {
		return &response{Code: codeFailed, Text: err.Error()}
	}
	return &response{Body: b}
}

func (p *Plane) answerProbe(req *request) probeAnswer {
	a := probeAnswer{ID: p.cfg.Self.ID, Boot: p.boot, Digest: p.digest, RingID: p.realm.Load(), Empty: !p.hadState && !p.cfg.Slave}
	a.Bootstrap, a.LastIndex = p.cfg.Bootstrap, p.lastEntry.Load()
	_, a.Leader = p.leader()
	if id := p.raftID.Load(); id != nil {
		a.RaftID = string(*id)
	}
	if n := p.node.Load(); n != nil {
		a.Applied = n.AppliedIndex()
		// A first voter that knows only the first configuration has no ring yet.
		a.LastIndex = n.LastIndex()
		a.Bootstrap = p.alone.Load()
		a.Empty = a.RaftID == string(firstRaftID(a.ID)) && n.LastIndex() <= 1 && a.RingID == 0
	}
	if a.Leader != "" && !req.Slave && req.RaftID != "" && (req.RingID == a.RingID || req.RingID == 0) {
		a.Removed = memberIndex(p.clusterOf(), raft.ServerID(req.RaftID)) < 0
	}
	a.Bootstrap = a.Bootstrap && (a.Empty || a.RaftID == "")
	a.Waits = p.waiting()
	a.Waits = a.Waits[:min(len(a.Waits), waitsBytesMax)]
	return a
}

func (p *Plane) servePropose(ctx context.Context, req *request) *response {
	c, err := p.proposed(req)
	if err != nil {
		return p.reply(nil, err)
	}
	if !mayPropose(req, c.Body) {
		return &response{Code: codeRefused, Text: fmt.Sprintf("%s may not propose this %s", req.From, c.Type())}
	}
	if up, ok := c.Body.(fsm.ServerUp); ok {
		if err := p.mayComeUp(ctx, req, up); err != nil {
			return p.reply(nil, err)
		}
		if err := p.mayApply(c); err != nil { // servers hold back a stand-in when they are asked for notes
			return p.reply(nil, err)
		}
		if err := p.collectStandIns(ctx, up); err != nil {
			return p.reply(nil, err)
		}
	}
	res, err := p.apply(ctx, c)
	return p.proposeReply(res, err)
}

// proposed decodes the command in a request: a bad entry in the log would stop
// every node.
func (p *Plane) proposed(req *request) (fsm.Command, error) {
	var body proposeBody
	if err := json.Unmarshal(req.Body, &body); err != nil {
		return fsm.Command{}, fmt.Errorf("%w: decode request: %w", ErrRefused, err)
	}
	c, err := fsm.Decode(body.Command)
	return c, p.understood(c, err)
}

// proposeReply makes a response of what apply returned.
func (p *Plane) proposeReply(res fsm.Result, err error) *response {
	if err == nil && res.Err != nil {
		is := fsm.RefusalText(res.Err)
		return &response{Code: codeRefused, Text: res.Err.Error(), Refusal: is, Uncertain: is == ""} // a leader that cannot read its log
	}
	return p.reply(proposeAnswer{Index: res.Index}, err)
}

// mayPropose reports whether a node may propose this: servers and slaves speak
// of themselves only.
func mayPropose(req *request, body fsm.Body) bool {
	if req.Slave {
		b, ok := body.(fsm.SlaveDown)
		return ok && b.ID == req.From
	}
	switch b := body.(type) {
	case fsm.ServerUp:
		return b.ID == req.From
	case fsm.NodeDown:
		return b.ID == req.From
	case fsm.ProgramsChanged:
		return b.ID == req.From
	case fsm.TransferReady:
		return b.Donor == req.From || b.Receiver == req.From
	case fsm.TransferFinal:
		return b.Donor == req.From || b.Receiver == req.From
	}
	return false
}

func (p *Plane) serveEvidence(req *request) *response {
	var body evidenceBody
	if err := json.Unmarshal(req.Body, &body); err != nil || req.Slave || max(len(body.Links), len(body.StandIns)) > evidenceLinksMax {
		return &response{Code: codeRefused, Text: "evidence that cannot be read, or of a slave"}
	}
	o := observer{at: time.Now(), standIns: body.StandIns, links: make(map[ring.ID]ring.Evidence, len(body.Links))}
	for _, e := range body.Links {
		o.links[e.Peer] = e
	}
	p.mu.Lock()
	p.observed[req.From] = o // bounded: only servers of the configuration get here
	p.mu.Unlock()
	p.judging.raise()
	return &response{}
}

// serveRaft takes connections of KindRaft from the mux.
func (p *Plane) serveRaft(conn net.Conn) {
	if s := p.stream.Load(); s != nil {
		s.Deliver(conn)
		return
	}
	conn.Close() // raft does not run yet; the other side tries again
}

// dialRaft opens raft's connections: to servers by TCP, to slaves through
// their sessions.
func (p *Plane) dialRaft(ctx context.Context, id raft.ServerID, addr string) (net.Conn, error) {
	if isSlaveID(id) {
		return p.sessions.Dial(ctx, string(id))
	}
	if addr == "" {
		return nil, fmt.Errorf("dial raft member %s: its address is unknown", id)
	}
	return mux.Dial(ctx, p.cfg.Dial, addr, mux.KindRaft)
}

// raftAddress resolves a raft id at dial time.
func (p *Plane) raftAddress(id raft.ServerID) (string, bool) {
	if isSlaveID(id) {
		return "", true
	}
	owner, _ := ownerOf(id)
	addr := p.addressOf(owner)
	return addr, addr != ""
}

// admitSession decides who may open a session.
func (p *Plane) admitSession(h mux.SessionHello) error {
	if h.Group != p.cfg.Group {
		return fmt.Errorf("%w: group %q, ours is %q", ErrOtherRing, h.Group, p.cfg.Group)
	}
	owner, ok := ownerOf(raft.ServerID(h.ID))
	if !ok || !isSlaveID(raft.ServerID(h.ID)) || p.configuredServer(owner) != nil {
		return fmt.Errorf("%w: %q is no id of a slave", ErrRefused, h.ID)
	}
	if needed := p.view().LevelNeeded(owner); max(1, h.Level) < needed {
		return fmt.Errorf("%w: slave %s speaks up to level %d and the ring needs %d", fsm.ErrLevel, h.Name, max(1, h.Level), needed)
	}
	return nil
}
