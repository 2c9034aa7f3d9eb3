package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// The simulation plays random interleavings on whole rings: servers and slaves,
// each a real Core, with programs, links and a control plane that are models.
// A run has a wild phase, in which everything may happen, and a calm one, in
// which nothing fails any more; then everything must be settled. What programs
// take is judged against the delivery contract as it happens (sim_judge_test.go).

// simOptions says what may happen in a run. Mutations break a rule on purpose.
type simOptions struct {
	replays bool // links deliver old refusals again
	crash   bool // nodes end, DOWN verdicts, programs cut off, evictions: what excuses repeats
	deaths  bool // programs end
	returns bool // programs are cut off, or lose their node, and come back
	merges  bool
	cuts    bool
	steps   int
	// messages have deadlines, servers go down without heirs
	deadlines bool
	// the ring falls apart, and servers stand in for others
	standIns bool
	kinds    simKindOptions
	mutation
}

type simNode struct {
	w      *sim
	idx    int
	id     ring.ID
	server bool
	alive  bool
	core   *Core
	ups    []simUp // admissions of this process start
	raft   int     // view applied through raft
	table  int     // view whose table is installed
	inc    ring.Incarnation
	final  int // id of the merge that this node, as donor, has drained for
	atts   []*simAtt
	links  []*simLink
	simStandIns
}

type simUp struct {
	view int
	inc  ring.Incarnation
}

// simProg is a program: the library's side of an attachment.
type simProg struct {
	idx    int
	id     wire.SessionID
	node   *simNode
	server bool
	sends  bool
	alive  bool
	att    *simAtt // nil while it has none
	next   uint64
	out    []simRec // sent, not settled
	rep    []simRec
	repSeq uint64
	asked  map[uint64]*simAsk
	jumps  bool    // its sequences have gaps: a few messages fill the window
	onDone bool    // takes a record when it is done with it, not when it is given
	todo   []simIn // requests that it has not answered
	hand   *simAtt // its last segment, if that may be handed back
}

// simAsk is a request as its program knows it.
type simAsk struct {
	answered, failed, given, want int
	by                            *simAtt // failed was counted for
}

// simRec is a record of an out-ring.
type simRec struct {
	rec Record
	org *simMsg
}

// simAtt is a segment: one attachment of a program.
type simAtt struct {
	prog *simProg
	node *simNode
	s    *Session
	live bool // the core may use it: not ended
	gone bool // the program does not take from it any more
	full bool // dead programs: not all submitted yet

	out       [2][]simRec // submitted, by stream
	submitted [2]int      // of prog.out, prog.rep
	end       [2]uint64
	in        []simIn
	busy      int // of in, what the program has and is not done with
	inCap     int
	inEnd     uint64
	head      uint64
	told      uint64
}

// simIn is a record of an in-ring.
type simIn struct {
	msg  *simMsg
	d    Delivery
	inc  ring.Incarnation
	view int    // table of the node when it accepted
	end  uint64 // cursor past it
}

// simMsg is one message as the judge knows it.
type simMsg struct {
	prog        *simProg
	seq         uint64
	hash        uint64
	takes       int
	until       int64 // deadline, 0 = none
	kind        wire.Kind
	flags       wire.Flags
	fan         simFan
	again       bool // random: the node that knew where it was has ended
	undelivered int  // reports
	delivered   int
	reported    *simAtt  // by this one last
	never       bool     // reported as not delivered
	worked      bool     // a program ended that was not done with it
	stoodFor    *simNode // taken in the place of this one, which may have it as well
	lost        bool     // its program ended, then its node: nothing is promised any more
}

type sim struct {
	opt     simOptions
	rng     *rand.Rand
	now     int64
	nodes   []*simNode
	servers []*simNode
	links   []*simLink
	progs   []*simProg
	views   []simView
	mergeID int
	hashes  []uint64
	linkCap int
	width   int // owners per slot
	budget  int // messages still to send
	calm    bool
	split   bool // the ring has fallen apart: the log decides nothing
	stuck   bool // programs take nothing
	slow    bool // and answer nothing by themselves
	judge   judge
	tracing bool
	trace   []string
	bad     []string
}

func (w *sim) logf(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%6.1fms ", float64(w.now)/1e6)+fmt.Sprintf(format, args...))
	}
}

func (w *sim) fail(format string, args ...any) {
	w.bad = append(w.bad, fmt.Sprintf(format, args...))
	w.logf("VIOLATION "+format, args...)
}

