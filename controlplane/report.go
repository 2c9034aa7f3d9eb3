package controlplane

import (
	"context"
	"errors"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Timings of the reports.
const (
	reportTick         = 250 * time.Millisecond
	reportRetry        = time.Second // after a refusal, unless the state changes before
	transferReportsMax = 256
	evidenceRefresh    = 2 * time.Second
	evidenceTimeout    = time.Second
)

// transferReport is a TransferReady, or with a seal a TransferFinal, that the
// state does not show yet.
type transferReport struct {
	mergeID, seal   uint64
	donor, receiver ring.ID
}

// wanted is what this node wants the state to show.
type wanted struct {
	self      ring.ID
	member    Member
	levels    fsm.Levels // of this build
	boot      uint64
	leaving   bool
	upAllowed bool // no back-off after flaps
	programs  int
	graceOver bool // no program has been attached for SuspendGrace
	unsettled bool // the ring may have been told that there is no program; see suspension
	transfers []transferReport
}

// nextReport compares what a server wants with the applied state and returns
// what to propose next, nil when the state is as it should be. It is pure.
func nextReport(v fsm.View, w wanted) fsm.Body {
	if v.RingID == 0 || w.leaving {
		return nil
	}
	s := v.Server(w.self)
	if s == nil || s.Status.Live() != ring.Up || v.Boot(w.self) != w.boot {
		if !w.upAllowed {
			return nil
		}
		return fsm.ServerUp{ID: w.self, Server: w.member.Identity, Addr: w.member.Addr, Boot: w.boot, Suspend: w.programs == 0, Levels: w.levels}
	}
	switch suspended, none := s.Status.Suspended(), w.programs == 0 && w.graceOver; {
	case suspended && w.programs > 0, !suspended && none, w.unsettled && (w.programs > 0 || none):
		return fsm.ProgramsChanged{ID: w.self, Incarnation: s.Incarnation, Count: w.programs}
	}
	for _, t := range w.transfers {
		if body := t.body(v.Merge); body != nil {
			return body
		}
	}
	return nil
}

// body returns what to propose for a report in this state of the merge, nil
// if nothing: done, void, or too early.
func (t transferReport) body(m *ring.Merge) fsm.Body {
	if m == nil || m.ID != t.mergeID || m.Seal != t.seal && t.seal != 0 {
		return nil
	}
	for _, x := range m.Transfers {
		switch {
		case x.Donor != t.donor || x.Receiver != t.receiver:
		case t.seal == 0 && !x.Ready:
			return fsm.TransferReady{MergeID: t.mergeID, Donor: t.donor, Receiver: t.receiver}
		case t.seal != 0 && !x.Final:
			return fsm.TransferFinal{MergeID: t.mergeID, Seal: t.seal, Donor: t.donor, Receiver: t.receiver}
		}
	}
	return nil
}

// over reports whether the state is past anything that the report is about.
func (t transferReport) over(v fsm.View) bool {
	if v.Index < max(t.mergeID, t.seal) {
		return false // we have not applied yet what the data plane of another node has
	}
	return v.Merge == nil || v.Merge.ID != t.mergeID || t.seal != 0 && v.Merge.Seal != t.seal
}

// reportLoop makes the state show what this server wants it to show.
func (p *Plane) reportLoop(ctx context.Context) {
	tick := time.NewTicker(reportTick)
	defer tick.Stop()
	var refused time.Time // when a proposal was last refused
	refusedAt := uint64(0)
	admitted := false
	var held suspension
	for {
		select {
		case <-p.reports:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		v := p.view()
		now := time.Now()
		admitted = p.noteAdmission(v, admitted, now)
		held.look(p)
		p.noteHold(held.unsettled())
		if v.Index == refusedAt && now.Sub(refused) < reportRetry {
			continue
		}
		w := p.want(v, now)
		w.unsettled = held.unsettled()
		body := nextReport(v, w)
		if body == nil {
			continue
		}
		err := p.report(ctx, body, &held)
		switch {
		case errors.Is(err, errOvertaken):
		case err == nil:
			p.setRefused("")
			p.awaitApplied(ctx, body)
		case errors.Is(err, ErrRefused), errors.Is(err, ErrOtherRing):
			refused, refusedAt = now, v.Index
			p.setRefused("the ring does not take this server: " + err.Error()) // shown only while it is not admitted
			p.log.Debug("report refused", "type", body.Type().String(), "err", err)
		case ctx.Err() == nil:
			held.warn(p.log, w.programs)
			p.log.Debug("report not committed, trying again", "type", body.Type().String(), "err", err)
		}
	}
}

// report proposes what nextReport returned. errOvertaken: it is not so any more.
func (p *Plane) report(ctx context.Context, body fsm.Body, held *suspension) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	if b, ok := body.(fsm.ProgramsChanged); ok {
		return held.report(ctx, p, b)
	}
	return p.propose(ctx, body)
}

// awaitApplied waits a moment for this node to apply what the leader has
// committed, so that it is not proposed again.
func (p *Plane) awaitApplied(ctx context.Context, body fsm.Body) {
	t := time.NewTimer(reportTick)
	defer t.Stop()
	for {
		now := time.Now()
		v := p.view()
		if next := nextReport(v, p.want(v, now)); next == nil || next != body {
			p.reports.raise()
			return
		}
		select {
		case <-p.reports:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// want gathers what this server wants.
func (p *Plane) want(v fsm.View, now time.Time) wanted {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.transfers[:0]
	for _, t := range p.transfers {
		if !t.over(v) {
			kept = append(kept, t)
		}
	}
	p.transfers = kept
	w := wanted{
		self: p.cfg.Self.ID, member: p.cfg.Self, levels: p.cfg.Build.Speaks().Brief(), boot: p.boot,
		leaving: p.leaving, upAllowed: true, programs: p.programs,
		graceOver: now.Sub(p.noneSince) >= p.times.SuspendGrace,
		transfers: append([]transferReport(nil), kept...),
	}
	if len(p.downs) > 0 {
		var wait time.Duration
		last := p.downs[len(p.downs)-1]
		wait, p.downs = upBackoff(p.downs, now, p.times.UpBackoffMax)
		w.upAllowed = now.Sub(last) >= wait
	}
	return w
}

// noteAdmission watches whether this start is admitted: the grace for programs
// to come back begins with it, and its loss is a flap.
func (p *Plane) noteAdmission(v fsm.View, was bool, now time.Time) bool {
	is := p.incarnation(v) != 0
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case is && !was && p.programs == 0:
		p.noneSince = now
	case was && !is && !p.leaving:
		p.downs = append(p.downs, now)
		p.log.Warn("the ring has declared this node DOWN although it runs", "times", len(p.downs))
	}
	return is
}

// evidenceLoop sends what this server observes to the leader: at every change,
// at once to a new leader, and every 2 s.
func (p *Plane) evidenceLoop(ctx context.Context) {
	tick := time.NewTicker(evidenceRefresh)
	defer tick.Stop()
	for {
		select {
		case <-p.evidence:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_, addr := p.leader()
		if addr == "" || p.leads() {
			continue
		}
		body := evidenceBody{StandIns: p.standIns(false)}
		p.mu.Lock()
		for _, e := range p.links {
			body.Links = append(body.Links, e)
		}
		p.mu.Unlock()
		sctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
		resp, err := p.client.call(sctx, addr, p.request(opEvidence, body))
		cancel()
		if err == nil && resp.Code == codeFailed { // a leader that is not ready yet
			sleep(ctx, retryMin)
			p.evidence.raise()
		}
	}
}
