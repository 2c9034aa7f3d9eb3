package flow

import (
	"encoding/binary"

	"github.com/chmpx/chmpx/wire"
)

// judge holds what programs did against the delivery contract:
//
//	kept        what Send accepted has been taken when all is calm, or its deadline has passed
//	repeats     taken twice only with FlagMaybeRepeat, and only if a node ended,
//	            was declared DOWN, forgot the session, or the segment was lost
//	order       first takes of one session and hash in the order of Send
//	one owner   nobody takes for a slot after its next owner has begun to
//	settled     never before it was taken
//
// A node that was declared DOWN and has not heard of it yet is exempt from
// repeats and one owner: nobody can tell it.
type judge struct {
	w       *sim
	msgs    map[judgeKey]*simMsg
	order   map[judgeKey]uint64 // program and hash: highest sequence taken
	owners  [simSlots]judgeOwner
	turns   map[turnKey]int // random messages first taken
	excused bool            // something has happened that allows repeats
	count   judgeCount
}

type judgeCount struct{ sent, taken, repeats, answers, failed, expired, struck, kept, stoodIn int }

func (c *judgeCount) add(o *judgeCount) {
	c.sent, c.taken, c.repeats, c.answers = c.sent+o.sent, c.taken+o.taken, c.repeats+o.repeats, c.answers+o.answers
	c.stoodIn += o.stoodIn
	c.failed, c.expired, c.struck, c.kept = c.failed+o.failed, c.expired+o.expired, c.struck+o.struck, c.kept+o.kept
}

type judgeKey struct {
	prog int
	n    uint64 // sequence or hash
}

type judgeOwner struct{ view, node int }

func (j *judge) init(w *sim) {
	*j = judge{w: w, msgs: map[judgeKey]*simMsg{}, order: map[judgeKey]uint64{}}
	for i := range j.owners {
		j.owners[i].view = -1
	}
}

func (m *simMsg) payload() []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint64(b, uint64(m.prog.idx))
	binary.LittleEndian.PutUint64(b[8:], m.seq)
	return b
}

func (j *judge) find(payload []byte) *simMsg {
	return j.msgs[judgeKey{int(binary.LittleEndian.Uint64(payload)), binary.LittleEndian.Uint64(payload[8:])}]
}

func (j *judge) excuse() { j.excused = true }

// evictions are an excuse as well.
func (j *judge) lookForEvictions() {
	for _, n := range j.w.nodes {
		if n.alive && n.core.Stats().Evicted > 0 {
			j.excuse()
		}
	}
}

// expired reports whether the message need not be delivered any more.
func (m *simMsg) expired(w *sim) bool { return m.until != 0 && w.now >= m.until }

func (j *judge) sent(m *simMsg) {
	j.count.sent++
	j.msgs[judgeKey{m.prog.idx, m.seq}] = m
}

// lose ends what is promised to a program that ended before its node did.
func (j *judge) lose(p *simProg) {
	for _, m := range j.msgs {
		if m.prog == p {
			m.lost = true
		}
	}
}

func (j *judge) settled(m *simMsg) {
	if isFan(m.kind) {
		j.settledFan(m)
	} else if m.takes == 0 && m.undelivered == 0 {
		j.w.fail("KEPT: %v is settled, nobody has taken it", m)
	}
	if m.flags&wire.FlagWantsSettled != 0 && m.delivered+m.undelivered != 1 {
		j.w.fail("OUTCOME: %v is settled after %d and %d reports", m, m.delivered, m.undelivered)
	}
}

func (j *judge) taken(a *simAtt, r *simIn) {
	m, n, w := r.msg, a.node, j.w
	j.lookForEvictions()
	m.takes++
	j.count.taken++
	up, inc := w.last().status(n)
	unaware := !up || inc != r.inc || a.gone // or was cut off and has not noticed
	if m.never {
		w.fail("DEADLINE: %v is taken, it was reported as not delivered", m)
	}
	if m.kind != wire.KindHash {
		j.takenKind(a, r, unaware)
		return
	}
	slot := int(r.d.Hash % simSlots)
	flagged := r.d.Flags&wire.FlagMaybeRepeat != 0
	standsIn := w.judgeStandIn(a, r, flagged)
	if v := &w.views[n.table]; !a.gone && !standsIn && (v.owner(w, slot) != n || v.incarnation(n) != r.inc) {
		w.fail("OWNER: %v takes %v of slot %d, although %v knows that it is not the owner", a.prog, m, slot, n)
	}
	if flagged && !j.excused && !w.opt.deaths {
		w.fail("REPEAT: %v is marked without any reason", m)
	}
	if m.takes > 1 {
		j.count.repeats++
		if !flagged && !unaware && m.stoodFor != n {
			w.fail("REPEAT: %v is taken again on %v without mark", m, n)
		}
		if !j.excused && !m.worked {
			w.fail("REPEAT: %v is taken again on %v for no reason", m, n)
		}
	} else {
		key := judgeKey{m.prog.idx, m.hash}
		if m.seq < j.order[key] && m.undelivered == 0 {
			w.fail("ORDER: %v is first taken after sequence %d", m, j.order[key])
		}
		j.order[key] = max(j.order[key], m.seq)
	}
	if !unaware && !standsIn {
		j.owner(n, r)
	}
}