func (w *sim) one(n int) int                  { return w.rng.IntN(n) }
func (w *sim) chance(p float64) bool          { return w.rng.Float64() < p }
func (n *simNode) String() string             { return fmt.Sprintf("n%d", n.idx) }
func (p *simProg) String() string             { return fmt.Sprintf("p%d", p.idx) }
func (m *simMsg) String() string              { return fmt.Sprintf("%v:%d/h%d", m.prog, m.seq, m.hash%100) }
func inboundPeer(id ring.ID) ring.ID          { return ^id }
func newSim(seed uint64, opt simOptions) *sim { return newSimOf(rand.NewPCG(seed, 7), opt) }

// newSimOf takes every choice of the run from src.
func newSimOf(src rand.Source, opt simOptions) *sim {
	w := &sim{opt: opt, rng: rand.New(src)}
	w.judge.init(w)
	if w.opt.steps == 0 {
		w.opt.steps = 100 + w.one(700)
	}
	servers, slaves := 2+w.one(2), 1+w.one(2)
	w.width = 1
	if w.opt.kinds.wide {
		servers, w.width = 2+w.one(3), 2+w.one(2)
	}
	if w.opt.standIns {
		servers, w.width = 2+w.one(3), 2+w.one(2)
	}
	w.linkCap = w.opt.kinds.linkCap(2 + w.one(10))
	w.budget = 10 + w.one(120)
	for range 1 + w.one(4) {
		w.hashes = append(w.hashes, uint64(w.one(simSlots))+simSlots*uint64(w.one(5)))
	}
	for i := range servers + slaves {
		n := &simNode{w: w, idx: i, id: ring.ID(100 + i), server: i < servers}
		w.nodes = append(w.nodes, n)
		if n.server {
			w.servers = append(w.servers, n)
		}
	}
	for _, a := range w.nodes {
		for _, b := range w.servers {
			l := &simLink{w: w, a: simEnd{node: a, peer: b.id}, b: simEnd{node: b, peer: inboundPeer(a.id)}}
			l.a.link, l.b.link, l.a.far, l.b.far = l, l, &l.b, &l.a
			w.links = append(w.links, l)
			a.links = append(a.links, l)
			if a != b {
				b.links = append(b.links, l)
			}
		}
	}
	w.firstView()
	for _, n := range w.nodes {
		n.start()
		n.ups = []simUp{{0, ring.Incarnation(n.idx + 1)}}
		n.applyRaft(0)
	}
	for _, n := range w.nodes {
		for range 1 + w.one(3) {
			w.newProg(n, n.server)
		}
		if n.server && w.chance(.3) {
			w.newProg(n, false)
		}
	}
	return w
}

// start begins a fresh process of a node with the table from its disk.
func (n *simNode) start() {
	n.alive, n.ups, n.inc, n.raft = true, nil, 0, -1
	cfg := Config{Self: n.id, Slave: !n.server}
	if n.w.opt.cuts {
		cfg.ReplyHoldNs = 20e6
	}
	if n.w.opt.crash && n.w.chance(.3) {
		cfg.SessionsMax = 2
	}
	n.startStandIns(&cfg)
	n.core = New(cfg, (*simPorts)(n))
	n.atts = nil
	for _, l := range n.links {
		for _, e := range []*simEnd{&l.a, &l.b} {
			if e.node == n {
				n.core.Peer(e.peer).Handle = e
			}
		}
		if l.loop() {
			l.a.queue, l.b.queue = nil, nil
			l.a.state, l.b.state = sideUp, sideUp
			n.core.PeerUp(n.w.now, n.core.Peer(l.a.peer), 0)
			n.core.PeerUp(n.w.now, n.core.Peer(l.b.peer), 0)
		}
	}
	if n.table > 0 {
		n.setView()
	}
}

// crash ends the process of a node; programs that survive keep their out-rings.
func (n *simNode) crash() {
	w := n.w
	w.judge.excuse()
	n.alive = false
	for _, l := range n.links {
		l.nodeGone(n)
	}
	for _, l := range w.links {
		if l.via == n {
			l.cut()
		}
	}
	for _, a := range n.atts {
		p := a.prog
		a.live, a.gone = false, true
		w.judge.forget(p)
		switch {
		case !p.alive:
			w.judge.lose(p)
		case p.att == a || p.att == nil:
			if p.att == a {
				p.hand = a
			}
			p.att = nil
			if w.chance(.3) {
				p.alive, p.todo = false, nil
				w.judge.lose(p)
			}
		}
	}
	n.atts, n.core = nil, nil
}

// newProg starts and attaches a program.
func (w *sim) newProg(n *simNode, server bool) *simProg {
	p := &simProg{idx: len(w.progs), node: n, server: server, sends: !server || w.chance(.3), alive: true, asked: map[uint64]*simAsk{}}
	p.onDone = server && w.opt.deaths && w.chance(.3) && !w.opt.noDone
	p.jumps = w.chance(.2)
	if w.chance(.3) {
		p.next = uint64(w.one(5000))
	}
	binary.LittleEndian.PutUint64(p.id[:], uint64(p.idx+1))
	binary.LittleEndian.PutUint64(p.id[8:], w.rng.Uint64())
	w.progs = append(w.progs, p)
	p.attach()
	return p
}

