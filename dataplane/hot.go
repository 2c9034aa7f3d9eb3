package dataplane

import (
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/internal/hotwait"
	"github.com/chmpx/chmpx/internal/rawio"
)

// hotPartsMax is how many links, and how many programs, a hot waiter looks at:
// those whose pumps had something last. The others wait as ever. hotNsMax ends a
// hot wait that always finds something: on a single processor the scheduler looks
// after the others only then.
const (
	hotPartsMax = 8
	hotNsMax    = int64(5 * time.Millisecond)
)

// hot is the hot wait of a node. A pump that has nothing more to do becomes the
// hot waiter, unless there is one: it gives the processor away and looks, some
// times, before it parks. Meanwhile the sockets and rings of all that it looks
// at are its, and their pumps are woken for nothing: gates are shut, and
// programs see a node that does not sleep.
type hot struct {
	// guarded by p.mu
	on       bool // somebody waits hot
	links    []*link
	programs []*attachment
	oldest   int // place that is taken next when one of them is full

	// the hot waiter's; who becomes it has seen under p.mu that there is none
	governor hotwait.Governor
	b        batch
}

// beginHot makes the caller the hot waiter if there is none and it pays; p.mu is
// held. After true the caller must release it and call waitHot.
func (p *Plane) beginHot() bool {
	h := &p.hot
	if !p.cfg.HotWait || h.on || !h.governor.Begin(p.nowNs()) {
		return false
	}
	h.begin()
	return true
}

// begin takes over what was left so far; p.mu is held.
func (h *hot) begin() {
	h.on = true
	for _, l := range h.links {
		_ = l.in.gate.shut() // fails only when it is shut
	}
	for _, a := range h.programs {
		a.awake()
	}
}

// waitHot looks until it does not pay any more, or the caller's pump must end
// because *dead is set. Then everybody waits for himself again.
func (p *Plane) waitHot(dead *error) {
	h := &p.hot
	began := p.nowNs()
	h.governor.Worked(began) // the caller has ended its batch since Begin
	for {
		rawio.Yield()
		now := p.nowNs()
		p.mu.Lock()
		if *dead != nil {
			break
		}
		found := p.look()
		goOn := h.governor.Looked(now, found)
		if found {
			h.governor.Worked(p.nowNs())
		}
		p.mu.Lock()
		if !goOn || now-began > hotNsMax {
			break
		}
		p.mu.Unlock()
	}
	p.cool()
	p.mu.Unlock()
}

// look forwards what has come to the parts that are left to the hot waiter, and
// reports whether there was anything. The caller holds p.mu, and does not any
// more when look returns.
func (p *Plane) look() (found bool) {
	h := &p.hot
	var links [hotPartsMax]*link
	n := copy(links[:], h.links)
	for _, a := range h.programs {
		if a.dead == nil && a.more() {
			found = true
			a.drain()
		}
	}
	if found {
		p.finishUnlock(&h.b)
	} else {
		p.mu.Unlock()
	}
	for _, l := range links[:n] {
		found = l.look() || found
	}
	return found
}

// cool ends the hot wait; p.mu is held. Rings that hold something by now, their
// own pumps are woken for.
func (p *Plane) cool() {
	h := &p.hot
	for _, a := range h.programs {
		again, err := a.sleep()
		if err != nil {
			a.corrupt(err)
		}
		if again {
			_ = a.own.Ring() // fails only when the pump has ended
		}
	}
	for _, l := range h.links {
		if err := l.in.gate.open(); err != nil {
			l.kill(fmt.Errorf("wait for link: %w", err))
		}
	}
	h.on = false
}

// leaveProgram leaves the rings of a program to the hot waiter, now or the next;
// p.mu is held. It reports false if there is none, or it has enough.
func (h *hot) leaveProgram(a *attachment) bool {
	switch {
	case a.broken:
		return false
	case slices.Contains(h.programs, a):
	case len(h.programs) < hotPartsMax:
		h.programs = append(h.programs, a)
	case h.on:
		return false
	default:
		h.programs[h.nextPlace()] = a
	}
	return h.on
}

// leaveLink leaves the socket of a link to the hot waiter, now or the next;
// p.mu is held.
func (h *hot) leaveLink(l *link) {
	switch {
	case slices.Contains(h.links, l):
		return
	case len(h.links) < hotPartsMax:
		h.links = append(h.links, l)
	case h.on:
		return
	default:
		h.links[h.nextPlace()] = l
	}
	if h.on {
		_ = l.in.gate.shut()
	}
}

func (h *hot) nextPlace() int {
	h.oldest = (h.oldest + 1) % hotPartsMax
	return h.oldest
}

// forget takes a link or a program that ends from the hot waiter; p.mu is held.
func (h *hot) forget(l *link, a *attachment) {
	if i := slices.Index(h.links, l); i >= 0 {
		h.links = slices.Delete(h.links, i, i+1)
	}
	if i := slices.Index(h.programs, a); i >= 0 {
		h.programs = slices.Delete(h.programs, i, i+1)
	}
}

// park waits hot if that pays. The reader of the link calls it before it waits
// for the poller.
func (l *link) park() {
	p := l.p
	if !p.cfg.HotWait {
		return
	}
	p.mu.Lock()
	p.hot.leaveLink(l)
	hot := p.beginHot()
	p.mu.Unlock()
	if hot {
		p.waitHot(&l.dead)
	}
}

// look reads and forwards once what is there, on behalf of the link's reader.
func (l *link) look() (found bool) {
	in := &l.in
	if !in.mu.TryLock() {
		return false // the reader is there itself
	}
	defer in.mu.Unlock()
	if in.ended {
		return false
	}
	n, err := in.read()
	if err == nil && n == 0 {
		return false
	}
	if err != nil {
		in.ended = true
		l.p.killLink(l, err) // wakes the reader
	}
	return true
}

// read reads and forwards once what is there; n 0 without an error: there is
// nothing. in.mu is held.
func (in *intake) read() (n int, err error) {
	for {
		n, errno := rawio.Read(in.fd, in.space())
		switch {
		case errno == syscall.EAGAIN:
			return 0, nil
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return 0, fmt.Errorf("read: %w", errno)
		case n == 0:
			return 0, io.EOF
		}
		return n, in.arrived(n)
	}
}

// readAll reads and forwards until there is nothing.
func (in *intake) readAll(fd uintptr) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.fd = fd
	for {
		if n, err := in.read(); n == 0 || err != nil {
			return err
		}
	}
}

// end takes the link from the hot waiter: its descriptor is about to be closed.
func (in *intake) end() {
	p := in.l.p
	p.mu.Lock()
	p.hot.forget(in.l, nil)
	p.mu.Unlock()
	in.mu.Lock()
	in.ended = true
	in.mu.Unlock()
}
