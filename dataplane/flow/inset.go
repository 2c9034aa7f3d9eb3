package flow

import (
	"math/bits"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// bitset is a set of sequences within one window.
type bitset [Window / 64]uint64

func (b *bitset) has(seq uint64) bool { return b[seq%Window/64]&(1<<(seq%64)) != 0 }
func (b *bitset) add(seq uint64)      { b[seq%Window/64] |= 1 << (seq % 64) }
func (b *bitset) del(seq uint64)      { b[seq%Window/64] &^= 1 << (seq % 64) }

// inSet is what this node knows of one sender's session: the sequences from low
// on that a program has been given or has taken. Below low everything is settled.
type inSet struct {
	id       wire.SessionID
	peer     *Peer  // where its last message came from, nil = no message since Restore
	links    uint32 // of peer at that time: attempts count only for that link
	low      uint64
	accepted bitset         // given to a program, not taken
	taken    bitset         // taken
	attempts [Window]uint32 // accepted: last attempt seen on the present link, 0 = none

	untaken   int    // records of this set in programs' rings
	ackBase   uint64 // pending acknowledgements: bit i of ackMask is ackBase+i
	ackMask   uint64
	ackQueued bool
	waits     uint64 // who it was refused by and waits for; bits as of waitBit
	suspect   bool   // begun after another was evicted, or its program was cut off alive: what is sent again may be a repeat
	restored  bool   // begun by Restore, no message came yet
	dead      bool   // forgotten; records in rings may still refer to it
	newer     *inSet // list by last use
	older     *inSet
}

// inSetOf finds or begins the set of a message's session.
func (c *Core) inSetOf(p *Peer, h *wire.Header) *inSet {
	set := p.last
	if set == nil || set.dead || set.id != h.Session {
		set = c.sets[h.Session]
		if set != nil && set.restored {
			set = c.confirm(set, h)
		}
		if set == nil {
			set = c.newInSet(p, h)
		}
		p.last = set
	}
	if c.newest != set {
		c.unlink(set)
		c.pushNewest(set)
	}
	if set.peer != p || set.links != p.links {
		set.peer, set.links = p, p.links
		clear(set.attempts[:]) // they were made on a link that is gone
	}
	return set
}

func (c *Core) newInSet(p *Peer, h *wire.Header) *inSet {
	if len(c.sets) >= c.cfg.SessionsMax {
		c.evict()
	}
	set := c.beginSet(h.Session, p, h.Low())
	set.suspect = c.stats.Evicted > 0
	return set
}

// beginSet begins the set of a session; p is nil if its node was not heard of yet.
func (c *Core) beginSet(id wire.SessionID, p *Peer, low uint64) *inSet {
	c.stats.Sessions++
	set := &inSet{id: id, peer: p, low: low}
	if p != nil {
		set.links = p.links
	}
	c.sets[id] = set
	c.pushNewest(set)
	return set
}

// confirm ends the time in which a set is known from Restore alone. One that
// has more than its sender ever sent was made up by a program: it is forgotten.
func (c *Core) confirm(set *inSet, h *wire.Header) *inSet {
	if h.Low() < set.low {
		c.stats.Violations++
		c.forget(set)
		return nil
	}
	set.restored = false
	return set
}

// evictLook is how many of the least recently used sets are looked at for one
// without untaken records.
const evictLook = 64

// evict forgets the least recently used set, rather one that nothing untaken refers to.
func (c *Core) evict() {
	victim := c.oldest
	for set, n := c.oldest, 0; set != nil && n < evictLook; set, n = set.newer, n+1 {
		if set.untaken == 0 {
			victim = set
			break
		}
	}
	c.stats.Evicted++
	c.forget(victim)
}

// forget removes a set; nil is allowed.
func (c *Core) forget(set *inSet) {
	if set == nil {
		return
	}
	set.dead = true
	c.orphans += set.untaken
	delete(c.sets, set.id)
	c.unlink(set)
}

func (c *Core) pushNewest(set *inSet) {
	set.older, set.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = set
	} else {
		c.oldest = set
	}
	c.newest = set
}

func (c *Core) unlink(set *inSet) {
	if set.newer != nil {
		set.newer.older = set.older
	} else {
		c.newest = set.older
	}
	if set.older != nil {
		set.older.newer = set.newer
	} else {
		c.oldest = set.newer
	}
	set.newer, set.older = nil, nil
}

// advance raises low: what lies below is settled.
func (s *inSet) advance(low uint64) {
	if low-s.low >= Window {
		s.accepted, s.taken = bitset{}, bitset{}
		s.low = low
		return
	}
	for ; s.low < low; s.low++ {
		s.accepted.del(s.low)
		s.taken.del(s.low)
	}
}

// holds reports whether a sequence within the window has been accepted or taken.
func (s *inSet) holds(seq uint64) bool { return s.accepted.has(seq) || s.taken.has(seq) }

// doubt returns FlagMaybeRepeat when a program here may have taken the message
// before this set was begun. It goes into the delivery, and into refusals, so
// that the next owner's program is told as well.
func (s *inSet) doubt(h *wire.Header) wire.Flags {
	if s.suspect && h.Attempt > 1 {
		return wire.FlagMaybeRepeat
	}
	return 0
}

// gather adds a sequence to base and mask, and reports whether it fits.
func gather(base, mask *uint64, seq uint64) bool {
	if *mask == 0 {
		*base, *mask = seq, 1
		return true
	}
	if seq >= *base {
		if seq-*base >= 64 {
			return false
		}
		*mask |= 1 << (seq - *base)
		return true
	}
	back := *base - seq
	if back >= uint64(bits.LeadingZeros64(*mask))+1 {
		return false
	}
	*base, *mask = seq, *mask<<back|1
	return true
}

// ack gathers the acknowledgement of a message.
func (c *Core) ack(set *inSet, seq uint64) {
	if !set.ackQueued {
		set.ackQueued = true
		c.acks = append(c.acks, set)
	}
	if !gather(&set.ackBase, &set.ackMask, seq) {
		c.sendAck(set)
		set.ackBase, set.ackMask = seq, 1
	}
}

// sendAck transmits what has gathered for a session.
func (c *Core) sendAck(set *inSet) {
	if fault.Every(fault.DropAck, 512) {
		set.ackMask = 0
		return
	}
	c.answer(set.peer, wire.Header{Type: wire.TypeAck, Session: set.id, Seq: set.ackBase, Hash: set.ackMask}, false)
	set.ackMask = 0
}
