package controlplane

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Timings of the first start.
const (
	probeTimeout = time.Second
	startRetry   = 250 * time.Millisecond
	joinTimeout  = 10 * time.Second

	// bootstrapLook is how long a server with --bootstrap lets others see that it
	// starts a ring: longer than any of them needs from its questions to its start.
	bootstrapLook = probeTimeout + 2*startRetry
)

// probeAnswer is what a server says of itself.
type probeAnswer struct {
	ID      ring.ID `json:"id"`
	Boot    uint64  `json:"boot"`
	Empty   bool    `json:"empty"` // raft has not got past its first configuration
	Digest  string  `json:"digest"`
	RingID  uint64  `json:"ring_id,omitempty"`
	RaftID  string  `json:"raft_id,omitempty"`
	Applied uint64  `json:"applied"`
	Leader  string  `json:"leader,omitempty"` // host:port, empty: none known

	Bootstrap bool   `json:"bootstrap,omitempty"` // it is starting a ring of one, or going on alone with the one it has
	LastIndex uint64 `json:"last_index,omitempty"`
	Waits     string `json:"waits,omitempty"`   // what it waits for
	Removed   bool   `json:"removed,omitempty"` // the ring has a leader, and who asks is no member of raft
}

// answer is what came of probing one server.
type answer struct {
	member  Member
	ok      bool // it answered
	refused bool // it belongs to another group or ring
	foreign bool // it belongs to another ring of our group
	probeAnswer
}

// startKind is what a server without state does.
type startKind uint8

// The kinds of a first start.
const (
	startWait startKind = iota
	startBootstrap
	startJoin
	startAlone // a ring of one
)

// newcomer is a server without state.
type newcomer struct {
	self      ring.ID
	digest    string
	voters    []Member // of the ring that all servers would start together
	bootstrap bool     // --bootstrap
	seen      string   // who answered with a ring before and does not answer now
	looked    bool     // others have had the time to see that this one starts a ring
}

// startDecision is what decideStart found, and what to tell the operator.
type startDecision struct {
	kind startKind
	why  string
}

// firstVoters returns the members that a new ring starts with: the lowest
// chmpxids, an odd number of them. members are sorted by id.
func firstVoters(members []Member, votersMax int) []Member {
	return members[:votersFor(len(members), votersMax)]
}

// votersFor returns how many of n servers vote: an odd number, for an even one
// needs one more for a majority and survives no more failures.
func votersFor(n, votersMax int) int {
	n = min(n, votersMax)
	if n%2 == 0 {
		n--
	}
	return max(n, 1)
}

// firstRaftID is the raft id of a first voter.
func firstRaftID(id ring.ID) raft.ServerID { return raft.ServerID(id.String() + ".0") }

// decideStart decides about a server without state, from what the others say
// of themselves. It is pure.
func decideStart(n newcomer, answers []answer) startDecision {
	var differ []Member
	var alone *Member // who starts a ring of one
	started := false  // somebody has begun to start a ring with others
	empty := map[ring.ID]bool{n.self: true}
	for _, a := range answers {
		switch {
		case a.refused:
			differ = append(differ, a.member)
		case a.ok && !a.Empty:
			return startDecision{kind: startJoin, why: "the ring that " + a.member.Addr + " belongs to"}
		case a.ok && a.Digest != n.digest:
			differ = append(differ, a.member)
		case a.ok:
			empty[a.member.ID] = true
		}
		started = started || a.ok && a.RaftID != "" && !a.Bootstrap
		if a.ok && a.Bootstrap && (!n.bootstrap || a.member.ID < n.self) {
			alone = &a.member
		}
	}
	switch {
	case n.seen != "":
		return startDecision{why: "waiting for the ring that " + n.seen + " belongs to, which does not answer any more"}
	case started: // it will need us, or we it
	case alone != nil:
		return startDecision{why: "waiting for the ring that " + alone.Addr + " starts with --bootstrap"}
	case n.bootstrap && !n.looked:
		return startDecision{why: "looking for a ring of this group before one is started here (--bootstrap)"}
	case n.bootstrap:
		return startDecision{kind: startAlone}
	}
	return startTogether(n, empty, differ)
}

