package dataplane

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// drainBytesMax bounds what one look at an out-ring forwards before others get
// the lock, and what waits in a link's buffer with it.
const drainBytesMax = 256 << 10

// deadlineMsMax is the latest deadline, ten years ahead: it must fit the
// core's clock. From owedStall control records on that wait for room no message
// is read that could owe one more.
const (
	deadlineMsMax = 10 * 365 * 24 * 3600 * 1000
	owedStall     = 1024
)

// attachment is one attached program: its segment, its rings, its session.
// Rings are used under p.mu only, so that whoever holds a batch can go on with
// them; the pump goroutine waits for the program's doorbell.
type attachment struct {
	p      *Plane
	id     wire.SessionID
	server bool
	onDone bool // it takes a message when it is done with it, so what is untaken may be in the works
	name   string
	conn   shm.Conn
	mem    []byte
	memory shm.MemfdID // of mem
	seg    *shm.Segment
	own    shm.Doorbell // rung by the program, waited on by the pump
	theirs shm.Doorbell // rung by the node
	handed *handedBack  // what a segment that was handed back held; until the answer

	process  process // set before the attachment is in p.attached
	reserved int64   // bytes counted in p.shmBytes

	// guarded by p.mu
	session  *flow.Session
	fromReq  *shm.Consumer
	fromRep  *shm.Consumer
	fromCtl  *shm.Consumer
	toReq    *shm.Producer
	toRep    *shm.Producer
	toCtl    *shm.Producer
	head     uint64         // of the request in-ring, as last told to the core
	again    uint64         // cursor in the request out-ring: what lies before may be a repeat
	serving  int            // as last told to the program
	owed     []wire.Control // that found no room in the control in-ring, oldest first
	dirty    bool           // in p.dirtyLocal
	wrote    bool           // records wait to be published
	settled  [2]uint64      // per stream: cursor up to which the out-ring may be released
	released bool           // settled has grown
	deaf     bool           // a control record found no room: nothing is released any more
	stalled  [2]bool        // per stream: the window is full, the ring is not read
	resuming bool           // in p.resumable
	broken   bool           // the segment holds nonsense: its rings are read no more
	lost     bool           // a record that must be sent again cannot be read
	ended    bool           // the program is gone: the segment lives on until everything is settled
	traced   traced
	detached bool  // the core knows that it is gone
	cut      bool  // it was this node that ended it: the program may be alive
	dead     error // why it was killed
}

// kill makes the attachment's goroutine end; it never blocks, p.mu may be held.
func (a *attachment) kill(why error) {
	if a.dead == nil {
		a.dead, a.cut = why, true
	}
	_ = a.conn.SetDeadline(time.Unix(1, 0))
}

// run serves the program until its socket closes. The caller registered it.
func (a *attachment) run() {
	p := a.p
	p.work.Go(func() {
		// The program never sends more on the socket: a read returns when it has ended.
		var b [1]byte
		_, err := a.conn.Read(b[:])
		if err == nil {
			err = errors.New("unexpected data on the attach socket")
		}
		a.endBecause(err)
		_ = a.own.Close()
	})
	p.work.Go(func() {
		if a.process.await() {
			a.endBecause(errProcessEnded)
			_ = a.conn.SetDeadline(time.Unix(1, 0)) // the other watcher goes on
		}
	})
	bt := &batch{}
	err := a.own.Wait(func() bool { return a.poll(bt) })
	_ = a.conn.SetDeadline(time.Unix(1, 0))
	a.process.close()
	a.endBecause(err)
	p.mu.Lock()
	p.detach(a)
	p.finishUnlock(bt)
	_ = a.conn.Close()
}

// endBecause notes why the attachment ends, if nothing else was first.
func (a *attachment) endBecause(why error) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	if a.dead == nil {
		a.dead = why
	}
}

