package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// caughtUpEntries is how many entries of the log a server may lack to vote.
const caughtUpEntries = 100

// member is a server in raft's configuration, as the leader judges it.
type member struct {
	id         raft.ServerID
	self       bool // the leader
	voter      bool
	superseded bool // its server has a newer id: nobody will ever speak as this one again
	up         bool // the ring lists its server as UP
	gone       bool // superseded, or not UP for long: a standby may take its vote
	ready      bool // a standby that is UP and has caught up
	stray      bool // a standby that never came up, and was not heard for long
}

// memberChange is one change of raft's configuration; at most one field is set.
type memberChange struct {
	promote raft.ServerID // a standby gets a vote
	demote  raft.ServerID // a voter becomes a standby
	remove  raft.ServerID // a superseded id goes, or a stray
}

// nextMemberChange returns what should change about the servers in raft's
// configuration, whose voters shall be odd in number, at most votersMax, and
// alive. A vote is given before another is taken, one at a time, and only while
// a majority of those that would vote then is UP. It is pure.
func nextMemberChange(members []member, votersMax int) memberChange {
	var voters, standbys []member
	servers, up, gone := 0, 0, 0
	for _, m := range members {
		if !m.superseded {
			servers++
		}
		switch {
		case m.voter:
			voters = append(voters, m)
			up += count(m.up)
			gone += count(m.gone)
		case m.superseded, m.stray:
			return memberChange{remove: m.id}
		case m.ready:
			standbys = append(standbys, m)
		}
	}
	target := votersFor(servers, votersMax)
	n, ready := len(voters), len(standbys)
	majority := func(up, voters int) bool { return up > voters/2 }
	// From an odd number a vote is given only where the next step makes it odd
	// again: one of two takes the place of a voter that is gone, or two join.
	grow := n < target && (n%2 == 0 || ready >= 2)
	replace := n%2 == 1 && n <= target
	if ready > 0 && (gone == 0 && grow || gone > 0 && replace) && majority(up+1, n+1) {
		least := slices.MinFunc(standbys, func(x, y member) int { return cmp.Compare(x.id, y.id) })
		return memberChange{promote: least.id}
	}
	if n%2 == 0 || n > target {
		m, ok := leastWanted(voters)
		switch {
		case !ok || !majority(up-count(m.up), n-1):
		case m.superseded:
			return memberChange{remove: m.id}
		default:
			return memberChange{demote: m.id}
		}
	}
	return memberChange{}
}

// leastWanted returns the voter to lose its vote: a superseded one, one that is
// gone, one that is not UP, the one that came last. Never the leader.
func leastWanted(voters []member) (member, bool) {
	rank := func(m member) int { return 4*count(m.superseded) + 2*count(m.gone) + count(!m.up) }
	others := slices.DeleteFunc(slices.Clone(voters), func(m member) bool { return m.self })
	if len(others) == 0 {
		return member{}, false
	}
	return slices.MaxFunc(others, func(x, y member) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.id, y.id))
	}), true
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// absence is since when the leader has seen members of raft not UP, by its own
// monotonic clock. It is owned by the member loop.
type absence map[raft.ServerID]time.Time

// members judges the servers in raft's configuration. That standbys have caught
// up is assumed of those that are UP: to ask them all costs too much as long as
// nobody needs them.
func (a absence) members(cluster []raft.Server, v fsm.View, self raft.ServerID, now time.Time, limit time.Duration) []member {
	newest := make(map[ring.ID]raft.ServerID)
	for _, s := range cluster {
		if owner, ok := ownerOf(s.ID); ok && !isSlaveID(s.ID) {
			newest[owner] = s.ID // a later id comes later in the list
		}
	}
	var out []member
	known := make(map[raft.ServerID]bool)
	for _, s := range cluster {
		owner, ok := ownerOf(s.ID)
		if !ok || isSlaveID(s.ID) {
			continue
		}
		listed := v.Server(owner)
		m := member{
			id: s.ID, self: s.ID == self, voter: s.Suffrage == raft.Voter, superseded: newest[owner] != s.ID,
			up: newest[owner] == s.ID && listed != nil && listed.Status.Live() == ring.Up,
		}
		known[s.ID] = true
		if m.up || m.self {
			delete(a, s.ID)
		} else if _, seen := a[s.ID]; !seen {
			a[s.ID] = now
		}
		since, away := a[s.ID]
		m.gone = m.superseded || away && now.Sub(since) >= limit
		m.ready = m.up && !m.voter
		out = append(out, m)
	}
	for id := range a {
		if !known[id] {
			delete(a, id)
		}
	}
	return out
}