// seenRing notes in seen who has a ring by these answers, and returns one that
// had one by earlier ones and is silent now: that ring is not to be replaced by
// a new one because of a restart.
func seenRing(seen map[ring.ID]bool, answers []answer) (silent string) {
	for _, a := range answers {
		switch {
		case a.ok && !a.Empty:
			seen[a.member.ID] = true
		case a.ok || a.refused:
			delete(seen, a.member.ID)
		case seen[a.member.ID]:
			silent = a.member.Addr
		}
	}
	return silent
}

// startTogether decides by the servers that have no ring and the same
// configuration: a majority of the first voters starts one.
func startTogether(n newcomer, empty map[ring.ID]bool, differ []Member) startDecision {
	have, votes := 0, false
	var missing []Member
	for _, v := range n.voters {
		votes = votes || v.ID == n.self
		if empty[v.ID] {
			have++
		} else {
			missing = append(missing, v)
		}
	}
	need := len(n.voters)/2 + 1
	if votes && have >= need {
		return startDecision{kind: startBootstrap}
	}
	var why string
	switch {
	case !votes:
		why = "waiting for a ring to join: it is started by " + addrs(n.voters)
	default:
		why = fmt.Sprintf("waiting for %d of %d servers: %s", len(missing), len(n.voters), addrs(missing))
		if more := need - have; more < len(missing) {
			why += fmt.Sprintf(" (%d of them will do)", more)
		}
	}
	if len(differ) > 0 {
		why += fmt.Sprintf("; %s has another configuration (group, servers or ring parameters differ from ours)", addrs(differ))
	}
	return startDecision{why: why}
}

