package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// Rules of membership.
const (
	memberTick    = 500 * time.Millisecond
	memberTimeout = 5 * time.Second
	slavePace     = 50 * time.Millisecond // 20 slaves a second
	slaveQueueMax = 2 * time.Second
	slavesMax     = 64 // RAFTMAXSLAVES
	slaveSuffix   = ".s"
)

// joinServerBody asks for admission as a member of raft.
type joinServerBody struct {
	RaftID string     `json:"raft_id"` // a new random id, the same at each attempt; with Again that of its log
	Addr   string     `json:"addr"`
	Levels fsm.Levels `json:"levels,omitzero"`
	// Again: it was a member under this id, has its log, and was never UP.
	Again bool `json:"again,omitempty"`
}

// joinSlaveBody asks for admission as a slave, or reports a new start.
type joinSlaveBody struct {
	RaftID string        `json:"raft_id"`
	Slave  ring.Identity `json:"slave"`
	Boot   uint64        `json:"boot"`
	Levels fsm.Levels    `json:"levels,omitzero"`
}

// joinAnswer says under which raft id the caller is a member.
type joinAnswer struct {
	RaftID string `json:"raft_id"`
}

// serveJoinServer admits a server without state: as the first voter that it is
// expected to be and has never been, else under the new id that it brought. One
// whose admission ended half-way may go on with its log under the old id.
func (p *Plane) serveJoinServer(ctx context.Context, req *request) *response {
	var body joinServerBody
	if err := json.Unmarshal(req.Body, &body); err != nil || req.Slave {
		return &response{Code: codeRefused, Text: "join that cannot be read, or of a slave"}
	}
	want := raft.ServerID(body.RaftID)
	if owner, ok := ownerOf(want); !ok || owner != req.From || isSlaveID(want) || want == firstRaftID(req.From) && !body.Again {
		return &response{Code: codeRefused, Text: fmt.Sprintf("raft id %q does not belong to %s", want, req.From)}
	}
	if err := p.isServer(ctx, req); err != nil {
		return p.reply(nil, err)
	}
	if p.view().Member(req.From).Forget {
		return &response{Code: codeFailed, Text: fmt.Sprintf("%s is being forgotten by the ring", req.From)}
	}
	cluster := p.clusterOf()
	if body.Again && hasOther(cluster, req.From, want) {
		return &response{Code: codeRefused, Text: fmt.Sprintf("%s is a member of the ring under a newer raft id than that of this data directory: move the directory away and start it again", req.From)}
	}
	first := firstRaftID(req.From)
	if p.view().Boot(req.From) == 0 && memberIndex(cluster, first) >= 0 {
		return p.reply(joinAnswer{RaftID: string(first)}, p.view().Admits(req.From, body.Levels))
	}
	err := p.admit(ctx, body.Levels, want, raftnode.Address(want, body.Addr))
	if err == nil {
		p.log.Info("server joins the ring", "server", req.From.String(), "addr", body.Addr, "raft_id", body.RaftID)
		p.members.raise()
	}
	return p.reply(joinAnswer{RaftID: body.RaftID}, err)
}

// serveJoinSlave admits a slave, or a new start of one: only the first costs a
// change of raft's configuration.
func (p *Plane) serveJoinSlave(ctx context.Context, req *request) *response {
	var body joinSlaveBody
	if err := json.Unmarshal(req.Body, &body); err != nil || !req.Slave {
		return &response{Code: codeRefused, Text: "join that cannot be read, or not of a slave"}
	}
	id := slaveRaftID(req.From)
	if raft.ServerID(body.RaftID) != id || p.configuredServer(req.From) != nil {
		return &response{Code: codeRefused, Text: fmt.Sprintf("raft id %q does not belong to slave %s", body.RaftID, req.From)}
	}
	if !p.slaveTurn(ctx) {
		return &response{Code: codeFailed, Text: "too many slaves join at once"}
	}
	cluster := p.clusterOf()
	slaves := 0
	for _, m := range cluster {
		if isSlaveID(m.ID) {
			slaves++
		}
	}
	if memberIndex(cluster, id) < 0 && slaves >= slavesMax {
		return &response{Code: codeFailed, Text: fmt.Sprintf("the ring has %d slaves, at most %d allowed", slaves, slavesMax)}
	}
	err := p.admit(ctx, body.Levels, id, raftnode.Address(id, ""))
	if err == nil && !slaveIsUp(p.view(), req.From, body.Boot) {
		_, err = p.proposeHere(ctx, fsm.SlaveUp{ID: req.From, Slave: body.Slave, Boot: body.Boot, Levels: body.Levels})
	}
	return p.reply(joinAnswer{RaftID: string(id)}, err)
}

