package client

import (
	"sync"
	"sync/atomic"
)

// answer takes the outcome of one request: a reply, or an error. Exactly one of the two is set.
type answer struct {
	call *call
	done func(payload []byte, err error)
}

// call is a Request that waits. It is reused.
type call struct {
	result chan result // capacity 1
}

type result struct {
	payload []byte
	err     error
}

var calls = sync.Pool{New: func() any { return &call{result: make(chan result, 1)} }}

// pendingSlots is how many requests can be out without the overflow map: twice
// the delivery window, because a request is out until its reply comes.
const pendingSlots = 2048

// pending holds who waits for which reply. put is called by one goroutine at a
// time (under the mutex of the request ring), take by any.
type pending struct {
	slots [pendingSlots]slot

	more     atomic.Int64 // entries of overflow, so that take needs the mutex only if there are some
	mu       sync.Mutex   // guards overflow; nothing is called under it
	overflow map[uint64]answer
}

// slot holds the request whose sequence is congruent to its place. The value
// of seq says who may touch answer: slotFree the one who puts, slotTaken the
// one who takes, else whoever changes seq to slotTaken first.
type slot struct {
	seq    atomic.Uint64
	answer answer
}

const (
	slotFree  = 0 // no request has sequence 0
	slotTaken = ^uint64(0)
)

// put registers the request seq before it is published.
func (p *pending) put(seq uint64, a answer) {
	s := &p.slots[seq%pendingSlots]
	if s.seq.Load() == slotFree {
		s.answer = a
		s.seq.Store(seq)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overflow == nil {
		p.overflow = map[uint64]answer{}
	}
	p.overflow[seq] = a
	p.more.Add(1)
}

// take removes the request seq; ok is true for one caller only.
func (p *pending) take(seq uint64) (a answer, ok bool) {
	s := &p.slots[seq%pendingSlots]
	if seq != slotFree && seq != slotTaken && s.seq.CompareAndSwap(seq, slotTaken) {
		a = s.answer
		s.answer = answer{}
		s.seq.Store(slotFree)
		return a, true
	}
	if p.more.Load() == 0 {
		return answer{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok = p.overflow[seq]; ok {
		delete(p.overflow, seq)
		p.more.Add(-1)
	}
	return a, ok
}

// takeAll removes and returns the requests that are out with a sequence above
// after, up to and including last.
func (p *pending) takeAll(after, last uint64) []answer {
	var all []answer
	within := func(seq uint64) bool { return seq > after && seq <= last }
	for i := range p.slots {
		if seq := p.slots[i].seq.Load(); within(seq) {
			if a, ok := p.take(seq); ok {
				all = append(all, a)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for seq, a := range p.overflow {
		if within(seq) {
			all = append(all, a)
			delete(p.overflow, seq)
			p.more.Add(-1)
		}
	}
	return all
}
