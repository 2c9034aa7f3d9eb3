package flow

import (
	"encoding/binary"
	"slices"

	"github.com/chmpx/chmpx/wire"
)

// handed is one record in a program's in-ring that it has not taken.
type handed struct {
	set    *inSet
	seq    uint64
	hash   uint64
	kind   wire.Kind
	end    uint64 // the ring's head once it is taken
	sealed bool   // in a sealed slot
}

// program is the receiving part of a session: its untaken records, in ring order.
type program struct {
	ring      []handed // circular, length a power of two; bounded by the in-ring's bytes
	given     uint64   // records ever delivered
	taken     uint64   // records ever taken
	number    int
	seed      uint64 // of the choice among programs
	open      openRequests
	waiters   []*inSet // refused for want of room in this program's ring
	fullAt    uint64   // untaken records at the last such refusal
	displaced bool     // some of the untaken may be elsewhere as well
}

func (p *program) untaken() uint64        { return p.given - p.taken }
func (p *program) at(i uint64) *handed    { return &p.ring[i&uint64(len(p.ring)-1)] }
func (p *program) waitBit() uint64        { return 1 << (p.number % 63) }
func (p *program) passed(end uint64) bool { return p.taken >= end }

func (p *program) push(r handed) {
	if p.untaken() == uint64(len(p.ring)) {
		old := *p
		p.ring = make([]handed, max(64, 2*len(old.ring)))
		for i := old.taken; i < old.given; i++ {
			*p.at(i) = *old.at(i)
		}
	}
	p.given++
	*p.at(p.given - 1) = r
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func seedOf(id *wire.SessionID) uint64 {
	return mix(binary.LittleEndian.Uint64(id[:8])^0x9e3779b97f4a7c15) ^ mix(binary.LittleEndian.Uint64(id[8:]))
}

// pick chooses one of programs for a hash by rendezvous: when one comes or
// goes, only the hashes that it wins or had change.
func pick(programs []*Session, hash uint64) int {
	best, top := -1, uint64(0)
	if len(programs) == 1 {
		return 0
	}
	for i, s := range programs {
		if score := mix(hash ^ s.program.seed); best < 0 || score > top {
			best, top = i, score
		}
	}
	return best
}

// fence is an earlier set of programs. A hash that it chose otherwise than the
// present set must wait until the program it chose then has taken everything
// that it was given at that time.
type fence struct {
	programs []*Session
	ends     []uint64 // program.given of each at that time
}

func (f *fence) passed() bool {
	for i, s := range f.programs {
		if !s.program.passed(f.ends[i]) {
			return false
		}
	}
	return true
}

// fencesMax bounds the chain. Programs that attach beyond it take nothing
// until an earlier fence has been passed.
const fencesMax = 8

// Hold says whether this node gives programs nothing that is sent by hash,
// whatever its view says. It begins before the ring is told that this node has
// no program, and ends when the view shows what became of that: a program that
// comes in between could else have messages that the next owner is given, too.
func (c *Core) Hold(on bool) {
	if c.held == on {
		return
	}
	c.held = on
	if !on {
		c.liftWaiters()
	}
}

// Holding reports whether Hold is on.
func (c *Core) Holding() bool { return c.held }

// choose returns the program that gets a hash; free is false when there is
// none, when none may get any, or when untaken records of the hash may still
// be at another one.
func (c *Core) choose(hash uint64) (s *Session, free bool) {
	i := pick(c.programs, hash)
	if i < 0 || c.held {
		return nil, false
	}
	s = c.programs[i]
	for k := range c.chain {
		f := &c.chain[k]
		if j := pick(f.programs, hash); f.programs[j] != s && !f.programs[j].program.passed(f.ends[j]) {
			return nil, false
		}
	}
	for k := range c.restored {
		if f := &c.restored[k]; f.s != s && f.holds(hash) {
			return nil, false
		}
	}
	return s, true
}

// attachProgram adds a program to those that take messages.
func (c *Core) attachProgram(s *Session) {
	s.program.number = c.numbers
	c.numbers++
	s.program.seed = seedOf(&s.id)
	c.joining = append(c.joining, s)
	c.join()
}

// join lets programs that wait for it take part, as far as the chain has room.
func (c *Core) join() {
	for len(c.joining) > 0 {
		f := fence{programs: c.programs, ends: make([]uint64, len(c.programs))}
		for i, s := range c.programs {
			f.ends[i] = s.program.given
		}
		if !f.passed() {
			if len(c.chain) == fencesMax {
				return
			}
			c.chain = append(c.chain, f)
		}
		// A fresh slice each time: fences hold the earlier ones.
		c.programs = append(slices.Clone(c.programs), c.joining[0])
		c.joining = slices.Delete(c.joining, 0, 1)
		c.liftWaiters()
	}
}

// prune drops the fences that have been passed, whatever waited for them may come.
func (c *Core) prune() {
	n := len(c.chain) + len(c.restored)
	c.chain = slices.DeleteFunc(c.chain, func(f fence) bool { return f.passed() })
	c.restored = slices.DeleteFunc(c.restored, func(f restored) bool { return f.s.program.passed(f.end) })
	if len(c.chain)+len(c.restored) < n {
		c.join()
		c.liftWaiters()
	}
}

// withdraw takes a program out: what it has not taken is refused with the last
// attempt seen, so that its senders send it again; marked if the program may
// be alive and have taken it after the owner looked last.
func (c *Core) withdraw(s *Session, alive bool) {
	pr := &s.program
	waiters := pr.waiters
	for ; pr.taken < pr.given; pr.taken++ {
		r := pr.at(pr.taken)
		c.stats.Withdrawn++
		c.left(r)
		pr.open.del(&r.set.id, r.seq, true)
		if r.seq >= r.set.low { // of a forgotten set, too: its sender still waits
			r.set.accepted.del(r.seq)
			r.set.suspect = r.set.suspect || alive // also when the refusal is lost with its link
			if a := r.set.attempts[r.seq%Window]; a != 0 && r.set.links == r.set.peer.links {
				h := wire.Header{Seq: r.seq, Attempt: a}
				if alive {
					h.Flags = wire.FlagMaybeRepeat
				}
				c.later(r.set, &h, waitNode, &c.waiters)
			}
		}
		*r = handed{}
	}
	pr.waiters, pr.ring = nil, nil
	c.programs = slices.DeleteFunc(slices.Clone(c.programs), func(o *Session) bool { return o == s })
	c.joining = slices.DeleteFunc(c.joining, func(o *Session) bool { return o == s })
	for _, set := range waiters {
		set.waits &^= pr.waitBit()
		c.remember(set, waitNode, &c.waiters)
	}
	c.prune()
	if len(c.programs) > 0 {
		c.liftWaiters()
	}
}
