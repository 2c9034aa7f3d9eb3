package client

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

const testRingBytes = 64 << 10

// testNode plays the node: real socket, memfd and eventfds. Requests go to the
// attached server program, or are echoed while there is none. It settles a
// request when the server program has taken it, as a node does.
type testNode struct {
	path      string
	ringBytes int
	echo      bool // answer requests when no server program is attached, else keep them
	noServer  bool // as if no server program were attached

	mu       sync.Mutex
	listener *net.UnixListener
	programs map[wire.SessionID]*testProgram
	server   *testProgram
	refuse   []wire.AttachReply // answers to the next attempts, first come first served
	spoil    func(mem []byte)   // changes the next segment before it is handed out
	drop     int                // how many of the next attachments end at once
	sessions byte
	paused   bool // nothing is read or settled
	takeBack bool // segments that are handed back are taken, and what is untaken there is struck out
	resumed  int  // segments taken back
	mute     bool // settles without a word, as if the control record was lost with the node
	many     int  // receivers of messages to many
	rung     int  // doorbells of programs
	work     sync.WaitGroup
}

// testProgram is one attachment as the node has it.
type testProgram struct {
	conn           *net.UnixConn
	mem            []byte
	seg            *shm.Segment
	bell, progBell shm.Doorbell
	session        wire.SessionID
	role           wire.Role

	again                        uint64 // cursor: requests before it may be repeats
	wrote                        uint64 // as published when the program was last woken for it
	freed                        bool   // room was given back since
	outRequests, outReplies      *shm.Consumer
	inControl, inReplies, inReqs *shm.Producer
	heldRequest, heldReply       []byte // read, but there was no room
	heldRequestEnd, heldReplyEnd uint64
	unsettled                    []unsettled
	requestSeqs                  []uint64 // as they came, for tests
	repeats                      int
	dead                         bool // to be detached
}

// unsettled is a request that was put into a server program's ring.
type unsettled struct {
	to         *testProgram
	inEnd, end uint64
	seq        uint64
	flags      wire.Flags
}

func newTestNode(t testing.TB) *testNode {
	n := &testNode{path: t.TempDir() + "/node.sock", ringBytes: testRingBytes, echo: true}
	n.start(t)
	t.Cleanup(n.stop)
	return n
}

// start listens; after stop it is the same node, restarted, with nothing in memory.
func (n *testNode) start(t testing.TB) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener, n.programs, n.server = l, map[wire.SessionID]*testProgram{}, nil
	n.work.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			n.work.Go(func() { n.serve(conn) })
		}
	})
	n.work.Go(func() { // as a node does, it looks at heads each millisecond
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			<-tick.C
			n.mu.Lock()
			n.pump()
			stopped := n.listener != l
			n.mu.Unlock()
			if stopped {
				return
			}
		}
	})
}

// stop ends the node and everything it holds, as a crash does.
func (n *testNode) stop() {
	n.mu.Lock()
	if n.listener != nil {
		_ = n.listener.Close()
	}
	n.listener = nil
	for _, p := range n.programs {
		_ = p.conn.Close()
		_ = p.bell.Close()
	}
	n.mu.Unlock()
	n.work.Wait()
}

// do runs f with the node held still.
func (n *testNode) do(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *testNode) serve(conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	p, err := n.accept(conn)
	if err != nil || p == nil {
		return
	}
	n.work.Go(func() { // the end of the program
		_, _ = io.Copy(io.Discard, conn)
		_ = p.bell.Close()
	})
	_ = shm.Guard(func() error { return p.bell.Wait(func() bool { return n.poll(p) }) })
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = conn.Close()
	if n.programs[p.session] == p {
		delete(n.programs, p.session)
	}
	if n.server == p {
		n.server = nil
	}
	for _, q := range n.programs {
		if n.listener == nil { // they will come back
			q.unsettled = nil
		}
		q.forget(p)
	}
	_ = errors.Join(p.bell.Close(), p.progBell.Close(), shm.Unmap(p.mem))
}

// forget settles what an ended server program held: tests that need more restart the node.
func (p *testProgram) forget(gone *testProgram) {
	for i := range p.unsettled {
		if p.unsettled[i].to == gone {
			p.unsettled[i].to = nil
		}
	}
}

