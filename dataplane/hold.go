package dataplane

import "errors"

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
	p.suspending = true
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
	p.suspending = false
	p.core.Hold(p.lapsed)
	p.finishUnlock(&batch{})
}

// errLapsed ends attachments whose programs must take nothing more for now.
var errLapsed = errors.New("another server may act for what the program has not taken: OWNERLEASE")

// Lapse says whether another server may act for what this one owns, for all that
// it knows. While it is so programs are given nothing that is sent by hash, and
// what they were given and have not taken is taken from them: they attach anew.
// It may be called from any goroutine; after the end of Run nothing happens.
func (p *Plane) Lapse(lapsed bool) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.lapsed = lapsed
	p.core.Hold(lapsed || p.suspending)
	if lapsed {
		for _, a := range p.attached {
			if !a.ended && p.core.Delivered(a.session) {
				a.kill(errLapsed)
			}
		}
	}
	p.finishUnlock(&batch{})
}
