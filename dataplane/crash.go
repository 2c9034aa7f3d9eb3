package dataplane

import "errors"

// Crash makes Run, whose context is to end next, end as the end of the process
// would: what is in segments and on disk stays as it is now. For tests within one process.
func (p *Plane) Crash() {
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.kill(errCrash)
	}
	for _, a := range p.attached {
		a.broken = true // its rings are left alone
		a.kill(errCrash)
	}
	p.mu.Unlock()
	p.store.freeze()
	_ = p.attch.Close()
}

var errCrash = errors.New("the node has crashed")