func readRequest(conn *net.UnixConn) (req *wire.AttachRequest, memfd int, err error) {
	buf := make([]byte, wire.AttachBytesMax)
	got, fds, err := shm.RecvFds(conn, buf[:wire.AttachPrefixBytes], 1)
	if err != nil {
		return nil, -1, err
	}
	memfd = -1
	if len(fds) > 0 {
		memfd = fds[0]
	}
	if _, err := io.ReadFull(conn, buf[got:wire.AttachPrefixBytes]); err != nil {
		return nil, memfd, err
	}
	length, err := wire.AttachLength(buf)
	if err != nil {
		return nil, memfd, err
	}
	if _, err := io.ReadFull(conn, buf[:length]); err != nil {
		return nil, memfd, err
	}
	req, err = wire.DecodeAttachRequest(buf[:length])
	if err == nil && (memfd >= 0) != (req.Flags&wire.AttachHandBack != 0) {
		err = shm.ErrDescriptors
	}
	return req, memfd, err
}

// accept answers the request of a program; nil: refused.
func (n *testNode) accept(conn *net.UnixConn) (*testProgram, error) {
	req, memfd, err := readRequest(conn)
	if memfd >= 0 {
		defer func() { _ = syscall.Close(memfd) }()
	}
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := wire.AttachReply{Node: 77, NodeRole: wire.NodeServer, RingBytes: uint32(n.ringBytes), Session: req.Session}
	if memfd >= 0 && !n.takeBack && len(n.refuse) == 0 {
		n.refuse = []wire.AttachReply{{Code: wire.AttachRefusedSegment}}
	}
	if len(n.refuse) > 0 {
		reply, n.refuse = n.refuse[0], n.refuse[1:]
		reply.NodeRole = wire.NodeServer
		b, err := reply.Encode()
		if err != nil {
			return nil, err
		}
		return nil, shm.SendFds(conn, b)
	}
	if reply.Session == (wire.SessionID{}) {
		n.sessions++
		reply.Session = wire.SessionID{0xaa, n.sessions}
	}
	if n.listener == nil || n.programs[reply.Session] != nil {
		return nil, errors.New("stopped, or attached already")
	}
	reply.Resumed = memfd >= 0
	p, err := newTestProgram(conn, &reply, memfd, n.spoil)
	if reply.Resumed && err == nil {
		n.resumed++
	}
	n.spoil = nil
	if err != nil {
		return nil, err
	}
	p.role = req.Role
	n.programs[reply.Session] = p
	if req.Role == wire.RoleServer && !n.noServer {
		n.server = p
	}
	if n.drop > 0 {
		n.drop--
		_ = p.bell.Close()
	}
	return p, nil
}

func newTestProgram(conn *net.UnixConn, reply *wire.AttachReply, memfd int, spoil func([]byte)) (p *testProgram, err error) {
	p = &testProgram{conn: conn, session: reply.Session}
	if memfd >= 0 {
		err = p.reopen(memfd)
	} else {
		if memfd, p.mem, err = shm.CreateMemfd(shm.SegmentBytes(int(reply.RingBytes))); err == nil {
			defer func() { _ = syscall.Close(memfd) }()
			p.seg, err = shm.Format(p.mem, p.session, int(reply.RingBytes))
		}
	}
	if err != nil {
		return nil, err
	}
	if spoil != nil {
		spoil(p.mem)
	}
	var fds [2]int
	for i := range fds {
		if fds[i], err = shm.NewEventfd(); err != nil {
			return nil, err
		}
	}
	b, err := reply.Encode()
	if err != nil {
		return nil, err
	}
	sent := shm.SendFds(conn, b, memfd, fds[0], fds[1])
	if p.progBell, err = shm.NewEventfdDoorbell(fds[0]); err != nil {
		return nil, err
	}
	if p.bell, err = shm.NewEventfdDoorbell(fds[1]); err != nil {
		return nil, err
	}
	p.outRequests, p.outReplies = p.seg.Consumer(shm.ToNode, shm.Request), p.seg.Consumer(shm.ToNode, shm.Reply)
	p.inControl, p.inReplies = p.seg.Producer(shm.ToProgram, shm.Control), p.seg.Producer(shm.ToProgram, shm.Reply)
	p.inReqs = p.seg.Producer(shm.ToProgram, shm.Request)
	return p, sent
}

