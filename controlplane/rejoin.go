package controlplane

import (
	"context"
	"slices"
)

// A server that became a member of raft and ended before it came up is removed
// after Config.StrayAfter. When it is back it has a log of the ring, perhaps, which
// does not list it. Raft does not mind that it goes on with that under its old id:
// what it promised is on its disk. Who was listed and is no member any more is another
// matter: it was forgotten, or replaced by a start without this disk.

// lookForSelf notes whether the log on disk lists this server. Raft must not run
// yet; later raft would show only what a leader says is committed.
func (p *Plane) lookForSelf() error {
	log := p.scratchFSM()
	listed := func() bool { return log.View().Server(p.cfg.Self.ID) != nil }
	err := p.stores.Replay(log, listed)
	if p.listed = listed(); log.Failed() != nil {
		p.listed = true // perhaps, by what this build does not know: others, or raft, will say so
		return nil
	}
	if err != nil {
		return p.inDataDir(err)
	}
	return nil
}

// wasListed reports whether this server has been a member of the ring, as far as
// its log knows.
func (p *Plane) wasListed() bool { return p.listed || p.view().Server(p.cfg.Self.ID) != nil }

// joinAgain asks for admission under the id of this log, if the leader's ring says
// that this is no member and it never was more than that. It returns what is to
// be waited for, "" for nothing.
func (p *Plane) joinAgain(ctx context.Context, answers []answer) string {
	id := p.raftID.Load()
	if p.cfg.Slave || id == nil || p.wasListed() || !slices.ContainsFunc(answers, func(a answer) bool { return a.ok && a.Removed }) {
		return ""
	}
	if _, err := p.askToJoin(ctx, answers, *id, true); err != nil {
		return "joining the ring again, which removed this server before it had come up: " + err.Error()
	}
	p.log.Info("asked the ring again to admit this server, whose raft id was no member", "raft_id", string(*id))
	return ""
}
