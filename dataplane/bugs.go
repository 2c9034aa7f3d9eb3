package dataplane

import "time"

// staleTicks is how often a node with the bug fault.StaleEpoch takes a table.
const staleTicks = 4 * time.Second

// takesTable reports whether it is time to take a table: the first one, or one
// in each round of staleTicks, which do not begin at the same time everywhere.
// mu is held.
func (p *Plane) takesTable() bool {
	round := (p.nowNs() + int64(p.self%16)*int64(staleTicks/16)) / int64(staleTicks)
	takes := p.view.Table == nil || round != p.staleRound
	if takes {
		p.staleRound = round
	}
	return takes
}