// slaveTurn keeps the pace of admissions: it waits for the caller's turn.
func (p *Plane) slaveTurn(ctx context.Context) bool {
	now := time.Now()
	p.mu.Lock()
	at := p.slaveJoin
	if at.Before(now) {
		at = now
	}
	if at.Sub(now) > slaveQueueMax {
		p.mu.Unlock()
		return false
	}
	p.slaveJoin = at.Add(slavePace)
	p.mu.Unlock()
	sleep(ctx, at.Sub(now))
	return ctx.Err() == nil
}

// admit makes id a member of raft, if a node of these levels can be one.
func (p *Plane) admit(ctx context.Context, l fsm.Levels, id raft.ServerID, addr raft.ServerAddress) error {
	release, err := p.inOrder(ctx, p.older(l))
	if err != nil {
		return err
	}
	if !p.upToDate() {
		err = errJustElected
	} else {
		owner, _ := ownerOf(id)
		err = p.view().Admits(owner, l)
	}
	if err != nil {
		release()
		return err
	}
	return p.addNonvoter(ctx, p.clusterOf(), id, addr, release)
}

// addNonvoter makes id a member if it is none. It waits for the commit, within
// ctx; decided is called when raft has decided.
func (p *Plane) addNonvoter(ctx context.Context, cluster []raft.Server, id raft.ServerID, addr raft.ServerAddress, decided func()) error {
	if i := memberIndex(cluster, id); i >= 0 && (cluster[i].Address == addr || cluster[i].Suffrage == raft.Voter) {
		decided()
		return nil
	}
	f := releasing{p.node.Load().AddNonvoter(id, addr, 0, memberTimeout), decided}
	if err := p.awaitChange(ctx, f); err != nil {
		return fmt.Errorf("add %s to raft: %w", id, err)
	}
	return nil
}

// await waits for a future of raft within ctx. The goroutine ends with the
// future: by a commit, the loss of the lead, or shutdown.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changeNudge is how often a change of raft's configuration that is not
// committed yet is followed by an entry.
const changeNudge = 500 * time.Millisecond