// owner checks a take against the newest owner that has taken for the slot.
func (j *judge) owner(n *simNode, r *simIn) {
	w := j.w
	slot := int(r.d.Hash % simSlots)
	view := -1
	for i := range w.views {
		v := &w.views[i]
		if up, inc := v.status(n); up && inc == r.inc && v.owner(w, slot) == n {
			view = i
		}
	}
	last := &j.owners[slot]
	switch {
	case view < 0:
		w.fail("OWNER: %v takes %v of slot %d, which it never owned", n, r.msg, slot)
	case view < last.view && n.idx != last.node:
		w.fail("OWNER: %v takes %v of slot %d as of view %d, n%d has taken as of view %d", n, r.msg, slot, view, last.node, last.view)
	case view > last.view:
		*last = judgeOwner{view, n.idx}
	}
}

func (j *judge) replied(a *simAtt, d *Delivery) {
	w := j.w
	m := j.find(d.Payload)
	ask := a.prog.asked[d.Seq]
	if m == nil || ask == nil || m.prog != a.prog || m.seq != d.Seq || m.takes == 0 {
		w.fail("REPLY: %v gets a reply to %d, which is %v", a.prog, d.Seq, m)
		return
	}
	j.count.answers++
	if ask.answered++; ask.answered > 1 && !isFan(m.kind) && !j.excused && !w.opt.cuts && !m.worked {
		w.fail("REPLY: %v:%d is answered twice", a.prog, d.Seq)
	}
	if ask.failed > 0 && !isFan(m.kind) && !j.excused {
		w.fail("REQUEST: %v:%d is answered after it has failed", a.prog, d.Seq)
	}
}

// failed judges that no reply will come. Like reports, a program that attaches
// again may hear it again.
func (j *judge) failed(a *simAtt, seq uint64, ask *simAsk) {
	w, p, m := j.w, a.prog, a.message(seq)
	if j.count.failed++; ask.by != a {
		ask.by, ask.failed = a, 0
	}
	ask.failed++
	switch {
	case isFan(m.kind):
	case m.takes == 0:
		w.fail("REQUEST: %v:%d has failed, nobody has taken it", p, seq)
	case ask.failed > 1:
		w.fail("REQUEST: %v:%d has failed twice", p, seq)
	case ask.answered > 0 && !j.excused:
		w.fail("REQUEST: %v:%d has failed after it was answered", p, seq)
	case !j.excused && !w.opt.deaths && !w.opt.cuts:
		w.fail("REQUEST: %v:%d has failed for no reason", p, seq)
	}
}

// finishAsked judges the requests of a program that is alive.
func (j *judge) finishAsked(p *simProg) {
	for seq, ask := range p.asked {
		m := j.msgs[judgeKey{p.idx, seq}]
		outcomes := ask.answered + ask.failed + ask.given + m.undelivered
		if outcomes == 0 && (!isFan(m.kind) || ask.want > 0) || !j.excused && m.undelivered == 0 && outcomes < ask.want {
			j.w.fail("REQUEST: %v:%d has %+v outcomes", p, seq, *ask)
		}
	}
}

// finish judges the end of a run: all is calm, nothing moves any more.
func (j *judge) finish() {
	w := j.w
	for _, p := range w.progs {
		if p.alive && len(p.out)+len(p.rep) > 0 {
			w.fail("STUCK: %v has %d messages and %d replies unsettled", p, len(p.out), len(p.rep))
		}
		if p.next > 0 && p.alive && p.att != nil && p.node.core.Accepts(p.att.s, Requests) != Window {
			w.fail("STUCK: %v may send only %d", p, p.node.core.Accepts(p.att.s, Requests))
		}
		if p.alive {
			j.finishAsked(p)
		}
	}
	for _, m := range j.msgs {
		if isFan(m.kind) {
			j.finishFan(m)
		} else if m.takes == 0 && !m.lost && m.undelivered == 0 {
			w.fail("KEPT: %v was never taken", m)
		}
	}
	j.finishKinds()
	for _, n := range w.nodes {
		c := n.core
		for _, a := range n.atts {
			if a.s.detached && !a.full {
				w.fail("STUCK: the detached session of %v has not ended", a.prog)
			}
		}
		if c.untaken != 0 || c.sealed != 0 || len(c.chain) != 0 || len(c.joining) != 0 || len(c.restored) != 0 {
			w.fail("STUCK: %v counts %d untaken, %d sealed, %d and %d fences, %d joining",
				n, c.untaken, c.sealed, len(c.chain), len(c.restored), len(c.joining))
		}
		if len(c.sets) > c.cfg.SessionsMax || len(c.waiters) > c.cfg.SessionsMax {
			w.fail("BOUNDED: %v holds %d sessions, %d waiters", n, len(c.sets), len(c.waiters))
		}
		if s := c.Stats(); s.Violations != 0 {
			w.fail("PROTOCOL: %v counts %d violations", n, s.Violations)
		}
	}
}
