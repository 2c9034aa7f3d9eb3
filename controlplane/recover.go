package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// kept is what a server found on its disk.
type kept struct {
	id      raft.ServerID
	cluster []raft.Server // newest configuration of raft, committed or not
	last    uint64        // index of the last entry
}

// recoverKind is what becomes of a server that has a ring on its disk.
type recoverKind uint8

// The kinds.
const (
	recoverWait   recoverKind = iota // for others to answer
	recoverNot                       // the ring has a majority, or can have one: go on with it
	recoverNow                       // it never can again: go on alone
	recoverRefuse                    // --bootstrap cannot be right
)

// recoverDecision is what decideRecover found, and what to tell the operator.
type recoverDecision struct {
	kind recoverKind
	why  string
}

// decideRecover decides whether the ring on a server's disk has lost its
// majority for good: so many voters have answered with an empty disk or as
// somebody else that the others are no majority. Who does not answer may still
// have a vote. It is pure.
func decideRecover(self ring.ID, k kept, looked bool, answers []answer) recoverDecision {
	of := make(map[ring.ID]answer)
	for _, a := range answers {
		of[a.member.ID] = a
		switch {
		case a.foreign:
			return recoverDecision{recoverRefuse, a.member.Addr + " belongs to another ring of this group: start without --bootstrap to go on with the ring on this disk, or move the data directory away to join the other one"}
		case a.ok && a.Leader != "":
			return recoverDecision{recoverNot, "the ring has a leader"}
		}
	}
	voters, there := 0, 0
	var lost, missing []string
	for _, m := range k.cluster {
		if m.Suffrage != raft.Voter {
			continue
		}
		voters++
		owner, _ := ownerOf(m.ID)
		_, addr, _ := strings.Cut(string(m.Address), "@")
		switch a := of[owner]; {
		case owner == self && m.ID == k.id:
			there++
		case owner == self, a.ok && (a.Empty || a.RaftID != "" && a.RaftID != string(m.ID)):
			lost = append(lost, addr)
		case a.ok:
			there++
		default:
			missing = append(missing, addr)
		}
	}
	need := voters/2 + 1
	switch {
	case voters == 0 || there >= need:
		return recoverDecision{recoverNot, "the ring can have a leader"}
	case voters-len(lost) >= need:
		return recoverDecision{why: fmt.Sprintf("no quorum: %d of %d voters reachable, %d needed, missing %s", there, voters, need, strings.Join(missing, ", "))}
	}
	gone := fmt.Sprintf("the ring has lost its majority for good: %d of %d voters lost their disk: %s", len(lost), voters, strings.Join(lost, ", "))
	for _, a := range answers {
		switch {
		case !a.ok || a.Empty:
		case a.LastIndex > k.last:
			return recoverDecision{recoverRefuse, fmt.Sprintf("%s; %s knows more of it (entry %d, here %d): use --bootstrap there", gone, a.member.Addr, a.LastIndex, k.last)}
		case a.Bootstrap && (a.LastIndex == k.last && a.member.ID < self):
			return recoverDecision{why: gone + "; " + a.member.Addr + " goes on with it"}
		}
	}
	if !looked {
		return recoverDecision{why: gone + "; looking for others before this server goes on alone"}
	}
	return recoverDecision{recoverNow, gone}
}

// startAgain starts raft with the state on disk.
func (p *Plane) startAgain(ctx context.Context) error {
	id, err := p.dir.RaftID()
	if err != nil {
		return err
	}
	if id == "" {
		return p.inDataDir(fmt.Errorf("%w: there is a log of raft, but not the file raft.id that says whose it is", raftnode.ErrDamaged))
	}
	if owner, ok := ownerOf(id); !ok || owner != p.cfg.Self.ID {
		return fmt.Errorf("%w: the data directory %s belongs to raft member %q, this node is %s", ErrConfig, p.dir.Path(), id, p.cfg.Self.ID)
	}
	if err := p.lookForSelf(); err != nil {
		return err
	}
	if p.cfg.Bootstrap {
		if err := p.goOnAlone(ctx, id); err != nil {
			return err
		}
	}
	if p.awaitIdentity(ctx); ctx.Err() != nil {
		return nil
	}
	return p.startRaft(id, nil)
}

// goOnAlone is --bootstrap on a server that has a ring: it returns when the ring
// can go on as it is, or with this server as its only member where nothing else
// is left of it.
func (p *Plane) goOnAlone(ctx context.Context, id raft.ServerID) error {
	k := kept{id: id}
	var err error
	scratch := p.scratchFSM()
	if k.cluster, k.last, err = p.stores.Configuration(id, scratch, raftnode.NewLogger(p.log)); err != nil {
		return p.inDataDir(readBy(scratch, err))
	}
	p.lastEntry.Store(k.last)
	began := time.Now()
	for ctx.Err() == nil {
		d := decideRecover(p.cfg.Self.ID, k, time.Since(began) >= bootstrapLook, p.probeAll(ctx))
		switch d.kind {
		case recoverNot:
			p.log.Info("--bootstrap has no effect: the data directory has a ring and " + d.why)
			return nil
		case recoverRefuse:
			return fmt.Errorf("%w: --bootstrap refused: the data directory %s has ring %s, and %s", ErrOtherRing, p.dir.Path(), p.realmName(), d.why)
		case recoverNow:
			return p.recover(k, d.why)
		}
		p.setWaiting(d.why, slog.LevelWarn)
		sleep(ctx, startRetry)
	}
	return nil
}

// recover makes the ring on disk a new one with this server as its only member.
func (p *Plane) recover(k kept, why string) error {
	id := randomUint64()
	p.log.Warn("going on alone with what this server knows of the ring (--bootstrap)", "reason", why,
		"old_ring", p.realmName(), "ring", realmText(id), "last_entry", k.last)
	// Whatever ends this in between, the next start finds a log and no name that
	// contradicts it.
	err := p.dir.SetRealm(realmText(0))
	if err == nil {
		scratch := p.scratchFSM()
		err = readBy(scratch, p.stores.Recover(k.id, p.cfg.Self.Addr, scratch.Renewed(id, p.cfg.Self.ID), raftnode.NewLogger(p.log)))
	}
	if err == nil {
		err = p.dir.SetRealm(realmText(id))
	}
	if errors.Is(err, fsm.ErrNoRing) {
		return p.inDataDir(fmt.Errorf("--bootstrap: the log has no ring yet: %w", err))
	}
	if err != nil {
		return p.inDataDir(err)
	}
	p.realm.Store(id)
	return nil
}

// scratchFSM returns a state machine that nobody looks at.
func (p *Plane) scratchFSM() *fsm.RaftFSM {
	return fsm.NewRaftFSMOf(p.cfg.Build, func(fsm.View) {}, func(error) {})
}
