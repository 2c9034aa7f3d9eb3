package dataplane

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// drainBytesMax bounds what one look at an out-ring forwards before others get
// the lock, and what waits in a link's buffer with it.
const drainBytesMax = 256 << 10

// attachment is one attached program: its segment, its rings, its session.
// Rings are used under p.mu only, so that whoever holds a batch can go on with
// them; the pump goroutine waits for the program's doorbell.
type attachment struct {
	p      *Plane
	id     wire.SessionID
	server bool
	name   string
	conn   *net.UnixConn
	mem    []byte
	seg    *shm.Segment
	own    shm.Doorbell // rung by the program, waited on by the pump
	theirs shm.Doorbell // rung by the node

	// guarded by p.mu
	session  *flow.Session
	fromReq  *shm.Consumer
	fromRep  *shm.Consumer
	fromCtl  *shm.Consumer
	toReq    *shm.Producer
	toRep    *shm.Producer
	toCtl    *shm.Producer
	head     uint64  // of the request in-ring, as last told to the core
	serving  int     // as last told to the program
	dirty    bool    // in p.dirtyLocal
	wrote    bool    // records wait to be published
	released bool    // records were released: a waiting program wants to know
	stalled  [2]bool // per stream: the window is full, the ring is not read
	resuming bool    // in p.resumable
	ended    bool    // the program is gone: the segment lives on until everything is settled
	detached bool    // the core knows that it is gone
	dead     error   // why it was killed
}

// kill makes the attachment's goroutine end; it never blocks, p.mu may be held.
func (a *attachment) kill(why error) {
	if a.dead == nil {
		a.dead = why
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
		p.mu.Lock()
		if a.dead == nil {
			a.dead = err
		}
		p.mu.Unlock()
		_ = a.own.Close()
	})
	bt := &batch{}
	err := a.own.Wait(func() bool { return a.poll(bt) })
	_ = a.conn.SetDeadline(time.Unix(1, 0))
	p.mu.Lock()
	if a.dead == nil {
		a.dead = err
	}
	p.detach(a)
	p.finishUnlock(bt)
	_ = a.conn.Close()
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
		a.seg.Awake(shm.NodeSide)
		again := a.drain()
		if !again {
			// Announce the sleep, then look once more: a record published in
			// between would otherwise ring nobody.
			a.seg.Sleep(shm.NodeSide)
			if again = a.waiting(); again {
				a.seg.Awake(shm.NodeSide)
			}
		}
		p.finishUnlock(b)
		if !again {
			return false
		}
	}
}

// waiting reports whether a ring holds something that can be read now; p.mu is held.
func (a *attachment) waiting() bool {
	return !a.fromCtl.Empty() || !a.stalled[flow.Replies] && !a.fromRep.Empty() ||
		!a.stalled[flow.Requests] && !a.fromReq.Empty()
}

// drain forwards one round of what the program wrote; p.mu is held. It reports
// whether there may be more.
func (a *attachment) drain() bool {
	now := a.p.nowNs()
	a.lookTaken(now)
	for {
		_, _, end, ok, err := a.fromCtl.Next()
		if err != nil {
			a.corrupt(err)
			return false
		}
		if !ok {
			break
		}
		a.fromCtl.Release(end) // a program says goodbye by closing its socket; nothing else is defined yet
	}
	return a.drainRings(now)
}

// drainRings submits new replies and messages; p.mu is held. It reports
// whether there may be more that can be read now.
func (a *attachment) drainRings(now int64) bool {
	more := a.drainReplies(now)
	more = a.drainRequests(now) || more
	if a.ended && !a.detached && !a.waiting() && !a.stalled[flow.Requests] && !a.stalled[flow.Replies] {
		a.detached = true
		a.p.core.Detach(now, a.session)
	}
	return more
}

// corrupt ends an attachment whose segment holds nonsense; p.mu is held.
func (a *attachment) corrupt(err error) {
	a.p.log.Warn("detached a program: its segment is corrupt", "program", a.name, "error", err)
	a.kill(err)
	_ = a.own.Ring()
}

// drainRequests submits new messages; p.mu is held.
func (a *attachment) drainRequests(now int64) (more bool) {
	room := a.p.core.Accepts(a.session, flow.Requests)
	for used := 0; used < drainBytesMax; {
		if a.stalled[flow.Requests] = room <= 0; room <= 0 {
			return false // what is settled next resumes
		}
		rec, pos, end, ok, err := a.fromReq.Next()
		if err != nil {
			a.corrupt(err)
			return false
		}
		if !ok {
			return false
		}
		var q wire.OutRequest
		body, err := q.Get(rec)
		if err == nil {
			err = a.p.core.Submit(now, a.session, flow.Requests, &flow.Record{
				Seq: q.Seq, Position: pos, End: end, Size: uint32(len(body)), Hash: q.Hash, Kind: q.Kind, Flags: q.Flags,
				DeadlineNs: a.p.deadlineNs(now, q.DeadlineUnixMs),
			})
		}
		if err != nil {
			a.corrupt(err)
			return false
		}
		used += len(rec)
		room--
	}
	return true
}

