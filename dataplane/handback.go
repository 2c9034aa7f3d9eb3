package dataplane

import (
	"errors"
	"fmt"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// untakenMax bounds how many untaken records of a segment may be kept: a
// program could bring along millions of empty ones. Beyond it all are struck out.
const untakenMax = 1 << 16

// handedBack is what a segment held that an earlier process of this node had
// made and whose program has brought it along.
type handedBack struct {
	taker   *shm.Consumer // over the request in-ring; releases nothing
	at      []uint64      // positions of the untaken records there
	untaken []flow.Handed // the same records; without entries if they are too many
	outEnd  uint64        // tail of the request out-ring: what lies before may be a repeat
}

// errForeign says that a segment is of another session.
var errForeign = errors.New("segment of another session")

// checkHandedBack checks a segment that was handed back like a frame from a
// stranger: whose it is, the cursors of all rings (Open has), and every record
// between head and tail. What the program changes later is checked as ever.
func checkHandedBack(seg *shm.Segment, session wire.SessionID) (h *handedBack, err error) {
	defer shm.Catch(shm.Arm(), &err)
	if id := wire.SessionID(seg.Session()); id != session || id == (wire.SessionID{}) {
		return nil, fmt.Errorf("%w: %v instead of %v", errForeign, id, session)
	}
	most := wire.MessageBytesMax(seg.RingBytes())
	h = &handedBack{taker: seg.Consumer(shm.ToProgram, shm.Request)}
	err = errors.Join(
		walk(h.taker, func(rec []byte, pos, end uint64) error {
			var q wire.InRequest
			_, err := q.Get(rec)
			h.at = append(h.at, pos)
			if len(h.at) <= untakenMax {
				h.untaken = append(h.untaken, flow.Handed{From: inboundID(q.From), Session: q.Session, Seq: q.Seq, Hash: q.Hash, End: end, Kind: q.Kind, Flags: q.Flags})
			}
			return err
		}),
		walk(seg.Consumer(shm.ToProgram, shm.Reply), func(rec []byte, _, _ uint64) error {
			_, _, err := wire.GetInReply(rec)
			return err
		}),
		walk(seg.Consumer(shm.ToProgram, shm.Control), checkControl),
		walk(seg.Consumer(shm.ToNode, shm.Control), checkControl),
		checkOutRing(seg, shm.Request, most, func(rec []byte, end uint64) (uint64, []byte, error) {
			var q wire.OutRequest
			body, err := q.Get(rec)
			h.outEnd = end
			return q.Seq, body, err
		}),
		checkOutRing(seg, shm.Reply, most, func(rec []byte, _ uint64) (uint64, []byte, error) {
			var q wire.OutReply
			body, err := q.Get(rec)
			return q.Seq, body, err
		}))
	if len(h.at) > untakenMax {
		h.untaken = nil
	}
	return h, err
}

// walk visits all records of a ring.
func walk(c *shm.Consumer, visit func(rec []byte, pos, end uint64) error) error {
	for {
		rec, pos, end, ok, err := c.Next()
		if !ok || err != nil {
			return err
		}
		if err := visit(rec, pos, end); err != nil {
			return err
		}
	}
}

// checkOutRing checks what will be submitted again: sequences that grow, and
// payloads that rings and frames carry.
func checkOutRing(seg *shm.Segment, c shm.Class, most int, get func(rec []byte, end uint64) (uint64, []byte, error)) error {
	last := uint64(0)
	return walk(seg.Consumer(shm.ToNode, c), func(rec []byte, _, end uint64) error {
		seq, body, err := get(rec, end)
		switch {
		case err != nil:
			return err
		case seq <= last:
			return fmt.Errorf("%w: sequence %d after %d", shm.ErrCorrupt, seq, last)
		case len(body) > most:
			return fmt.Errorf("%w: %d bytes, at most %d allowed", errTooLarge, len(body), most)
		}
		last = seq
		return nil
	})
}

func checkControl(rec []byte, _, _ uint64) error {
	var c wire.Control
	return c.Get(rec)
}

// takeBack gives the core what the program has not taken, strikes out what the
// core does not keep, and marks the rest as repeats. The program does not read
// meanwhile: it has no answer yet. p.mu is held.
func (a *attachment) takeBack(now int64) (kept int, err error) {
	h := a.handed
	keep := make([]bool, len(h.at))
	if a.server && len(h.untaken) > 0 {
		a.p.core.Restore(now, a.session, h.untaken, keep)
	}
	a.traceHandedBack(h.untaken, keep)
	return h.settle(keep)
}

// settle strikes out or marks the untaken records.
func (h *handedBack) settle(keep []bool) (kept int, err error) {
	defer shm.Catch(shm.Arm(), &err)
	for i, pos := range h.at {
		if !keep[i] {
			if err := h.taker.Void(pos); err != nil {
				return kept, err
			}
			fault.Crash(fault.NodeHandBackStruck)
			continue
		}
		kept++
		rec, err := h.taker.At(pos)
		if err != nil {
			return kept, err
		}
		var q wire.InRequest
		if _, err := q.Get(rec); err != nil {
			return kept, err
		}
		q.Flags |= wire.FlagMaybeRepeat
		q.Put(rec)
		fault.Crash(fault.NodeHandBackMarked)
	}
	return kept, nil
}
