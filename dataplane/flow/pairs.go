package flow

// A pair is one session and one peer that it sends to. While the peer refuses,
// the pair is limited: it may transmit only as many messages as it has credit.
//
//	refused (LATER)    credit 0, back-off 1 ms doubling to 50 ms
//	ROOM               credit 16 at once
//	each message taken credit +2 once tried again, the back-off starts from 1 ms again
//	back-off over      credit 1, then 2, 4 ... as long as nothing is refused
//
// At creditFull credits the limit is lifted. So one refusal is followed by one
// trial, not by the whole backlog, and a receiver that can take again is at
// full rate after a few round trips.
type pair struct {
	heard     bool // the peer knows the session and is owed a Bye
	limited   bool
	credit    int32
	step      int32 // credit that the next end of a back-off gives
	backoffNs int64
	untilNs   int64  // end of the present back-off
	refused   uint64 // newest refusal: what comes after it is tried first, 0 = none
}

const (
	roomCredit = 16
	creditFull = 256
)

// pair returns the pair of s and p, which must be a server.
func (s *Session) pair(p *Peer) *pair {
	if p.dest >= len(s.pairs) {
		s.pairs = append(s.pairs, make([]pair, p.dest+1-len(s.pairs))...)
	}
	return &s.pairs[p.dest]
}

// known returns the pair of s and p, nil if nothing was ever sent there.
func (s *Session) known(p *Peer) *pair {
	if p.dest < 0 || p.dest >= len(s.pairs) {
		return nil
	}
	return &s.pairs[p.dest]
}

// hold notes a refusal of a message of the session that stream names. Refusals
// of one burst count once. Sessions that are refused together come back up to
// a quarter apart: else the same ones would find room each time.
func (pr *pair) hold(nowNs int64, cfg *Config, stream uint32) {
	if pr.limited && pr.step == 0 && nowNs < pr.untilNs {
		return
	}
	pr.backoffNs = min(max(2*pr.backoffNs, cfg.RetryMinNs), cfg.RetryMaxNs)
	pr.limited, pr.credit, pr.step = true, 0, 0
	pr.untilNs = nowNs + pr.backoffNs - pr.backoffNs/4*int64(mix(uint64(nowNs)^uint64(stream))&1023)/1023
}

// praise notes that the peer's program has taken n messages.
func (c *Core) praise(nowNs int64, w *window, pr *pair, n int) {
	pr.backoffNs = 0
	switch {
	case !pr.limited:
	case pr.step == 0: // refused after these were accepted: no credit, but an early trial
		pr.untilNs = min(pr.untilNs, nowNs+c.cfg.RetryMinNs)
		c.due(w, pr.untilNs)
	default:
		if pr.credit += int32(2 * n); pr.credit >= creditFull {
			pr.lift()
		}
	}
}

// lift ends the limit.
func (pr *pair) lift() { *pr = pair{heard: pr.heard} }

// mayTry reports whether a limited pair has credit now; if not, a scan is due
// at the end of its back-off.
func (c *Core) mayTry(nowNs int64, s *Session, pr *pair) bool {
	if pr.credit <= 0 && nowNs >= pr.untilNs {
		pr.step = min(max(2*pr.step, 1), creditFull)
		pr.credit = pr.step
		pr.untilNs = nowNs + max(pr.backoffNs, c.cfg.RetryMinNs)
	}
	if pr.credit > 0 {
		return true
	}
	c.due(&s.requests, pr.untilNs)
	return false
}
