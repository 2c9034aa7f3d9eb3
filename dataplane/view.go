package dataplane

import "github.com/chmpx/chmpx/ring"

// View returns what routes now: the newest table that this node has, from the
// log, a peer or the disk, and the merge. It may be called from any goroutine.
func (p *Plane) View() ring.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}