// awaitChange waits for a change of raft's configuration within ctx. A server
// that the change gives a vote may have stored the entry before raft counts its
// vote; raft then does not count it before the next entry, and in a quiet ring
// none comes. So a barrier is asked for until the change is committed.
func (p *Plane) awaitChange(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	p.asked.Add(1)
	go func() { // ends as that of await
		defer p.asked.Add(-1)
		done <- f.Error()
	}()
	tick := time.NewTicker(changeNudge)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			p.commits.raise() // raft takes no snapshot while the state machine has seen no entry behind a configuration
			return err
		case <-tick.C:
			p.commits.raise()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func memberIndex(cluster []raft.Server, id raft.ServerID) int {
	return slices.IndexFunc(cluster, func(s raft.Server) bool { return s.ID == id })
}

// hasOther reports whether a server is a member of raft under another id.
func hasOther(cluster []raft.Server, server ring.ID, id raft.ServerID) bool {
	return slices.ContainsFunc(cluster, func(s raft.Server) bool {
		owner, ok := ownerOf(s.ID)
		return ok && owner == server && s.ID != id && !isSlaveID(s.ID)
	})
}

func slaveRaftID(id ring.ID) raft.ServerID { return raft.ServerID(id.String() + slaveSuffix) }

func slaveIsUp(v fsm.View, id ring.ID, boot uint64) bool {
	return slices.ContainsFunc(v.Slaves, func(s fsm.Slave) bool {
		return s.ID == id && s.Boot == boot && s.Status.Live() == ring.Up
	})
}

// memberLoop keeps raft's configuration and the list of slaves in order.
func (p *Plane) memberLoop(ctx context.Context, since time.Time) {
	tick := time.NewTicker(memberTick)
	defer tick.Stop()
	away := make(absence)
	for {
		select {
		case <-p.members:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := p.changeMembers(ctx, away); err != nil && ctx.Err() == nil {
			p.log.Warn("cannot change the members of raft", "err", err)
		}
		if err := p.forget(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("cannot forget a server", "err", err)
		}
		p.watchSlaves(ctx, since)
	}
}

// watchSlaves declares slaves DOWN whose session is gone, and removes those
// that have been DOWN for long. since is when this node took the lead: slaves
// need a moment to open a session with it.
func (p *Plane) watchSlaves(ctx context.Context, since time.Time) {
	now := time.Now()
	for _, s := range p.view().Slaves {
		id := slaveRaftID(s.ID)
		has, gone := p.sessions.Has(string(id))
		if gone.Before(since) {
			gone = since
		}
		var err error
		switch up := s.Status.Live() == ring.Up; {
		case has:
		case up && now.Sub(gone) >= p.cfg.SlaveGrace:
			_, err = p.proposeHere(ctx, fsm.SlaveDown{ID: s.ID, Boot: s.Boot})
			if err == nil {
				p.log.Info("slave is down", "slave", s.Name, "ctlport", int(s.CtlPort))
			}
		case !up && fault.Wall(now).Sub(time.UnixMicro(s.StatusTime)) >= p.cfg.SlaveGC && now.Sub(gone) >= p.cfg.SlaveGrace:
			err = p.removeSlave(ctx, s)
		}
		if err != nil && ctx.Err() == nil {
			p.log.Debug("slave not changed", "slave", s.Name, "err", err)
		}
	}
	p.removeStraySlaves(ctx, since, now)
}

// removeStraySlaves removes slaves that are members of raft and not listed by
// the ring: their admission ended in between, and they never came back.
func (p *Plane) removeStraySlaves(ctx context.Context, since, now time.Time) {
	listed := p.view().Slaves
	for _, m := range p.clusterOf() {
		owner, _ := ownerOf(m.ID)
		if !isSlaveID(m.ID) || slices.ContainsFunc(listed, func(s fsm.Slave) bool { return s.ID == owner }) {
			continue
		}
		has, gone := p.sessions.Has(string(m.ID))
		if gone.Before(since) {
			gone = since
		}
		if has || now.Sub(gone) < p.cfg.SlaveGC {
			continue
		}
		if err := p.awaitChange(ctx, p.node.Load().RemoveServer(m.ID, 0, memberTimeout)); err != nil {
			p.log.Debug("stray slave not removed", "raft_id", string(m.ID), "err", err)
			return
		}
		p.sessions.Forget(string(m.ID))
	}
}

// forget removes servers that are to be forgotten, whoever led when an operator said
// so. They leave raft's configuration before the ring's list: the other way round one
// would look like a server that is about to join.
func (p *Plane) forget(ctx context.Context) error {
	v := p.view()
	for _, m := range v.Members {
		if !m.Forget {
			continue
		}
		for _, s := range p.clusterOf() {
			if owner, ok := ownerOf(s.ID); !ok || owner != m.ID || isSlaveID(s.ID) {
				continue
			}
			if err := p.awaitChange(ctx, p.node.Load().RemoveServer(s.ID, 0, memberTimeout)); err != nil {
				return fmt.Errorf("remove %s from raft, which is to be forgotten: %w", s.ID, err)
			}
		}
		if _, err := p.proposeHere(ctx, fsm.ServerForgotten{ID: m.ID}); err != nil {
			return err
		}
		p.log.Info("server is forgotten", "server", serverName(v, m.ID), "id", m.ID.String())
	}
	return nil
}

func (p *Plane) removeSlave(ctx context.Context, s fsm.Slave) error {
	id := slaveRaftID(s.ID)
	if memberIndex(p.clusterOf(), id) >= 0 {
		if err := p.awaitChange(ctx, p.node.Load().RemoveServer(id, 0, memberTimeout)); err != nil {
			return fmt.Errorf("remove %s: %w", id, err)
		}
	}
	if _, err := p.proposeHere(ctx, fsm.SlaveForget{ID: s.ID}); err != nil {
		return err
	}
	p.sessions.Forget(string(id))
	p.log.Info("slave is removed", "slave", s.Name, "ctlport", int(s.CtlPort))
	return nil
}
