package dataplane

import (
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// View returns what routes now: the newest table that this node has, from the
// log, a peer or the disk, and the merge. It may be called from any goroutine.
func (p *Plane) View() ring.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// SetServers replaces Config.Servers. A server that is missing keeps its links
// as long as it is in the table. Any goroutine.
func (p *Plane) SetServers(servers []Server) {
	p.mu.Lock()
	p.cfg.Servers = slices.Clone(servers)
	p.syncDialers()
	p.finishUnlock(&batch{})
}

// countActing returns how many servers act for at least one slot.
func countActing(t *ring.Table) int {
	if t == nil || t.Base == nil {
		return 0
	}
	n := 0
	seen := make([]bool, len(t.Servers))
	for slot := range t.Base.Slots() {
		if i := t.ActingSlot(slot); i >= 0 && !seen[i] {
			seen[i] = true
			n++
		}
	}
	return n
}
