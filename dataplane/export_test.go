package dataplane

import (
	"errors"
	"runtime"

	"github.com/chmpx/chmpx/internal/hotwait"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
)

// Cut ends the links that this node dialled to another.
func (p *Plane) Cut(to ring.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if !l.accepted && l.id == to {
			l.kill(errors.New("the cable is cut"))
		}
	}
}

// BeginHot makes the caller the hot waiter, whatever the governor says.
func (p *Plane) BeginHot() {
	for {
		p.mu.Lock()
		free := !p.hot.on
		if free {
			p.hot.begin()
		}
		p.mu.Unlock()
		if free {
			return
		}
		runtime.Gosched()
	}
}

// Look is one look of the hot waiter.
func (p *Plane) Look() (found bool) {
	p.mu.Lock()
	return p.look()
}

// Cool ends the hot wait.
func (p *Plane) Cool() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cool()
}

// LeftToHot returns how many links and programs are left to the hot waiter.
func (p *Plane) LeftToHot() (links, programs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.hot.links), len(p.hot.programs)
}

// WaitedHot reports whether a pump ever asked whether it may wait hot.
func (p *Plane) WaitedHot() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hot.on || p.hot.governor != (hotwait.Governor{})
}

// BellsWanted returns how many of the programs that are left to the hot waiter
// would ring for the next message.
func (p *Plane) BellsWanted() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.hot.programs {
		if a.seg.WakeNeeded(shm.NodeSide) {
			a.seg.Sleep(shm.NodeSide)
			n++
		}
	}
	return n
}
