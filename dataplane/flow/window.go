package flow

import (
	"math"

	"github.com/chmpx/chmpx/ring"
)

// never is a time that does not come.
const never = math.MaxInt64

// state says where a record is.
type state uint8

const (
	unsent  state = iota // in the out-ring only: no peer has it
	out                  // transmitted, neither acknowledged nor refused
	settled              // nobody needs it any more
)

// entry is one record of a window.
type entry struct {
	rec     Record
	dest    *Peer            // out, and replies: the destination
	inc     ring.Incarnation // out: of dest when it was transmitted
	need    ring.Epoch       // unsent: not before the table is at it
	prev    uint64           // sequence of the record submitted before with the same bucket
	holdNs  int64            // replies: dropped when still unsent then; 0 = no time set yet
	sinceNs int64            // replies: when it first found no way; 0 = it has not
	retryNs int64            // replies: not before
	attempt uint32           // of the last transmission
	state   state
	resend  bool // out: to be transmitted again, the link that carried it is gone
	waited  bool // a later record waits for this one
	replied bool // its reply came already
	inPlace bool // out: at who stands in for its owner, or did
	fan     *fan // of a message that is fanned out: its copies
}

// pending reports whether the entry waits to be transmitted.
func (e *entry) pending() bool { return e.state == unsent || e.state == out && e.resend }

// window holds the records of one stream from the oldest unsettled one on, in
// a circular array indexed by sequence. Sequences grow with gaps; a slot whose
// record has another sequence is a gap.
type window struct {
	slots    []entry // length a power of two, at most Window
	low      uint64  // oldest unsettled sequence; last+1 when there is none
	last     uint64  // newest submitted sequence
	end      uint64  // out-ring cursor up to which everything is settled
	live     int     // unsettled records
	waiting  int     // records that are pending
	scanFrom uint64  // no pending record has a lower sequence
	dueNs    int64   // when a scan can do more without any other event
}

const windowMin = 32 // slots of a fresh window

// at returns the entry of a sequence, nil if there is none between low and last.
func (w *window) at(seq uint64) *entry {
	if seq < w.low || seq > w.last {
		return nil
	}
	if e := w.slot(seq); e.rec.Seq == seq {
		return e
	}
	return nil
}

// slot returns the place of a sequence, whatever it holds.
func (w *window) slot(seq uint64) *entry { return &w.slots[seq&uint64(len(w.slots)-1)] }

// accepts returns how many sequences without a gap may follow.
func (w *window) accepts() int {
	if w.live == 0 {
		return Window
	}
	return Window - int(w.last+1-w.low)
}

// push appends a record as unsent and pending.
func (w *window) push(r *Record) (*entry, error) {
	if r.Seq <= w.last {
		return nil, ErrSequence
	}
	if w.live == 0 {
		w.low, w.scanFrom = r.Seq, r.Seq
	} else if r.Seq-w.low >= Window {
		return nil, ErrWindow
	}
	if int(r.Seq-w.low) >= len(w.slots) {
		w.grow(int(r.Seq - w.low))
	}
	w.last = r.Seq
	w.live++
	w.waiting++
	w.scanFrom = min(w.scanFrom, r.Seq)
	e := w.slot(r.Seq)
	*e = entry{rec: *r}
	return e, nil
}

// grow makes room for a record span sequences above low.
func (w *window) grow(span int) {
	n := max(windowMin, len(w.slots))
	for n <= span {
		n *= 2
	}
	old := *w
	w.slots = make([]entry, n)
	for seq := old.low; old.live > 0 && seq <= old.last; seq++ {
		if e := old.at(seq); e != nil {
			*w.slot(seq) = *e
		}
	}
}

// wait makes an entry that is not pending unsent, or one that is out due for
// being sent again.
func (w *window) wait(e *entry, st state) {
	if !e.pending() {
		w.waiting++
	}
	e.state, e.resend = st, st == out
	w.scanFrom = min(w.scanFrom, e.rec.Seq)
}

// sent marks a pending entry as out.
func (w *window) sent(e *entry) {
	w.waiting--
	e.state, e.resend = out, false
}

// settle marks an entry as settled; advance must follow.
func (w *window) settle(e *entry) {
	if e.pending() {
		w.waiting--
	}
	e.state, e.resend = settled, false
	w.live--
}

// advance moves low over what is settled and reports whether the out-ring may
// be released further, up to end.
func (w *window) advance() (moved bool) {
	for w.low <= w.last {
		if e := w.slot(w.low); e.rec.Seq == w.low {
			if e.state != settled {
				break
			}
			w.end, moved = e.rec.End, true
		}
		w.low++
	}
	return moved
}

// due notes that a scan can do more at a time.
func (w *window) due(atNs int64) { w.dueNs = min(w.dueNs, atNs) }
