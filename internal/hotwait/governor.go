// Package hotwait decides when it pays to look again and again, giving the
// processor away in between, before a goroutine goes to sleep: a wait that is
// over within microseconds is cheaper so than a wake-up, but what yields a
// processor to others that want it waits for its whole turn. It has no clock.
package hotwait

// The limits of a hot wait.
const (
	// Looks is how often one who waits hot looks in vain, at least.
	Looks = 16
	// lookNs is for how long it looks, at least: on an idle processor yields take
	// no time. A round trip whose other processes sleep must be over by then, or
	// nobody could begin to wait hot.
	lookNs = 100_000
	// looksMax ends a wait whose clock hardly moves. The clock of tests in fake time
	// stands still while anybody looks.
	looksMax = 1000

	slowNs     = 200_000     // a look that takes longer and finds nothing lost its time to others
	lostNs     = 1_000_000   // so did one that takes longer at all
	pauseTimes = 10          // no hot waits for so many times the time that was lost
	pauseNsMax = 200_000_000 // nor longer than that
	soonTimes  = 4           // within so many times the last pause, time is lost again

	findsPerEnd = 4  // what a wait must find to be worth its end, which is in vain
	missesMax   = 3  // ends in a row that were not worth it, until some waits are left out
	skipMax     = 63 // how many of them, at most: 1, 3, 7 ... 63
)

// Governor says whether the next wait may be hot. The zero value is ready; one
// user at a time. Times are of any monotonic clock.
type Governor struct {
	pausedUntil int64
	pauseNs     int64 // the last pause
	debt        int   // finds that are missing, at most missesMax*findsPerEnd
	skips       int   // of the last time
	toSkip      int

	beganNs, lookedNs int64 // of the wait that goes on
	looks             int   // in vain, since something was found
}

// Begin asks for a hot wait. After true come Looked, until it says that the
// wait ends.
func (g *Governor) Begin(nowNs int64) bool {
	switch {
	case nowNs < g.pausedUntil:
		return false
	case g.toSkip > 0:
		g.toSkip--
		return false
	}
	g.beganNs, g.lookedNs, g.looks = nowNs, nowNs, 0
	return true
}

// Looked tells that the waiter has yielded once, until nowNs, and whether it
// found anything then. It reports whether to go on; after a find comes Worked.
func (g *Governor) Looked(nowNs int64, found bool) bool {
	took := nowNs - g.lookedNs
	g.lookedNs = nowNs
	if took > lostNs || took > slowNs && !found {
		g.pause(nowNs, took)
		return false
	}
	if found {
		g.looks = 0
		if g.debt = max(g.debt-1, 0); g.debt == 0 {
			g.skips = 0
		}
		return true
	}
	g.looks++
	if g.looks < Looks || nowNs-g.beganNs < lookNs && g.looks < looksMax {
		return true
	}
	g.ended()
	return false
}

// Worked tells that what was found kept the waiter until nowNs: that is no time lost.
func (g *Governor) Worked(nowNs int64) { g.beganNs, g.lookedNs = nowNs, nowNs }

// pause forbids hot waits after lost was lost: for longer if the last pause did not help.
func (g *Governor) pause(nowNs, lost int64) {
	d := pauseTimes * lost
	if nowNs-g.pausedUntil < soonTimes*g.pauseNs {
		d = max(d, 2*g.pauseNs)
	}
	g.pauseNs = min(d, pauseNsMax)
	g.pausedUntil = nowNs + g.pauseNs
}

// ended counts the end of a wait.
func (g *Governor) ended() {
	const debtMax = missesMax * findsPerEnd
	if g.debt = min(g.debt+findsPerEnd, debtMax); g.debt == debtMax {
		g.skips = min(2*g.skips+1, skipMax)
		g.toSkip = g.skips
	}
}