// reopen takes a segment back and strikes out what is untaken in it.
func (p *testProgram) reopen(memfd int) (err error) {
	if p.mem, err = shm.RemapMemfd(memfd); err != nil {
		return err
	}
	if p.seg, err = shm.Open(p.mem); err != nil {
		return err
	}
	out, in := p.seg.Consumer(shm.ToNode, shm.Request), p.seg.Consumer(shm.ToProgram, shm.Request)
	for ok := true; ok && err == nil; {
		_, _, _, ok, err = out.Next()
	}
	p.again = out.Read()
	for err == nil {
		var pos uint64
		var ok bool
		if _, pos, _, ok, err = in.Next(); !ok || err != nil {
			return err
		}
		err = in.Void(pos)
	}
	return err
}

// poll is the node's side of the protocol in shm/DESIGN.md.
func (n *testNode) poll(p *testProgram) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		p.seg.Awake(shm.NodeSide)
		n.pump()
		p.seg.Sleep(shm.NodeSide)
		if p.dead || n.programs[p.session] != p {
			return true
		}
		if n.paused || p.heldRequest != nil || p.heldReply != nil {
			return false // looked at again when somebody releases, or by the ticker
		}
		if p.outRequests.Empty() && p.outReplies.Empty() {
			return false
		}
	}
}

// pump moves everything that can be moved; mu is held.
func (n *testNode) pump() {
	if n.paused {
		return
	}
	for _, p := range n.programs {
		n.pumpReplies(p)
		n.pumpRequests(p)
	}
	for _, p := range n.programs {
		p.inControl.Publish()
		p.inReplies.Publish()
		p.inReqs.Publish()
		p.settle(n.mute)
		wrote := p.inControl.Tail() + p.inReplies.Tail() + p.inReqs.Tail() // they only grow
		wake := wrote != p.wrote && p.seg.WakeNeeded(shm.ProgramSide)
		p.wrote = wrote
		room := p.freed && p.seg.RoomWanted(shm.ProgramSide)
		p.freed = false
		if room || wake {
			n.rung++
			_ = p.progBell.Ring()
		}
	}
}

func (p *testProgram) settle(mute bool) {
	for len(p.unsettled) > 0 {
		u := p.unsettled[0]
		if u.to != nil && u.to.inReqs.Head() < u.inEnd {
			return
		}
		if u.flags&wire.FlagWantsSettled != 0 && !mute && !p.tell(wire.Control{Type: wire.ControlSettled, Value: u.seq}) {
			return
		}
		p.outRequests.Release(u.end)
		p.freed = true
		p.unsettled = p.unsettled[1:]
	}
}

// tell writes a control record and publishes it, if there is room.
func (p *testProgram) tell(c wire.Control) bool {
	room, ok, _ := p.inControl.Reserve(wire.ControlBytes)
	if ok {
		c.Put(room)
		p.inControl.Commit()
		p.inControl.Publish()
	}
	return ok
}

func (n *testNode) pumpRequests(p *testProgram) {
	for {
		rec, end := p.heldRequest, p.heldRequestEnd
		if rec == nil {
			var ok bool
			var err error
			var pos uint64
			if rec, pos, end, ok, err = p.outRequests.Next(); !ok {
				p.dead = p.dead || err != nil
				return
			}
			var r wire.OutRequest
			if _, err := r.Get(rec); err == nil {
				if pos < p.again {
					r.Flags |= wire.FlagMaybeRepeat
					r.Put(rec)
				}
				p.requestSeqs = append(p.requestSeqs, r.Seq)
				if r.Flags&wire.FlagMaybeRepeat != 0 {
					p.repeats++
				}
			}
		}
		p.heldRequest, p.heldRequestEnd = nil, 0
		if !n.forward(p, rec, end) {
			p.heldRequest, p.heldRequestEnd = rec, end
			return
		}
	}
}