// attach gives a program a segment: for the first time, or again under the same
// session with what its old out-rings still hold.
func (p *simProg) attach() {
	n := p.node
	w := n.w
	a := &simAtt{prog: p, node: n, live: true, inCap: w.opt.kinds.inCap(1 + w.one(6))}
	if p.att != nil { // the library noticed before the node did
		p.att.gone = true
		n.tellTaken(p.att)
		w.opt.withdraw(p.att, p.onDone)
		p.hand = p.att
	}
	a.s = n.core.Attach(w.now, p.id, p.server)
	a.s.Handle = a
	if p.hand != nil && p.server && w.chance(.7) {
		a.takeBack(p.hand)
	}
	p.hand = nil
	for i := range p.out {
		if r := &p.out[i].rec; r.Flags&wire.FlagGivenUp == 0 {
			r.Flags |= wire.FlagMaybeRepeat
		}
	}
	n.atts = append(n.atts, a)
	p.att = a
	w.logf("%v attaches to %v server=%v, %d to send again, %d kept", p, n, p.server, len(p.out), len(a.in))
	p.failAsked()
	a.submit()
}

// takeBack is the in-ring of an earlier segment that the program hands back.
func (a *simAtt) takeBack(old *simAtt) {
	n, w := a.node, a.node.w
	a.inEnd, a.head, a.told, a.inCap = old.inEnd, old.head, old.head, old.inCap
	recs, keep := make([]Handed, len(old.in)), make([]bool, len(old.in))
	for i, r := range old.in {
		recs[i] = Handed{From: r.d.From, Session: r.d.Session, Seq: r.d.Seq, Hash: r.d.Hash, End: r.end, Kind: r.d.Kind, Flags: r.d.Flags}
	}
	w.opt.restore(n, a.s, recs, keep)
	for i, r := range old.in {
		if !keep[i] {
			w.logf("%v of %v is struck out", r.msg, a.prog)
			w.judge.count.struck++
			continue
		}
		w.logf("%v of %v is kept", r.msg, a.prog)
		w.judge.count.kept++
		r.inc, r.view = n.inc, n.table
		if !w.opt.noKeptMark {
			r.d.Flags |= wire.FlagMaybeRepeat
		}
		if a.in = append(a.in, r); i < old.busy {
			a.busy++
			if ask := r.msg.prog.asked[r.d.Seq]; ask != nil {
				ask.given++ // the reply may have been dropped by the process that ended
			}
		}
	}
}

// failAsked is what a library does that has a new segment: the node watches
// nothing any more that was taken before.
func (p *simProg) failAsked() {
	for seq, ask := range p.asked {
		if !slices.ContainsFunc(p.out, func(r simRec) bool { return r.rec.Seq == seq }) {
			ask.given++
		}
	}
}

// submit hands over what the rings hold, as far as the core accepts it.
func (a *simAtt) submit() {
	if a.live {
		left := a.submitStream(Replies)
		a.full = a.submitStream(Requests) || left
	}
}

// submitStream hands over one ring, and reports whether something is left.
func (a *simAtt) submitStream(st Stream) (left bool) {
	c, w := a.node.core, a.node.w
	for {
		ring := [][]simRec{a.prog.out, a.prog.rep}[st] // Settled may have shortened it
		if a.submitted[st] >= len(ring) {
			return false
		}
		r := ring[a.submitted[st]]
		if c.Accepts(a.s, st) <= 0 {
			return true
		}
		a.end[st]++
		r.rec.Position, r.rec.End = a.end[st]-1, a.end[st]
		a.out[st] = append(a.out[st], r)
		a.submitted[st]++
		switch err := c.Submit(w.now, a.s, st, &r.rec); {
		case errors.Is(err, ErrWindow): // because of a gap: stays in the ring
			a.end[st]--
			a.submitted[st]--
			a.out[st] = a.out[st][:len(a.out[st])-1]
			return true
		case err != nil:
			w.fail("Submit of %v seq %d: %v", a.prog, r.rec.Seq, err)
			return true
		}
	}
}

// simRing is how many sequences an out-ring holds: more than the window does.
const simRing = 3 * Window