// poll drains the program's rings until they are empty and reports true when
// the attachment has ended.
func (a *attachment) poll(b *batch) (done bool) {
	p := a.p
	for {
		p.mu.Lock()
		if a.dead != nil {
			p.mu.Unlock()
			return true
		}
		again, hot := a.drain(), false
		if !again {
			left := p.cfg.HotWait && p.hot.leaveProgram(a)
			if hot = p.beginHot(); !hot && !left {
				var err error
				if again, err = a.sleep(); err != nil {
					a.corrupt(err)
				}
			}
		}
		p.finishUnlock(b)
		if hot {
			p.waitHot(&a.dead)
		}
		if !again {
			return false
		}
	}
}

// drain forwards one round of what the program wrote; p.mu is held. It reports
// whether there may be more.
func (a *attachment) drain() bool {
	now := a.p.nowNs()
	a.lookTaken(now)
	a.payOwed()
	if err := a.drainControl(); err != nil {
		a.corrupt(err)
	}
	return a.drainRings(now)
}

// drainRings submits new replies and messages; p.mu is held. It reports
// whether there may be more that can be read now.
func (a *attachment) drainRings(now int64) (more bool) {
	if !a.broken && !a.detached {
		more = a.drainReplies(now)
		more = a.drainRequests(now) || more
	}
	if a.ended {
		if !a.detached && (a.broken || a.repliesRead()) {
			a.p.core.EndReplies(a.session)
		}
		a.finish(now)
	}
	return more
}

// finish ends the session of a program that has ended, when everything that it
// had sent is submitted; p.mu is held.
func (a *attachment) finish(now int64) {
	core := a.p.core
	switch {
	case a.lost:
		// What cannot be read cannot be settled, and the session would stay for
		// ever. Another one in its place, as if the library had come back, ends it.
		a.lost, a.detached = false, true
		a.session.Handle = nil // its end is not yet that of the attachment
		a.session = core.Attach(now, a.id, false)
		a.session.Handle = a
		core.Detach(now, a.session)
	case a.detached:
	case a.broken, !a.more() && !a.stalled[flow.Requests] && !a.stalled[flow.Replies]:
		a.detached = true
		core.Detach(now, a.session)
	}
}

// corrupt ends an attachment whose segment holds nonsense; p.mu is held.
func (a *attachment) corrupt(err error) {
	if a.broken {
		return
	}
	a.broken = true
	a.p.note(slog.LevelWarn, "detached a program: its segment is corrupt", "program", a.name, "error", err)
	a.kill(err)
	if a.ended {
		a.resume()
	}
}

// drainRequests submits new messages; p.mu is held.
func (a *attachment) drainRequests(now int64) (more bool) {
	room := a.p.core.Accepts(a.session, flow.Requests)
	for used := 0; used < drainBytesMax; {
		if room <= 0 { // of what was submitted some may be settled: its deadline had passed
			room = a.p.core.Accepts(a.session, flow.Requests)
		}
		if len(a.owed) >= owedStall && !a.ended { // each may owe more; payOwed resumes
			room = 0
		}
		if a.stalled[flow.Requests] = room <= 0; room <= 0 {
			return false // what is settled next resumes
		}
		var q wire.OutRequest
		size, pos, end, ok, err := a.nextRequest(&q)
		if err == nil && !ok {
			return false
		}
		if err == nil && a.again != 0 && end == a.again && fault.Bug(fault.LoseRecordOnRestart) {
			continue
		}
		if pos < a.again {
			q.Again()
		}
		a.traceSubmitted(flow.Requests, q.Seq, end)
		if err == nil {
			a.p.history.pass(false, true, size)
			err = a.p.core.Submit(now, a.session, flow.Requests, &flow.Record{
				Seq: q.Seq, Position: pos, End: end, Size: uint32(size), Hash: q.Hash, Kind: q.Kind, Flags: q.Flags,
				DeadlineNs: a.p.deadlineNs(now, q.DeadlineUnixMs),
			})
		}
		if err != nil {
			a.corrupt(err)
			return false
		}
		used += wire.OutRequestBytes + size
		room--
	}
	return true
}