// drainReplies submits new replies; p.mu is held.
func (a *attachment) drainReplies(now int64) (more bool) {
	room := a.p.core.Accepts(a.session, flow.Replies)
	for used := 0; used < drainBytesMax; room-- {
		if a.stalled[flow.Replies] = room <= 0; room <= 0 {
			return false
		}
		rec, pos, end, ok, err := a.fromRep.Next()
		if err != nil {
			a.corrupt(err)
			return false
		}
		if !ok {
			return false
		}
		var q wire.OutReply
		body, err := q.Get(rec)
		if err == nil {
			err = a.p.core.Submit(now, a.session, flow.Replies, &flow.Record{
				Seq: q.Seq, Position: pos, End: end, Size: uint32(len(body)),
				DeadlineNs: a.p.deadlineNs(now, q.DeadlineUnixMs),
				ToNode:     inboundID(q.ToNode), ToSession: q.ToSession, ToSeq: q.ToSeq,
			})
		}
		if err != nil {
			a.corrupt(err)
			return false
		}
		used += len(rec)
	}
	return true
}

// deadlineNs turns a wall-clock deadline into one of the core's clock; 0 stays 0.
func (p *Plane) deadlineNs(now, unixMs int64) int64 {
	if unixMs == 0 {
		return 0
	}
	return now + (unixMs-time.Now().UnixMilli())*int64(time.Millisecond)
}

// lookTaken tells the core how far the program has read; p.mu is held.
func (a *attachment) lookTaken(now int64) {
	if !a.server || a.ended || !a.p.core.Delivered(a.session) {
		return
	}
	if head := a.toReq.Head(); head != a.head {
		a.head = head
		a.p.core.Taken(now, a.session, head)
	}
}

