package dataplane

// Hold asks whether no program is attached, and if so gives those that come
// nothing that is sent by hash until Release. It returns false, and changes
// nothing, while there is one. It may be called again before Release, from any
// goroutine.
func (p *Plane) Hold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.programs > 0 {
		return false
	}
	p.core.Hold(true)
	return true
}

// Release ends Hold. It may be called from any goroutine; after the end of Run
// nothing happens.
func (p *Plane) Release() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.core.Hold(false)
	p.finishUnlock(&batch{})
}