// drainReplies submits new replies; p.mu is held.
func (a *attachment) drainReplies(now int64) (more bool) {
	room := a.p.core.Accepts(a.session, flow.Replies)
	for used := 0; used < drainBytesMax; room-- {
		if room <= 0 {
			room = a.p.core.Accepts(a.session, flow.Replies)
		}
		if a.stalled[flow.Replies] = room <= 0; room <= 0 {
			return false
		}
		var q wire.OutReply
		size, pos, end, ok, err := a.nextReply(&q)
		if err == nil && !ok {
			return false
		}
		a.traceSubmitted(flow.Replies, q.Seq, end)
		if err == nil {
			a.p.history.pass(false, true, size)
			err = a.p.core.Submit(now, a.session, flow.Replies, &flow.Record{
				Seq: q.Seq, Position: pos, End: end, Size: uint32(size),
				DeadlineNs: a.p.deadlineNs(now, q.DeadlineUnixMs),
				ToNode:     inboundID(q.ToNode), ToSession: q.ToSession, ToSeq: q.ToSeq,
			})
		}
		if err != nil {
			a.corrupt(err)
			return false
		}
		used += wire.OutReplyBytes + size
	}
	return true
}

// deadlineNs turns a wall-clock deadline into one of the core's clock; 0 stays 0.
func (p *Plane) deadlineNs(now, unixMs int64) int64 {
	if unixMs == 0 {
		return 0
	}
	left := min(unixMs-fault.Now().UnixMilli(), deadlineMsMax) // unixMs is not negative
	return max(now+left*int64(time.Millisecond), 1)
}

// lookTaken tells the core how far the program has read; p.mu is held.
func (a *attachment) lookTaken(now int64) {
	if !a.server || a.ended || !a.p.core.Delivered(a.session) {
		return
	}
	head, err := a.taken()
	if head != a.head {
		fault.Crash(fault.NodeTakenSeen)
		a.head, a.p.moved = head, true
		a.traceTaken(head)
		a.p.core.Taken(now, a.session, head)
	}
	if err != nil {
		a.corrupt(err)
	}
}

// ring wakes the program; no lock is held.
func (a *attachment) ring() {
	if err := a.theirs.Ring(); err != nil {
		a.p.log.Debug("could not ring a program", "program", a.name, "error", err)
	}
}

// touch puts the attachment on the list of those to publish; p.mu is held.
func (a *attachment) touch() {
	if !a.dirty {
		a.dirty = true
		a.p.dirtyLocal = append(a.p.dirtyLocal, a)
	}
}

// tellServing writes the number of servers in service to the program; p.mu is held.
func (a *attachment) tellServing(n int) {
	if a.serving == n || a.ended {
		return
	}
	a.serving = n
	for i := range a.owed { // what it has not been told yet is out of date
		if a.owed[i].Type == wire.ControlServing {
			a.owed[i].Value = uint64(n)
			return
		}
	}
	a.control(wire.Control{Type: wire.ControlServing, Value: uint64(n)})
}

// errDeaf is why a program is cut off that leaves its control ring full.
var errDeaf = errors.New("the program does not read its control ring")

// control writes one control record, or keeps it until there is room; p.mu is
// held. A program that has ended may come back with its segment and read it then.
func (a *attachment) control(c wire.Control) {
	switch {
	case a.broken || a.mem == nil:
	case len(a.owed) == 0 && a.putControl(c):
	case a.ended: // nobody makes room: what follows is not released, so it is sent again if it comes back
		a.deaf = true
	case len(a.owed) > owedStall+a.p.core.ReportsMax(): // of what was read before, and how many serve
		a.deaf = true
		a.kill(errDeaf)
	default:
		a.owed = append(a.owed, c)
		a.payOwed() // it may have read meanwhile
	}
}

// putControl writes one control record if there is room. If not, the program
// rings when there is; p.mu is held.
func (a *attachment) putControl(c wire.Control) bool {
	ok, err := a.writeControl(c)
	if err != nil {
		a.corrupt(err)
	}
	if ok {
		a.wrote = true
		a.touch()
	}
	return ok
}

