package controlplane

import (
	"fmt"
	"time"
)

// diskStallMax is how long a leader waits for its disk before it gives the lead up.
const diskStallMax = 5 * time.Second

// diskWatch notices what raft does not tell: that the disk hangs, is full or
// cannot be written at all.
//
// raft's heartbeats go on while a write waits, and nothing else. Nor does raft
// hand the lead over, for that waits behind the write, so a leader plays dead
// until the write is done. Its data plane goes on.
type diskWatch struct {
	held bool // the leader plays dead
	full bool // it was said that the disk is full
}

func (w *diskWatch) look(p *Plane) {
	select {
	case err := <-p.stores.Failed():
		p.onFatal(err)
	default:
	}
	stalled := p.stores.StalledFor()
	switch full := p.stores.Full(); {
	case full && !w.full:
		w.full = true
		text := fmt.Sprintf("the disk of %s is full: this server takes no change of the ring until there is room, and delivers by the table it has", p.dir.Path())
		p.setDiskFull(text)
		p.log.Error(text)
	case w.full && !full && stalled == 0:
		w.full = false
		p.setDiskFull("")
		p.log.Warn("the disk has room again")
	}
	switch {
	case !w.held && stalled > diskStallMax && p.leads():
		w.held = true
		p.log.Error("the disk does not take the log, giving the lead up", "write_ms", stalled.Milliseconds())
		p.stream.Load().Hold(true)
	case w.held && stalled == 0:
		w.held = false
		p.log.Warn("the disk takes the log again")
		p.stream.Load().Hold(false)
	}
}

func (p *Plane) setDiskFull(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.diskFull = text
}