// publish makes what was written visible and reports whether the program must
// be woken; p.mu is held.
func (a *attachment) publish() (wake bool) {
	a.dirty = false
	if a.ended {
		return false
	}
	if a.wrote {
		a.wrote = false
		a.toCtl.Publish()
		a.toRep.Publish()
		a.toReq.Publish()
		wake = a.seg.WakeNeeded(shm.ProgramSide)
	}
	if a.released {
		a.released = false
		wake = a.seg.RoomWanted(shm.ProgramSide) || wake
	}
	return wake
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

// tellServing writes the number of servers in service to the program; p.mu is
// held. A full control ring is no loss: the next change tells again.
func (a *attachment) tellServing(n int) {
	if a.ended || a.serving == n {
		return
	}
	if a.control(wire.Control{Type: wire.ControlServing, Value: uint64(n)}) {
		a.serving = n
	}
}

// control writes one control record; p.mu is held. False: no room.
func (a *attachment) control(c wire.Control) bool {
	rec, ok, err := a.toCtl.Reserve(wire.ControlBytes)
	if err != nil {
		a.corrupt(err)
		return false
	}
	if !ok {
		return false
	}
	c.Put(rec)
	a.toCtl.Commit()
	a.wrote = true
	a.touch()
	return true
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
	if old := p.attached[a.id]; old != nil {
		if !old.ended {
			return wire.AttachRefusedSession, fmt.Errorf("session %v is attached already", a.id)
		}
		old.free()
		delete(p.attached, a.id)
	}
	a.session = p.core.Attach(p.nowNs(), a.id, a.server)
	a.session.Handle = a
	a.fromReq, a.fromRep, a.fromCtl = a.seg.Consumer(shm.ToNode, shm.Request), a.seg.Consumer(shm.ToNode, shm.Reply), a.seg.Consumer(shm.ToNode, shm.Control)
	a.toReq, a.toRep, a.toCtl = a.seg.Producer(shm.ToProgram, shm.Request), a.seg.Producer(shm.ToProgram, shm.Reply), a.seg.Producer(shm.ToProgram, shm.Control)
	a.serving = -1
	p.attached[a.id] = a
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
	p.reports = append(p.reports, func(r Reporter) { r.ProgramsChanged(n) })
}

// detach ends a program's attachment; mu is held. Its unsettled messages are
// still delivered, so the segment stays until the core says SessionEnded.
func (p *Plane) detach(a *attachment) {
	if a.ended {
		return
	}
	a.ended = true
	p.log.Info("program detached", "program", a.name, "session", a.id, "reason", a.dead)
	if a.server {
		p.programsChanged(-1)
	}
	now := p.nowNs()
	if a.server && p.core.Delivered(a.session) {
		p.core.Taken(now, a.session, a.toReq.Head()) // what it took last counts
	}
	p.core.Withdraw(now, a.session)
	if errors.Is(a.dead, shm.ErrCorrupt) || errors.Is(a.dead, flow.ErrSequence) {
		a.detached = true
		p.core.Detach(now, a.session)
		return
	}
	a.resume() // what it wrote last was accepted, too
}

// free unmaps the segment; mu is held, and nothing refers to its rings any more.
func (a *attachment) free() {
	if a.mem == nil {
		return
	}
	a.p.shmBytes -= int64(len(a.mem))
	if err := shm.Unmap(a.mem); err != nil {
		a.p.log.Warn("could not unmap a segment", "program", a.name, "error", err)
	}
	a.mem = nil
	for _, bell := range []shm.Doorbell{a.theirs, a.own} {
		if bell != nil {
			_ = bell.Close()
		}
	}
}

// ports is the Plane as the core sees it. All methods run with mu held.
type ports Plane

func (o *ports) Transmit(peer *flow.Peer, h *wire.Header, urgent bool) {
	switch to := peer.Handle.(type) {
	case *link:
		to.put(h, nil, urgent)
	case *loop:
		to.put(h, nil)
	}
}

func (o *ports) TransmitRecord(peer *flow.Peer, h *wire.Header, s *flow.Session, st flow.Stream, r *flow.Record) bool {
	a := s.Handle.(*attachment)
	switch to := peer.Handle.(type) {
	case *link:
		if !to.hasRoom() {
			return false
		}
		before := len(to.pending)
		if body, ok := a.payload(st, r); ok {
			to.put(h, body, true)
		}
		to.queued += len(to.pending) - before
		return true
	case *loop:
		if len(to.buf) > linkQueueBytesMax {
			to.full = true
			return false
		}
		if body, ok := a.payload(st, r); ok {
			to.put(h, body)
		}
		return true
	}
	return false
}

// payload reads a record again; a program that changed it meanwhile is detached.
func (a *attachment) payload(st flow.Stream, r *flow.Record) ([]byte, bool) {
	c, head := a.fromReq, wire.OutRequestBytes
	if st == flow.Replies {
		c, head = a.fromRep, wire.OutReplyBytes
	}
	rec, err := c.At(r.Position)
	if err == nil && len(rec) != head+int(r.Size) {
		err = fmt.Errorf("%w: a record changed its length", shm.ErrCorrupt)
	}
	if err != nil {
		a.corrupt(err)
		return nil, false
	}
	return rec[head:], true
}

func (o *ports) Deliver(s *flow.Session, d *flow.Delivery) (end uint64, ok bool) {
	a := s.Handle.(*attachment)
	if a.ended || a.dead != nil {
		return 0, false
	}
	from := inboundID(d.From)
	var deadline int64
	if d.DeadlineMs != 0 {
		deadline = time.Now().UnixMilli() + int64(d.DeadlineMs)
	}
	to, head := a.toReq, wire.InRequestBytes
	if d.Stream == flow.Replies {
		to, head = a.toRep, wire.InReplyBytes
	}
	rec, ok, err := to.Reserve(head + len(d.Payload))
	if err != nil {
		a.corrupt(err)
		return 0, false
	}
	if !ok {
		a.seg.WantRoom(shm.NodeSide)
		return 0, false
	}
	if d.Stream == flow.Replies {
		wire.PutInReply(rec, d.Seq)
	} else {
		(&wire.InRequest{Seq: d.Seq, Hash: d.Hash, From: from, Session: d.Session, DeadlineUnixMs: deadline, Flags: d.Flags}).Put(rec)
	}
	copy(rec[head:], d.Payload)
	a.wrote = true
	a.touch()
	return to.Commit(), true
}

func (o *ports) Settled(s *flow.Session, st flow.Stream, end uint64) {
	a := s.Handle.(*attachment)
	if st == flow.Replies {
		a.fromRep.Release(end)
	} else {
		a.fromReq.Release(end)
	}
	a.released = true
	a.touch()
	if a.stalled[st] || a.ended && !a.detached {
		a.resume()
	}
}

// resume puts the attachment on the list of those to read on; p.mu is held.
func (a *attachment) resume() {
	if !a.resuming {
		a.resuming = true
		a.p.resumable = append(a.p.resumable, a)
	}
}

func (o *ports) RequestFailed(s *flow.Session, seq uint64) {
	a := s.Handle.(*attachment)
	if !a.ended && !a.control(wire.Control{Type: wire.ControlRequestFailed, Value: seq}) {
		a.p.log.Warn("a program does not read its control ring", "program", a.name)
	}
}

func (o *ports) PullTable(peer *flow.Peer) {
	if l, ok := peer.Handle.(*link); ok {
		l.pull(l.p.nowNs())
	}
}

func (o *ports) SessionEnded(s *flow.Session) {
	a := s.Handle.(*attachment)
	if a.p.attached[a.id] == a {
		delete(a.p.attached, a.id)
	}
	a.free()
}
