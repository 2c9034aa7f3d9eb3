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
	looked  time.Time // the last time
	deaf    time.Time // contacts count from then on
	lapsed  bool
	asking  chan error // answers whether this node knows what was committed; nil: not asked
	void    bool       // the answer is about a time before the leader was lost again
	knows   bool       // it does: it may have been declared DOWN while nobody was heard
}

// look tells the data plane when the lease begins and ends. A lapsed lease ends when this
// node has heard of, and the data plane has been shown, all that was decided meanwhile.
func (l *lease) look(ctx context.Context, p *Plane, now time.Time) {
	n := p.node.Load()
	limit := p.timesNow().OwnerLease
	if n == nil {
		return
	}
	if limit == 0 {
		l.off(p)
		return
	}
	if l.contact.IsZero() {
		l.contact = now // it has not been admitted yet
	}
	// While a leader's write to disk hangs, raft does not look whether it is still followed.
	leads := p.leads() && p.stores.StalledFor() < leadAge
	heard := n.LastContact()
	writing, slowUntil := p.stores.Writing() // looked at after that
	lapsed := l.over(limit, now, leads, contact(heard, writing, slowUntil))
	if lapsed {
		l.knows, l.void = false, l.asking != nil
	} else if l.lapsed && !l.upToDate(ctx, p) {
		return
	}
	if lapsed == l.lapsed {
		return
	}
	l.tell(p, lapsed)
	if lapsed {
		p.log.Warn("no leader was heard for OWNERLEASE: programs are given nothing by hash", "ms", limit.Milliseconds())
	} else {
		p.log.Warn("a leader is heard again: programs are given messages")
	}
}

// tell says that the lease has lapsed, or not any more.
func (l *lease) tell(p *Plane, lapsed bool) {
	l.lapsed = lapsed
	p.mu.Lock()
	p.lapsed = ""
	if lapsed {
		p.lapsed = "no leader was heard for OWNERLEASE: programs are given nothing by hash until one is"
	}
	p.mu.Unlock()
	p.cfg.OnLease(lapsed) // the status says so already
}

// off ends a lapse at once: nobody wants it any more. What was heard before
// does not count when the lease is switched on again.
func (l *lease) off(p *Plane) {
	l.contact, l.looked = time.Time{}, time.Time{}
	l.knows, l.void = false, l.asking != nil
	if l.lapsed {
		l.tell(p, false)
		p.log.Warn("OWNERLEASE is off: programs are given messages, leader or not")
	}
}

// contact returns when raft says that a leader was heard, or zero if that may be wrong: it
// takes the end of a write for a contact, though the leader has sent the entries before the
// write began, and so with those that have waited behind it. While a write is still under
// way raft notes heartbeats only.
func contact(heard, writing, slowUntil time.Time) time.Time {
	if heard.After(slowUntil.Add(judgeTick)) || !writing.IsZero() && heard.After(writing) {
		return heard
	}
	return time.Time{}
}

// over counts a contact and reports whether the lease is over. A server that leads
// is in contact with a majority within raft's own lease. One that has stood still may
// not know yet that it no longer leads, nor how old is what raft hears next: it may have
// waited in a buffer, and raft takes the end of its own lead for a contact. So it counts
// nothing before raft has had time for all that.
func (l *lease) over(limit time.Duration, now time.Time, leads bool, heard time.Time) bool {
	if now.Sub(l.looked) > leadAge {
		l.deaf = now.Add(judgeTick)
	}
	l.looked = now
	switch {
	case leads && now.After(l.deaf):
		l.contact = now.Add(-leadAge)
	case !leads && heard.After(l.deaf) && heard.After(l.contact):
		l.contact = heard
	}
	return now.Sub(l.contact) >= limit
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