// forward hands one request to the server program, or answers it.
func (n *testNode) forward(p *testProgram, rec []byte, end uint64) bool {
	var r wire.OutRequest
	payload, err := r.Get(rec)
	if err != nil {
		p.dead = true
		return false
	}
	if r.DeadlineUnixMs != 0 && time.Now().UnixMilli() >= r.DeadlineUnixMs {
		if !p.tell(wire.Control{Type: wire.ControlUndelivered, Value: r.Seq, Detail: uint32(r.Flags & wire.FlagMaybeRepeat)}) {
			return false
		}
		p.unsettled = append(p.unsettled, unsettled{end: end})
		return true
	}
	if r.Kind == wire.KindReplicate || r.Kind == wire.KindBroadcast {
		p.tell(wire.Control{Type: wire.ControlReceivers, Value: r.Seq, Detail: uint32(n.many)})
		if n.many == 0 {
			p.tell(wire.Control{Type: wire.ControlUndelivered, Value: r.Seq})
		}
		for i := 0; i < n.many && n.echo && r.Flags&wire.FlagWantsReply != 0; i++ {
			p.putReply(r.Seq, payload)
		}
		p.unsettled = append(p.unsettled, unsettled{end: end})
		return true
	}
	if s := n.server; s != nil {
		room, ok, _ := s.inReqs.Reserve(wire.InRequestBytes + len(payload))
		if !ok {
			s.seg.WantRoom(shm.NodeSide)
			return false
		}
		in := wire.InRequest{Seq: r.Seq, Hash: r.Hash, From: 77, Session: p.session, DeadlineUnixMs: r.DeadlineUnixMs, Flags: r.Flags}
		in.Put(room)
		copy(room[wire.InRequestBytes:], payload)
		p.unsettled = append(p.unsettled, unsettled{to: s, inEnd: s.inReqs.Commit(), end: end, seq: r.Seq, flags: r.Flags})
		return true
	}
	if !n.echo {
		return false
	}
	if r.Flags&wire.FlagWantsReply != 0 && !p.putReply(r.Seq, payload) {
		return false
	}
	p.unsettled = append(p.unsettled, unsettled{end: end, seq: r.Seq, flags: r.Flags})
	return true
}

func (p *testProgram) putReply(seq uint64, payload []byte) bool {
	room, ok, _ := p.inReplies.Reserve(wire.InReplyBytes + len(payload))
	if !ok {
		p.seg.WantRoom(shm.NodeSide)
		return false
	}
	wire.PutInReply(room, seq)
	copy(room[wire.InReplyBytes:], payload)
	p.inReplies.Commit()
	return true
}

func (n *testNode) pumpReplies(p *testProgram) {
	for {
		rec, end := p.heldReply, p.heldReplyEnd
		if rec == nil {
			var ok bool
			var err error
			if rec, _, end, ok, err = p.outReplies.Next(); !ok {
				p.dead = p.dead || err != nil
				return
			}
		}
		p.heldReply, p.heldReplyEnd = nil, 0
		var r wire.OutReply
		payload, err := r.Get(rec)
		if err != nil {
			p.dead = true
			return
		}
		// It keeps a reply until its asker is (back) there.
		if to := n.programs[r.ToSession]; r.ToNode == ring.ID(77) && (to == nil || !to.putReply(r.ToSeq, payload)) {
			p.heldReply, p.heldReplyEnd = rec, end
			return
		}
		p.outReplies.Release(end)
		p.freed = true
	}
}

// control sends a control record to every program.
func (n *testNode) control(c wire.Control) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.programs {
		if room, ok, _ := p.inControl.Reserve(wire.ControlBytes); ok {
			c.Put(room)
			p.inControl.Commit()
		}
	}
	n.pump()
}

// nodeMain is the node as a process of its own, for benchmarks; it reports
// whether this process is to be one. It ends with its standard input.
func nodeMain() bool {
	path := os.Getenv("CLIENT_TEST_NODE")
	if path == "" {
		return false
	}
	n := &testNode{path: path, ringBytes: 1 << 20, echo: true}
	n.start(&testing.B{})
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	n.stop()
	return true
}
