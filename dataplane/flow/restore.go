package flow

import (
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Handed is a record that lies untaken in the in-ring of a program, which an
// earlier process of this node had put there.
type Handed struct {
	From           ring.ID        // node of the sender, as Delivery named it
	Session        wire.SessionID // of the sender
	Seq, Hash, End uint64         // End as Deliver returned it
	Kind           wire.Kind
	Flags          wire.Flags
}

// Restore takes over the in-ring of a program that has handed its segment back
// after a restart of this node. The owner calls it right after Attach of s,
// before any other event, with what the program has not taken, in the order of
// the ring. For each record keep[i] tells whether it stays: false means that
// the owner strikes it out before the program reads on, true that the owner
// marks it FlagMaybeRepeat. What is struck out is not lost: its sender sends it
// again. len(keep) must be at least len(recs).
//
// A record stays only if this node may have it now: it is admitted, acts for
// the hash, the slot is not sealed, and the node does not hold (Hold). Nothing stays of a session that this
// core has heard of: its sender has begun to send again.
func (c *Core) Restore(_ int64, s *Session, recs []Handed, keep []bool) {
	var f restored
	for i := range recs {
		r := &recs[i]
		keep[i] = s.server && c.mayRestore(r) && c.restore(s, r)
		if keep[i] {
			f.add(r.Hash)
		}
	}
	if s.program.untaken() > 0 {
		f.s, f.end = s, s.program.given
		c.restored = append(c.restored, f)
	}
}

// mayRestore reports whether a record that was given before this process
// began is this node's by the present view. Only one sent by hash is: a random
// one its sender gives to any server, and what was promised of a copy has
// ended with the process that it was for.
func (c *Core) mayRestore(r *Handed) bool {
	return c.selfIndex >= 0 && !c.held && r.Seq != 0 && r.Seq <= wire.SeqMax && r.Kind == wire.KindHash && !c.table.Random &&
		c.table.Acting(r.Hash) == c.selfIndex && !c.seal.HasHash(r.Hash)
}

// restore puts a record into its session's set and among the untaken ones of
// s, and reports whether that could be done.
func (c *Core) restore(s *Session, r *Handed) bool {
	set := c.sets[r.Session]
	switch {
	case set != nil && !set.restored:
		return false
	case set == nil:
		if len(c.sets) >= c.cfg.SessionsMax {
			return false
		}
		set = c.beginSet(r.Session, c.peers[r.From], max(r.Seq, Window)-Window+1)
		set.restored = true
	}
	if !set.reach(r.Seq) || set.holds(r.Seq) {
		return false
	}
	set.accepted.add(r.Seq)
	set.attempts[r.Seq%Window] = 0
	set.untaken++
	c.untaken++
	c.stats.Restored++
	s.program.push(handed{set: set, seq: r.Seq, hash: r.Hash, kind: r.Kind, end: r.End})
	if r.Flags&wire.FlagWantsReply != 0 {
		s.program.open.add(r.From, &r.Session, r.Seq)
	}
	return true
}

// reach moves the window of a set that was not heard of yet so that it holds
// seq, and reports whether it can without letting go of anything. Low is as
// low as it can be: the sender's is not below it, since the sender's window
// holds all that was not taken.
func (s *inSet) reach(seq uint64) bool {
	for range Window { // none of more is held
		if s.low+Window > seq || s.holds(s.low) {
			return seq >= s.low && seq-s.low < Window
		}
		s.low++
	}
	s.low = max(s.low, seq-Window+1)
	return seq >= s.low && seq-s.low < Window
}

// restored is the fence after Restore: a hash of a record that was kept may
// choose another program only when the one that holds it has taken all that
// was restored. Hashes that share a bit wait without need.
type restored struct {
	s    *Session
	end  uint64 // program.given after Restore
	bits [restoredBits / 64]uint64
}

const restoredBits = 4096

func (f *restored) add(hash uint64) {
	b := mix(hash) % restoredBits
	f.bits[b/64] |= 1 << (b % 64)
}

// holds reports whether a hash must wait for the program.
func (f *restored) holds(hash uint64) bool {
	b := mix(hash) % restoredBits
	return f.bits[b/64]&(1<<(b%64)) != 0 && !f.s.program.passed(f.end)
}
