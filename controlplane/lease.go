package controlplane

import (
	"context"
	"time"
)

// leadAge is how old the answers of a majority may be by which raft lets a
// leader lead: it looks every 250 ms for those of the last 250 ms.
const leadAge = 500 * time.Millisecond

// lease is OWNERLEASE: for how long this server has known that the ring counts on
// it. It is owned by the watch loop.
type lease struct {
	contact time.Time // when a leader was last heard, or this server was seen to lead
	led     bool      // at the last look
	lapsed  bool
	asking  chan error // answers whether this node knows what was committed; nil: not asked
	void    bool       // the answer is about a time before the leader was lost again
	knows   bool       // it does: it may have been declared DOWN while nobody was heard
}

// look tells the data plane when the lease begins and ends. A server that leads
// is in contact with a majority within raft's own lease; one that has not run
// for a while may just not know yet that it no longer leads, so it has to
// be seen leading twice. A lapsed lease ends when this node has heard of, and the data plane
// has been shown, all that was decided meanwhile.
func (l *lease) look(ctx context.Context, p *Plane, now time.Time, paused bool) {
	n := p.node.Load()
	if p.cfg.OwnerLease == 0 || n == nil {
		return
	}
	if l.contact.IsZero() {
		l.contact = now // it has not been admitted yet
	}
	leads := p.leads()
	if leads && l.led && !paused {
		l.contact = now.Add(-leadAge)
	}
	l.led = leads
	if heard := n.LastContact(); !leads && heard.After(l.contact) {
		l.contact = heard
	}
	lapsed := now.Sub(l.contact) >= p.cfg.OwnerLease
	if lapsed {
		l.knows, l.void = false, l.asking != nil
	} else if l.lapsed && !l.upToDate(ctx, p) {
		return
	}
	if lapsed == l.lapsed {
		return
	}
	l.lapsed = lapsed
	p.cfg.OnLease(lapsed)
	p.mu.Lock()
	p.lapsed = ""
	if lapsed {
		p.lapsed = "no leader was heard for OWNERLEASE: programs are given nothing by hash until one is"
	}
	p.mu.Unlock()
	if lapsed {
		p.log.Warn("no leader was heard for OWNERLEASE: programs are given nothing by hash", "ms", p.cfg.OwnerLease.Milliseconds())
	} else {
		p.log.Warn("a leader is heard again: programs are given messages")
	}
}

// upToDate asks, without waiting, whether the data plane has been shown all that
// was committed before a leader was heard again.
func (l *lease) upToDate(ctx context.Context, p *Plane) bool {
	switch {
	case l.knows:
		return p.shown.Load() >= p.view().Index
	case l.asking == nil:
		answer := make(chan error, 1)
		l.asking = answer
		go func() { // ends with its time, or ctx
			ctx, cancel := context.WithTimeout(ctx, commandAttempt)
			defer cancel()
			answer <- p.Consistent(ctx)
		}()
	default:
		select {
		case err := <-l.asking:
			l.asking, l.knows, l.void = nil, err == nil && !l.void, false
		default:
		}
	}
	return false
}

// wait waits for what upToDate has asked.
func (l *lease) wait() {
	if l.asking != nil {
		<-l.asking
	}
}