// send is the library's Send: into the out-ring, if there is room.
func (p *simProg) send() {
	w := p.node.w
	next := p.next + 1
	if w.chance(.05) || p.jumps && w.chance(.3) {
		next += uint64(w.one(700))
	}
	if len(p.out) > 0 && next-p.out[0].rec.Seq >= simRing {
		return
	}
	p.next = next
	w.budget--
	m := &simMsg{prog: p, seq: next, hash: w.hashes[w.one(len(w.hashes))]}
	r := Record{Seq: next, Size: 16, Hash: m.hash}
	if w.chance(.3) {
		r.Flags = wire.FlagWantsReply
	}
	if w.opt.deadlines && w.chance(.3) {
		m.until = w.now + int64(w.one(60_000_000))
		r.DeadlineNs = w.opt.deadline(m.until)
	}
	if w.chance(.2) {
		r.Flags |= wire.FlagWantsSettled
	}
	w.chooseKind(m, &r)
	if r.Flags&wire.FlagWantsReply != 0 {
		p.asked[next] = &simAsk{want: 1}
	}
	w.judge.sent(m)
	p.out = append(p.out, simRec{r, m})
	w.logf("%v sends %v", p, m)
	if p.att != nil && w.chance(.8) {
		p.att.submit()
	}
}

// giveUp marks a message in the out-ring, if it is there still.
func (p *simProg) giveUp(seq uint64, maybe bool) {
	for i := range p.out {
		if r := &p.out[i].rec; r.Seq == seq {
			r.Flags = r.Flags&^wire.FlagMaybeRepeat | wire.FlagGivenUp
			if maybe {
				r.Flags |= wire.FlagMaybeRepeat
			}
		}
	}
}

// take is the library's Receive: the oldest record leaves the in-ring, unless
// the program says so only when it is done with it.
func (a *simAtt) take() {
	w, n, p := a.node.w, a.node, a.prog
	r := a.in[a.busy]
	a.busy++
	w.logf("%v on %v takes %v flags %d", p, n, r.msg, r.d.Flags)
	w.judge.taken(a, &r)
	if !p.onDone || w.chance(.3) {
		a.done()
	}
	if r.d.Flags&wire.FlagWantsReply != 0 {
		p.todo = append(p.todo, r)
		if !w.slow && w.chance(.7) {
			p.answer(len(p.todo) - 1)
		}
	}
	if w.chance(.5) {
		n.tellTaken(a)
	}
}

// done lets the oldest record go that the program has.
func (a *simAtt) done() {
	a.head = a.in[0].end
	a.in = a.in[1:]
	a.busy--
}

// untaken reports whether there is something to take.
func (a *simAtt) untaken() bool { return !a.gone && !a.node.w.stuck && len(a.in) > a.busy }

// answer replies to one of the requests that the program has.
func (p *simProg) answer(i int) {
	w := p.node.w
	r := p.todo[i]
	p.todo = slices.Delete(p.todo, i, i+1)
	p.repSeq++
	p.rep = append(p.rep, simRec{rec: Record{
		Seq: p.repSeq, Size: 16, ToNode: r.d.From, ToSession: r.d.Session, ToSeq: r.d.Seq,
	}, org: r.msg})
	if p.att != nil && w.chance(.8) {
		p.att.submit()
	}
}

// tellTaken passes the head cursor of a program's in-ring to the core.
func (n *simNode) tellTaken(a *simAtt) {
	if !a.live || a.told == a.head && !n.core.Delivered(a.s) {
		return
	}
	a.told = a.head
	n.core.Taken(n.w.now, a.s, a.head)
	n.w.opt.afterTaken(n)
}

// die ends a program; what it sent goes on.
func (p *simProg) die() {
	p.alive, p.todo = false, nil
	a := p.att
	p.att = nil
	if a == nil { // not attached: nobody knows what it still had to send
		p.node.w.judge.lose(p)
		return
	}
	p.node.w.logf("%v dies, with %d it was not done with", p, a.busy)
	for _, r := range a.in[:a.busy] {
		r.msg.worked = true
	}
	a.gone = true
	p.node.tellTaken(a)
	p.node.w.opt.withdraw(a, p.onDone)
	a.submit()
	a.endIfSubmitted()
}

// endIfSubmitted detaches a dead program once everything it wrote has been read.
func (a *simAtt) endIfSubmitted() {
	if a.live && a.gone && !a.s.detached && a.submitted[Replies] == len(a.prog.rep) && a.prog.att == nil {
		a.node.core.EndReplies(a.s)
	}
	if a.live && a.gone && !a.full && !a.s.detached {
		a.node.core.Detach(a.node.w.now, a.s)
	}
}

// cutOff takes the segment of a living program away; the library will come
// back. It may take a little more before it notices.
func (a *simAtt) cutOff() {
	n, w := a.node, a.node.w
	w.logf("%v is cut off", a.prog)
	w.judge.excuse()
	a.gone = true
	n.tellTaken(a)
	a.prog.att, a.prog.hand = nil, a
	n.core.Withdraw(w.now, a.s, true)
	n.core.Detach(w.now, a.s)
	for len(a.in) > a.busy && w.chance(.3) {
		a.take()
	}
}
