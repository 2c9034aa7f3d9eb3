package controlplane

import (
	"slices"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// Rules of the verdict.
const (
	// settleTime is how long an incarnation must have been known before evidence
	// that does not name it counts: links need a moment to meet a new process.
	settleTime = 3 * time.Second
	// outdatedTimeout is for the answers of servers that links of before this node
	// led speak against. A process that has ended refuses at once.
	outdatedTimeout = 500 * time.Millisecond
	// evidenceAge is how long an observer's report counts.
	evidenceAge = 5 * time.Second
	// silentWindow is the time in which only a few silent servers are declared
	// DOWN: when many fall silent, it is rather the network.
	silentWindow = 10 * time.Second
	// pauseLimit is how late a tick may be; a process that was paused for
	// longer cannot tell who was silent meanwhile.
	pauseLimit = time.Second
)

// observer is what one other server last reported to the leader.
type observer struct {
	at    time.Time
	links map[ring.ID]ring.Evidence
	// standIns are its notes about those that it stood in for.
	standIns []ring.StandIn
}

// subject is a server about which the leader may decide.
type subject struct {
	id          ring.ID
	incarnation ring.Incarnation
	up          bool
	settled     bool // this incarnation has been known for settleTime
	answers     bool // when asked, although links of before this node led speak against it
	replaced    bool // for settleTime the leader's link has led to a process that does not know this incarnation
}

// court is everything that a verdict rests on.
type court struct {
	self         ring.ID
	servers      []subject
	own          map[ring.ID]ring.Evidence // the leader's links
	others       map[ring.ID]observer      // only reports that are fresh
	silentBudget int                       // how many silent servers may still be declared DOWN
}

// verdict is a server to be declared DOWN.
type verdict struct {
	id          ring.ID
	incarnation ring.Incarnation
	state       ring.LinkState // LinkRefused, LinkSilent, or LinkAlive for one that was replaced
}

// judge returns who is to be declared DOWN, and who would be if not too many
// had fallen silent. A server is DOWN when the leader's own link says so and
// most of the other servers that are UP and have a say do. It is pure.
func judge(c court) (down, held []verdict) {
	for _, s := range c.servers {
		own := c.own[s.id]
		if s.id == c.self || !s.up || s.answers || !says(own, s) || !c.majority(s) {
			continue
		}
		v := verdict{id: s.id, incarnation: s.incarnation, state: own.State}
		switch {
		case own.State != ring.LinkSilent:
			down = append(down, v)
		case c.silentBudget > 0:
			c.silentBudget--
			down = append(down, v)
		default:
			held = append(held, v)
		}
	}
	return down, held
}

// says reports whether an observation speaks against this incarnation. Also a
// link that works does, if it has led to another process for long: this one
// has ended, and whoever came after it was not admitted.
func says(e ring.Evidence, s subject) bool {
	if e.State == ring.LinkAlive {
		return s.replaced && e.Incarnation < s.incarnation
	}
	if e.State != ring.LinkRefused && e.State != ring.LinkSilent {
		return false
	}
	return e.Incarnation == s.incarnation || s.settled && e.Incarnation < s.incarnation
}

// majority reports whether most of the other observers agree about s. Those
// that know nothing of s have no say; without any, the leader decides alone.
func (c court) majority(s subject) bool {
	agree, voices := 0, 0
	for _, o := range c.servers {
		if o.id == c.self || o.id == s.id || !o.up {
			continue
		}
		e, ok := c.others[o.id].links[s.id]
		if !ok || e.State == ring.LinkUnknown {
			continue
		}
		voices++
		if says(e, s) {
			agree++
		}
	}
	return voices == 0 || 2*agree > voices
}

// silentBudgetOf returns how many of n servers may be declared DOWN for silence
// at now, after those at the times in past, which are returned without the old.
func silentBudgetOf(n int, past []time.Time, now time.Time) (int, []time.Time) {
	past = slices.DeleteFunc(past, func(t time.Time) bool { return now.Sub(t) >= silentWindow })
	return max(1, n/4) - len(past), past
}

// upBackoff returns how long a node waits before it comes up again, from when
// it was declared DOWN while it ran, and those times without the old ones.
func upBackoff(downs []time.Time, now time.Time, most time.Duration) (time.Duration, []time.Time) {
	downs = slices.DeleteFunc(downs, func(t time.Time) bool { return now.Sub(t) >= downsWindow })
	if len(downs) < 2 {
		return 0, downs
	}
	return min(time.Second<<min(len(downs)-2, 16), most), downs
}

// downsWindow is how long a flap is remembered.
const downsWindow = 10 * time.Minute
