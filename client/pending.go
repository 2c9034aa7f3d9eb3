package client

import (
	"sync"
	"sync/atomic"
)

// outcome is what the sender of a message waits for.
type outcome uint64

const (
	wantReply     outcome = iota
	wantSettled           // ControlSettled
	wantReceivers         // ControlReceivers
	outcomes
)

// answer takes the outcome of one message: what was waited for, or an error.
// Exactly one of the two is set.
type answer struct {
	call *call
	done func(payload []byte, err error)
}

// call is a caller that waits. It is reused.
type call struct {
	result chan result // capacity 1
}

type result struct {
	payload []byte
	n       int // receivers
	err     error
}

var calls = sync.Pool{New: func() any { return &call{result: make(chan result, 1)} }}

// pendingSlots is how many requests can be out without the overflow map: twice
// the delivery window, because a request is out until its reply comes.
const pendingSlots = 2048

// pending holds who waits for what became of which message. put is called by
// one goroutine at a time (under the mutex of the request ring), take by any.
type pending struct {
	slots [pendingSlots]slot

	more     atomic.Int64 // entries of overflow, so that take needs the mutex only if there are some
	mu       sync.Mutex   // guards overflow; nothing is called under it
	overflow map[uint64]answer
}

// slot holds the message whose sequence is congruent to its place. The value
// of key says who may touch answer: slotFree the one who puts, slotTaken the
// one who takes, else whoever changes key to slotTaken first.
type slot struct {
	key    atomic.Uint64
	answer answer
}

const (
	slotFree  = 0 // no message has sequence 0
	slotTaken = ^uint64(0)

	outcomeShift = 62 // a key is a sequence, and above it what is waited for
	keySeq       = 1<<outcomeShift - 1
)

func keyOf(seq uint64, want outcome) uint64 { return seq&keySeq | uint64(want)<<outcomeShift }

// put registers the message seq before it is published.
func (p *pending) put(seq uint64, want outcome, a answer) {
	s, key := &p.slots[seq%pendingSlots], keyOf(seq, want)
	if s.key.Load() == slotFree {
		s.answer = a
		s.key.Store(key)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overflow == nil {
		p.overflow = map[uint64]answer{}
	}
	p.overflow[key] = a
	p.more.Add(1)
}

// take removes the message seq if that is waited for; ok is true for one caller only.
func (p *pending) take(seq uint64, want outcome) (a answer, ok bool) {
	s, key := &p.slots[seq%pendingSlots], keyOf(seq, want)
	if seq != 0 && s.key.CompareAndSwap(key, slotTaken) {
		a = s.answer
		s.answer = answer{}
		s.key.Store(slotFree)
		return a, true
	}
	if p.more.Load() == 0 {
		return answer{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok = p.overflow[key]; ok {
		delete(p.overflow, key)
		p.more.Add(-1)
	}
	return a, ok
}

// takeAny removes the message seq, whatever is waited for.
func (p *pending) takeAny(seq uint64) (a answer, want outcome, ok bool) {
	for want = range outcomes {
		if a, ok = p.take(seq, want); ok {
			break
		}
	}
	return a, want, ok
}

// takeAll removes and returns the messages with a sequence above after, up to
// and including last, for which that is waited for.
func (p *pending) takeAll(want outcome, after, last uint64) []answer {
	var all []answer
	within := func(key uint64) bool {
		seq := key & keySeq
		return key != slotTaken && key>>outcomeShift == uint64(want) && seq > after && seq <= last
	}
	for i := range p.slots {
		if key := p.slots[i].key.Load(); within(key) {
			if a, ok := p.take(key&keySeq, want); ok {
				all = append(all, a)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, a := range p.overflow {
		if within(key) {
			all = append(all, a)
			delete(p.overflow, key)
			p.more.Add(-1)
		}
	}
	return all
}