// digestOf returns what two servers compare before they start a ring together.
func digestOf(group string, servers []Member, params fsm.Params) string {
	type member struct {
		ID ring.ID
		ring.Identity
	}
	in := struct {
		Group   string
		Servers []member
		Params  fsm.Params
	}{Group: group, Params: params}
	for _, m := range servers {
		in.Servers = append(in.Servers, member{m.ID, m.Identity})
	}
	b, err := json.Marshal(in)
	if err != nil {
		panic("BUG: controlplane: the configuration cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// probeAll asks every other server of the configuration.
func (p *Plane) probeAll(ctx context.Context) []answer {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var others []Member
	for _, m := range p.configured() {
		if m.ID != p.cfg.Self.ID {
			others = append(others, m)
		}
	}
	out := make([]answer, len(others))
	var wg sync.WaitGroup
	for i, m := range others {
		out[i].member = m
		wg.Go(func() { p.probe(ctx, &out[i]) }) // awaited below
	}
	wg.Wait()
	return out
}

// probe asks one server.
func (p *Plane) probe(ctx context.Context, a *answer) {
	resp, err := p.client.call(ctx, a.member.Addr, p.request(opProbe, nil))
	if err != nil {
		return
	}
	a.refused, a.foreign = errors.Is(resp.err(), ErrOtherRing), resp.Code == codeOtherRing
	a.ok = resp.err() == nil && json.Unmarshal(resp.Body, &a.probeAnswer) == nil
}

// startServer brings raft up on a server: with the state on disk, or by
// starting a ring together with others, or by joining one. It returns early
// when ctx ends.
func (p *Plane) startServer(ctx context.Context) error {
	if p.hadState {
		return p.startAgain(ctx)
	}
	want := raft.ServerID(p.cfg.Self.ID.String() + "." + raftnode.RandomSuffix())
	me := newcomer{
		self: p.cfg.Self.ID, digest: p.digest, bootstrap: p.cfg.Bootstrap,
		voters: firstVoters(p.configured(), p.cfg.Params.MaxVoters),
	}
	began := time.Now()
	seen := make(map[ring.ID]bool)
	for ctx.Err() == nil {
		me.looked = time.Since(began) >= bootstrapLook
		answers := p.probeAll(ctx)
		me.seen = seenRing(seen, answers)
		d := decideStart(me, answers)
		switch d.kind {
		case startBootstrap:
			p.log.Info("starting a ring", "group", p.cfg.Group, "voters", addrs(me.voters))
			return p.startFresh(firstRaftID(p.cfg.Self.ID), me.voters)
		case startAlone:
			p.log.Info("starting a ring of one: --bootstrap is given and nobody answers with a ring of this group", "group", p.cfg.Group, "server", p.cfg.Self.Addr)
			p.alone.Store(true)
			return p.startFresh(firstRaftID(p.cfg.Self.ID), []Member{p.cfg.Self})
		case startJoin:
			id, err := p.askToJoin(ctx, answers, want, false)
			if err == nil {
				p.log.Info("joining "+d.why, "group", p.cfg.Group, "raft_id", string(id))
				return p.startFresh(id, nil)
			}
			d.why = "joining " + d.why + ": " + err.Error()
		}
		p.setWaiting(d.why, slog.LevelInfo)
		sleep(ctx, startRetry)
	}
	return nil
}

// askToJoin asks the leader for admission; the answers say who leads. See Again
// of joinServerBody.
func (p *Plane) askToJoin(ctx context.Context, answers []answer, want raft.ServerID, again bool) (raft.ServerID, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	leader, inRing := "", []string{}
	for _, a := range answers {
		if a.ok && !a.Empty {
			inRing = append(inRing, fmt.Sprintf("%s (it says: %s)", a.member.Addr, cmp.Or(a.Waits, "nothing")))
			if a.Leader != "" {
				leader = a.Leader
			}
		}
	}
	if leader == "" {
		return "", fmt.Errorf("%w: asked %s", ErrNoLeader, strings.Join(inRing, ", "))
	}
	body := joinServerBody{RaftID: string(want), Addr: p.cfg.Self.Addr, Levels: p.cfg.Build.Speaks().Brief(), Again: again}
	resp, err := p.client.call(ctx, leader, p.request(opJoinServer, body))
	if err != nil {
		return "", err
	}
	if err := resp.err(); err != nil {
		return "", err
	}
	var a joinAnswer
	if err := json.Unmarshal(resp.Body, &a); err != nil {
		return "", fmt.Errorf("decode answer of %s: %w", leader, err)
	}
	if owner, ok := ownerOf(raft.ServerID(a.RaftID)); !ok || owner != p.cfg.Self.ID {
		return "", fmt.Errorf("%w: %s gave us the raft id %q", errRPC, leader, a.RaftID)
	}
	return raft.ServerID(a.RaftID), nil
}

// startFresh records the raft id and starts raft without state, with voters as
// first configuration if there are any.
func (p *Plane) startFresh(id raft.ServerID, voters []Member) error {
	// What may lie there of an earlier ring, whose log is gone, goes first.
	if err := p.dir.SetRealm(realmText(0)); err != nil {
		return err
	}
	if err := p.dir.SetRaftID(id); err != nil {
		return err
	}
	var servers []raft.Server
	for _, v := range voters {
		servers = append(servers, raft.Server{
			Suffrage: raft.Voter, ID: firstRaftID(v.ID), Address: raftnode.Address(firstRaftID(v.ID), v.Addr),
		})
	}
	return p.startRaft(id, servers)
}

// ownerOf returns the chmpxid in a raft id.
func ownerOf(id raft.ServerID) (ring.ID, bool) {
	head, _, ok := strings.Cut(string(id), ".")
	n, err := parseID(head)
	return n, ok && err == nil && n != 0
}

// isSlaveID reports whether a raft id is that of a slave.
func isSlaveID(id raft.ServerID) bool {
	parts := strings.Split(string(id), ".")
	return len(parts) >= 2 && parts[1] == "s"
}

// waiting returns what the node waits for.
func (p *Plane) waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits
}

// setWaiting says what the node waits for, in Status and once in the log.
func (p *Plane) setWaiting(why string, level slog.Level) {
	p.mu.Lock()
	changed := p.waits != why
	p.waits = why
	p.mu.Unlock()
	if changed && why != "" {
		p.log.Log(context.Background(), level, why)
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// clusterOf returns the members of raft's newest configuration.
func (p *Plane) clusterOf() []raft.Server {
	n := p.node.Load()
	if n == nil {
		return nil
	}
	f := n.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return slices.Clone(f.Configuration().Servers)
}
