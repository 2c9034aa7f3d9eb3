package dataplane

import "time"

// Limits are what may change while the plane runs; see SetLimits.
type Limits struct {
	ShmBytesMax int64         // of all attachments together; default 1 GiB
	HistoryMax  int           // passages that SetHistory makes the plane keep; 0: none
	DownAfter   time.Duration // without an answer a link is silent; default 3 s
	// StandInAfter: the next owner stands in for a server that could not be reached
	// for so long, and that nothing was decided about; at least StandInMin, 0: never.
	StandInAfter time.Duration
	// StandInNoMerge: StandInAfter holds only where the ring keeps no data (Table.NoMerge).
	StandInNoMerge bool
}

func (l *Limits) setDefaults() {
	if l.ShmBytesMax == 0 {
		l.ShmBytesMax = 1 << 30
	}
	if l.DownAfter == 0 {
		l.DownAfter = 3 * time.Second
	}
}

// SetLimits replaces Config.Limits. Programs keep the memory that they have, also
// beyond a new ShmBytesMax; of what the history has the newest stays. Any goroutine.
func (p *Plane) SetLimits(l Limits) {
	l.setDefaults()
	p.mu.Lock()
	p.cfg.Limits = l
	p.history.resize(l.HistoryMax)
	p.setStandIn(p.view.Table)
	p.finishUnlock(&batch{})
}

// downAfter returns when a link without an answer is silent. Any goroutine that
// does not hold mu.
func (p *Plane) downAfter() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.DownAfter
}

// pingEvery returns how often idle links are pinged: several times within what
// makes a link silent. p.mu is held.
func (p *Plane) pingEvery() time.Duration { return min(p.cfg.PingEvery, p.cfg.DownAfter/4) }