// payOwed writes the control records that there is room for; p.mu is held.
func (a *attachment) payOwed() {
	for len(a.owed) > 0 {
		written := a.putControl(a.owed[0])
		if !written { // once more: it may have read before it could see that we want room
			written = a.putControl(a.owed[0])
		}
		if !written {
			return
		}
		if a.owed = a.owed[1:]; len(a.owed) > 0 {
			continue
		}
		a.owed = nil
		if a.stalled[flow.Requests] {
			a.resume()
		}
	}
}

// resume puts the attachment on the list of those to read on; p.mu is held.
func (a *attachment) resume() {
	if !a.resuming {
		a.resuming = true
		a.p.resumable = append(a.p.resumable, a)
	}
}

// attach registers a new program; no lock is held. The returned error is for the program.
func (p *Plane) attach(a *attachment) (code wire.AttachCode, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || p.ctx == nil:
		return wire.AttachRefusedStopping, errShutdown
	case a.server && p.cfg.Slave:
		return wire.AttachRefusedRole, errors.New("a slave node takes no server programs; use the configuration of a server node")
	}
	if err := a.openRings(); err != nil {
		return wire.AttachRefusedSegment, err
	}
	if a.handed != nil {
		for _, other := range p.attached { // what it says in the segment can be changed
			if other.memory == a.memory && other.id != a.id {
				return wire.AttachRefusedSegment, fmt.Errorf("%w: it is attached as session %v", errForeign, other.id)
			}
		}
	}
	if old := p.attached[a.id]; old != nil {
		if !old.ended {
			return wire.AttachRefusedSession, fmt.Errorf("session %v is attached already", a.id)
		}
		old.free()
		delete(p.attached, a.id)
	}
	a.session = p.core.Attach(p.nowNs(), a.id, a.server)
	a.session.Handle = a
	a.serving = -1
	p.attached[a.id] = a
	a.traceAttached(fault.Attached)
	if h := a.handed; h != nil {
		a.again = h.outEnd
		kept, err := a.takeBack(p.nowNs())
		p.note(slog.LevelInfo, "took a segment back", "program", a.name, "session", a.id, "untaken", len(h.at), "kept", kept)
		if err != nil { // it changed since it was checked: run sees it and detaches
			a.corrupt(fmt.Errorf("strike out what was not taken: %w", err))
		}
	}
	a.tellServing(p.serving)
	if a.server {
		p.programsChanged(1)
	}
	return wire.AttachOK, nil
}

// programsChanged counts server programs and reports it after the batch; mu is held.
func (p *Plane) programsChanged(by int) {
	p.programs += by
	n := p.programs
	p.report(func(r Reporter) { r.ProgramsChanged(n) })
}

// detach ends a program's attachment; mu is held. Its unsettled messages are
// still delivered, so the segment stays until the core says SessionEnded.
func (p *Plane) detach(a *attachment) {
	if a.ended {
		return
	}
	a.ended = true
	p.hot.forget(nil, a)
	a.traceAttached(fault.Detached)
	p.note(slog.LevelInfo, "program detached", "program", a.name, "session", a.id, "reason", a.dead)
	if a.server {
		p.programsChanged(-1)
	}
	now := p.nowNs()
	if a.server && p.core.Delivered(a.session) {
		head, err := a.taken() // what it took last counts
		a.traceTaken(head)
		p.core.Taken(now, a.session, head)
		if err != nil {
			a.corrupt(err)
		}
	}
	a.deaf, a.owed = a.deaf || len(a.owed) > 0, nil // nobody makes room
	a.traceWithdrawn()
	p.core.Withdraw(now, a.session, a.cut || a.onDone)
	a.resume() // what it wrote last was accepted, too
}

// free unmaps the segment, if there is one; mu is held, and nothing refers to its rings any more.
func (a *attachment) free() {
	a.p.shmBytes -= a.reserved
	a.reserved = 0
	if a.mem != nil {
		if err := a.p.cfg.System.Unmap(a.mem); err != nil {
			a.p.note(slog.LevelWarn, "could not unmap a segment", "program", a.name, "error", err)
		}
		a.mem = nil
	}
	for _, bell := range []shm.Doorbell{a.theirs, a.own} {
		if bell != nil {
			_ = bell.Close()
		}
	}
}