// markStrays marks standbys whose admission ended half-way: the ring does not list
// their servers, and nobody has heard them for limit. A voter that has never come up
// keeps the place that the first configuration holds for it.
func (a absence) markStrays(members []member, v fsm.View, heard map[raft.ServerID]time.Time, now time.Time, limit time.Duration) {
	for i := range members {
		m := &members[i]
		owner, _ := ownerOf(m.id)
		since := a[m.id]
		if at := heard[m.id]; at.After(since) {
			since = at
		}
		m.stray = !m.voter && !m.self && v.Server(owner) == nil && now.Sub(since) >= limit
	}
}

// judgeMembers returns the next change of raft's configuration. It asks servers only
// where it makes a difference.
func (p *Plane) judgeMembers(ctx context.Context, v fsm.View, away absence) (c memberChange, stray bool) {
	now, cluster := time.Now(), p.clusterOf()
	members := away.members(cluster, v, *p.raftID.Load(), now, p.cfg.StandbyAfter)
	away.markStrays(members, v, p.node.Load().Contacts(), now, p.cfg.StrayAfter)
	c = nextMemberChange(members, v.Params.MaxVoters)
	if c.promote != "" {
		for i := range members {
			members[i].ready = members[i].ready && p.caughtUp(ctx, members[i].id)
		}
		c = nextMemberChange(members, v.Params.MaxVoters)
	}
	for {
		i := slices.IndexFunc(members, func(m member) bool { return m.id == c.remove && m.stray })
		if i < 0 || !p.comesUp(ctx, cluster, c.remove) {
			return c, i >= 0
		}
		members[i].stray, away[c.remove] = false, now // it may be about to
		c = nextMemberChange(members, v.Params.MaxVoters)
	}
}

// changeMembers makes the next change of raft's configuration, if one is due.
func (p *Plane) changeMembers(ctx context.Context, away absence) error {
	v := p.view()
	c, stray := p.judgeMembers(ctx, v, away)
	if c == (memberChange{}) {
		return nil
	}
	n := p.node.Load()
	if err := await(ctx, n.VerifyLeader()); err != nil {
		return fmt.Errorf("verify the lead: %w", err)
	}
	id := c.promote + c.demote + c.remove
	owner, _ := ownerOf(id)
	what, change := "removed from raft: it has a new id", n.RemoveServer
	switch {
	case stray:
		what = fmt.Sprintf("removed from raft: it joined, never came up, and was not heard for %v", p.cfg.StrayAfter)
	case c.promote != "":
		what = "gets a vote"
		addr := raftnode.Address(id, p.addressOf(owner))
		change = func(id raft.ServerID, prev uint64, t time.Duration) raft.IndexFuture {
			return n.AddVoter(id, addr, prev, t)
		}
	case c.demote != "":
		what, change = "is a standby from now on", n.DemoteVoter
	}
	if err := p.awaitChange(ctx, change(id, 0, memberTimeout)); err != nil {
		return fmt.Errorf("%s %s: %w", id, what, err)
	}
	p.log.Info("server "+what, "server", p.nameOf(v, owner), "raft_id", string(id))
	p.members.raise() // there may be a second step
	return nil
}

// comesUp reports whether a server runs, as this member of raft or on the way to
// be one of whatever id. Of one that is not configured here raft knows the address.
func (p *Plane) comesUp(ctx context.Context, cluster []raft.Server, id raft.ServerID) bool {
	owner, _ := ownerOf(id)
	a := answer{member: Member{ID: owner, Addr: p.addressOf(owner)}}
	if i := memberIndex(cluster, id); a.member.Addr == "" && i >= 0 {
		_, a.member.Addr, _ = strings.Cut(string(cluster[i].Address), "@")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p.probe(ctx, &a)
	return a.ok && a.ID == owner && (a.RaftID == "" || a.RaftID == string(id))
}

// caughtUp asks a server how much of the log it has applied.
func (p *Plane) caughtUp(ctx context.Context, id raft.ServerID) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	owner, _ := ownerOf(id)
	a := answer{member: Member{ID: owner, Addr: p.addressOf(owner)}}
	p.probe(ctx, &a)
	return a.ok && a.RaftID == string(id) && a.Applied+caughtUpEntries >= p.node.Load().CommitIndex()
}
