package dataplane

import (
	"slices"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

// Passage is a message or a reply that came into this node or left it.
type Passage struct {
	Out     bool
	Program bool // from or to a program; false: from or to another node
	Bytes   int  // of its payload; between nodes with the header of its frame
	At      time.Time
}

// history keeps the newest passages while it is on. Plane.mu guards it.
type history struct {
	on    bool
	limit int
	kept  []passage // a ring once it is full; allocated when it is switched on
	next  int       // where the next one goes, when full
}

// passage is a Passage, small.
type passage struct {
	unixNs       int64
	bytes        uint32
	out, program bool
}

// SetHistory switches the history of passages on, which then begins anew, or
// off. It reports whether that was a change. Without Config.HistoryMax it stays
// off. Any goroutine.
func (p *Plane) SetHistory(on bool) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.history
	if on == h.on || h.limit <= 0 {
		return false
	}
	h.on = on
	if on {
		h.kept, h.next = make([]passage, 0, h.limit), 0
	}
	return true
}

// resize changes how many passages are kept; the newest stay. Without room it is
// off, and nothing stays. Plane.mu is held.
func (h *history) resize(limit int) {
	if limit == h.limit {
		return
	}
	h.limit = limit
	if h.kept == nil {
		return
	}
	kept := slices.Concat(h.kept[h.next:], h.kept[:h.next]) // oldest first
	kept = kept[max(0, len(kept)-limit):]
	h.kept, h.next = append(make([]passage, 0, limit), kept...), 0
	h.on = h.on && limit > 0
}

// History returns the passages since it was switched on last, oldest first, at
// most Config.HistoryMax. Any goroutine.
func (p *Plane) History() []Passage {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.history
	all := make([]Passage, 0, len(h.kept))
	for i := range h.kept {
		k := h.kept[(h.next+i)%len(h.kept)]
		all = append(all, Passage{Out: k.out, Program: k.program, Bytes: int(k.bytes), At: time.Unix(0, k.unixNs)})
	}
	return all
}

// pass notes a passage; Plane.mu is held.
func (h *history) pass(out, program bool, bytes int) {
	if h.on {
		h.add(passage{fault.Now().UnixNano(), uint32(bytes), out, program})
	}
}

func (h *history) add(k passage) {
	if len(h.kept) < cap(h.kept) {
		h.kept = append(h.kept, k)
		return
	}
	h.kept[h.next] = k
	h.next = (h.next + 1) % len(h.kept)
}

// received notes a frame from another node; Plane.mu is held.
func (h *history) received(f *wire.Header) {
	if h.on && (f.Type == wire.TypeMessage || f.Type == wire.TypeReply) {
		h.pass(false, false, wire.HeaderBytes+int(f.Length))
	}
}

// sent notes a frame to the node that peer reaches; Plane.mu is held.
func (h *history) sent(peer any, payload int) {
	if _, own := peer.(*loop); !own {
		h.pass(true, false, wire.HeaderBytes+payload)
	}
}
