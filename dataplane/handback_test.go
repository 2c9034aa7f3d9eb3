package dataplane_test

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// again ends the slave as a crash would and starts it, programs alive.
func (w *world) again() *testNode {
	old := w.slave()
	old.stop()
	w.start(&testNode{id: old.id, slave: true, dir: old.dir}, nil)
	w.publish(nil)
	return w.slave()
}

// listenAgain opens a port that was in use a moment ago.
func listenAgain(t *testing.T, addr string) net.Listener {
	t.Helper()
	stop, again := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			return ln
		}
		select {
		case <-again.C:
		case <-stop:
			t.Fatal(err)
		}
	}
}

// A segment that is handed back is refused unless it is the one that the node
// made and every record in it is sound; so are descriptors that should not come
// or do not. The node goes on, and the program may have a new segment.
func TestHandBackRefused(t *testing.T) {
	const requests = 4096 + shm.ControlRingBytes + 1<<20 // of the request out-ring
	inRequests := requests + 1<<20 + shm.ControlRingBytes + 1<<20
	untaken := func(g *program) []byte { // makes room for one record in the request in-ring
		tail, _ := g.cursors(shm.ToProgram, shm.Request)
		put64(tail, 8+wire.InRequestBytes)
		rec := g.mem[inRequests:]
		put64(rec, wire.InRequestBytes|0x7ec04d01<<32)
		return rec[8:]
	}
	spoils := map[string]func(g *program){
		"magic":               func(g *program) { g.mem[0]++ },
		"another session":     func(g *program) { g.mem[16]++ },
		"ring bytes":          func(g *program) { g.mem[13]++ },
		"tail of requests":    func(g *program) { tail, _ := g.cursors(shm.ToNode, shm.Request); put64(tail, 1<<40) },
		"head of replies":     func(g *program) { _, head := g.cursors(shm.ToNode, shm.Reply); put64(head, 8) },
		"tail of control":     func(g *program) { tail, _ := g.cursors(shm.ToNode, shm.Control); put64(tail, 24) },
		"reply of no request": func(g *program) { tail, _ := g.cursors(shm.ToProgram, shm.Reply); put64(tail, 8) },
		"message from nobody": func(g *program) { clear(untaken(g)) },
		"mark of a record":    func(g *program) { g.sends(2, 0); g.mem[requests+4]++ },
		"length of a record":  func(g *program) { g.sends(2, 0); binary.NativeEndian.PutUint32(g.mem[requests:], 1<<20) },
		"sequence 0":          func(g *program) { g.send(wire.OutRequest{}, nil) },
		"sequence goes back":  func(g *program) { g.sends(2, 0); g.send(wire.OutRequest{Seq: 1}, nil) },
		"too large": func(g *program) {
			g.send(wire.OutRequest{Seq: 9}, make([]byte, wire.MessageBytesMax(1<<20)+1))
		},
		"all ones": func(g *program) {
			for i := 1024; i < len(g.mem); i++ {
				g.mem[i] = 0xff
			}
		},
		"holes": func(g *program) {
			g.sends(2, 0)
			if err := unix.Fallocate(g.memfd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, requests&^4095, 1<<16); err != nil {
				t.Fatal(err)
			}
		},
	}
	w := newWorld(t, 1)
	echo(t, w.nodes[0])
	programs := map[string]*program{}
	for name := range spoils {
		programs[name], _ = attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	}
	good, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	n := w.again()
	for name, g := range programs {
		spoils[name](g)
		if _, rep := g.handBack(n, wire.RoleClient); rep.Code != wire.AttachRefusedSegment {
			t.Errorf("%s: %v, want the segment refused", name, rep.Code)
		}
		if _, rep := attachRaw(t, n, wire.RoleClient, g.session); rep.Code != wire.AttachOK {
			t.Errorf("%s: a new segment: %v", name, rep.Code)
		}
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	small, mem, err := shm.CreateMemfd(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(small); _ = shm.Unmap(mem) }()
	back := wire.AttachRequest{Role: wire.RoleClient, Session: good.session, Flags: wire.AttachHandBack}
	plain, nobody := back, back
	plain.Flags, nobody.Session = 0, wire.SessionID{}
	for name, try := range map[string]struct {
		req  wire.AttachRequest
		fds  []int
		want wire.AttachCode
	}{
		"a file":                         {back, []int{int(file.Fd())}, wire.AttachRefusedSegment},
		"a memfd of another size":        {back, []int{small}, wire.AttachRefusedSegment},
		"no descriptor":                  {back, nil, wire.AttachRefusedMalformed},
		"two descriptors":                {back, []int{good.memfd, good.memfd}, wire.AttachRefusedMalformed},
		"a descriptor without the flag":  {plain, []int{good.memfd}, wire.AttachRefusedMalformed},
		"a descriptor without a session": {nobody, []int{good.memfd}, wire.AttachRefusedMalformed},
		"the segment of somebody else":   {back, []int{programs["sequence 0"].memfd}, wire.AttachRefusedSegment},
	} {
		if _, rep := attachWith(t, n, &try.req, try.fds...); rep.Code != try.want {
			t.Errorf("%s: %v %s, want %v", name, rep.Code, rep.Text, try.want)
		}
	}
	for _, want := range []wire.AttachCode{wire.AttachOK, wire.AttachRefusedSession} { // as it was, and once more
		if _, rep := good.handBack(n, wire.RoleClient); rep.Code != want {
			t.Errorf("the sound segment: %v %s, want %v", rep.Code, rep.Text, want)
		}
	}
	ask(t, attach(t, n, client.RoleClient), 0, "the node goes on")
}

// After a restart of its node a program's out-ring is read on from its head,
// marked as far as it was written before, and nothing is lost or out of order.
func TestHandBackOutRing(t *testing.T) {
	w := newWorld(t, 1)
	w.table.Servers[0].Status = ring.ServiceIn // nobody takes messages
	w.publish(nil)
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	g.sends(400, 3)
	g.ring()
	w.slave().awaitStatus("read", func(s *dataplane.Status) bool { return s.Counters.Submitted == 400 })
	for round := range 3 {
		n := w.again()
		next, rep := g.handBack(n, wire.RoleClient)
		if rep.Code != wire.AttachOK || !rep.Resumed {
			t.Fatalf("round %d: %v %s, resumed %v", round, rep.Code, rep.Text, rep.Resumed)
		}
		next.seq = g.seq
		next.sends(100, 3)
		next.ring()
		g = next
		n.awaitStatus("read", func(s *dataplane.Status) bool { return s.Counters.Submitted >= uint64(500+100*round) })
	}
	w.table.Servers[0].Status = serving
	w.publish(nil)
	s := attach(t, w.nodes[0], client.RoleServer)
	for seq := range g.seq {
		if m := receive(t, s); m.Seq != seq+1 || m.MaybeRepeat != (m.Seq <= 600) {
			t.Fatalf("received %d, marked %v; want %d", m.Seq, m.MaybeRepeat, seq+1)
		}
	}
	g.exit()
	w.slave().awaitStatus("its segment is free", gone(0))
}

// What a server program had not taken when its node ended is kept, marked, if
// the node is admitted when the program comes back, and struck out if not; its
// senders lose nothing either way, and the program gets it once.
func TestHandBackUntaken(t *testing.T) {
	for name, admitted := range map[string]bool{"admitted": true, "not admitted": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			g, _ := attachRaw(t, w.nodes[0], wire.RoleServer, wire.SessionID{})
			c := attach(t, w.slave(), client.RoleClient)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			const messages = 50
			settled := make(chan error, messages)
			for i := range messages {
				go func() { settled <- c.SendWait(ctx, uint64(i), []byte("x")) }()
			}
			old := w.nodes[0]
			old.awaitStatus("given out", func(s *dataplane.Status) bool { return s.Counters.Accepted == messages })
			old.stop()
			if admitted { // and its peer cannot reach it: what is kept is not what was sent again
				w.start(&testNode{id: old.id, inc: 9, addr: "127.0.0.1:1", dir: old.dir}, nil)
			} else {
				w.start(&testNode{id: old.id, dir: old.dir}, nil)
			}
			w.table.Servers[0].Incarnation = 9
			w.publish(nil)
			next, rep := g.handBack(w.nodes[0], wire.RoleServer)
			if rep.Code != wire.AttachOK || !rep.Resumed {
				t.Fatalf("%v %s, resumed %v", rep.Code, rep.Text, rep.Resumed)
			}
			kept := 0
			for {
				rec, _, end, ok, err := next.in.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				var q wire.InRequest
				if _, err := q.Get(rec); err != nil || q.Flags&wire.FlagMaybeRepeat == 0 {
					t.Errorf("message %d with flags %#x, %v; want it marked", q.Seq, q.Flags, err)
				}
				kept++
				next.in.Release(end)
			}
			if want := map[bool]int{true: messages}[admitted]; kept != want {
				t.Fatalf("%d messages were kept, want %d", kept, want)
			}
			// Now its peer can reach it.
			w.nodes[0].stop()
			ln := listenAgain(t, old.addr)
			w.start(&testNode{id: old.id, inc: 11, addr: old.addr, dir: old.dir}, ln)
			w.table.Servers[0].Incarnation = 11
			w.publish(nil)
			echo(t, w.nodes[0])
			for range messages {
				if err := <-settled; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A broadcast that had no receivers is told as not delivered. Its record waits
// behind an older message; when its node is killed, the next one does not send
// it to the server that has come meanwhile, and tells it no second time.
func TestHandBackOfWhatWasGivenUp(t *testing.T) {
	w := newWorld(t, 1)
	w.table.Servers[0].Status = ring.ServiceIn // nobody is in service
	w.publish(nil)
	ctx := patiently(t)
	told := make(chan client.Undelivered, 9)
	c, err := client.Attach(ctx, client.Options{Socket: w.slave().socket(), Undelivered: func(u client.Undelivered) { told <- u }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Send(ctx, 0, []byte("older")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Broadcast(ctx, []byte("to nobody")); n != 0 || err != nil {
		t.Fatalf("Broadcast: %d receivers, %v, want 0", n, err)
	}
	select {
	case u := <-told:
		if u.Seq != 2 || u.MaybeDelivered {
			t.Errorf("told %+v, want 2, not delivered", u)
		}
	case <-ctx.Done():
		t.Fatal("nothing was told")
	}
	old := w.slave()
	old.stop()
	if err := os.Remove(filepath.Join(old.dir, "table")); err != nil { // it knows no table without receivers
		t.Fatal(err)
	}
	w.start(&testNode{id: old.id, slave: true, dir: old.dir}, nil)
	w.table.Servers[0].Status = serving
	s := attach(t, w.nodes[0], client.RoleServer)
	w.publish(nil)
	if m := receive(t, s); m.Seq != 1 {
		t.Errorf("received %d, want 1", m.Seq)
	}
	if err := c.Send(ctx, 0, []byte("newer")); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, s); m.Seq != 3 {
		t.Errorf("received %d, want 3", m.Seq)
	}
	if err := c.Drain(ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
	if n := len(told); n != 0 {
		t.Errorf("told %d times more", n)
	}
}

// A message that is marked as given up is not sent, and its program is told: the
// node may have been killed before it could. So it is with one that a program
// marks itself; nothing else comes of that.
func TestGivenUpIsToldAgain(t *testing.T) {
	for _, marks := range []wire.Flags{0, wire.FlagMaybeRepeat} {
		for _, handed := range []bool{true, false} {
			w := newWorld(t, 1)
			s := attach(t, w.nodes[0], client.RoleServer)
			n := w.slave()
			g, _ := attachRaw(t, n, wire.RoleClient, wire.SessionID{})
			if handed {
				n = w.again()
			}
			for seq, kind := range []wire.Kind{wire.KindHash, wire.KindRandom, wire.KindReplicate, wire.KindBroadcast} {
				g.send(wire.OutRequest{Seq: uint64(seq + 1), Kind: kind, Flags: wire.FlagGivenUp | wire.FlagWantsSettled | marks}, nil)
			}
			if handed {
				g, _ = g.handBack(n, wire.RoleClient)
			}
			g.seq = 4
			g.sends(1, 0)
			g.ring()
			if m := receive(t, s); m.Seq != 5 {
				t.Errorf("received %d, want 5", m.Seq)
			}
			n.awaitStatus("all room is free", func(*dataplane.Status) bool { return g.out.Head() == g.out.Tail() })
			told, control := uint64(0), g.seg.Consumer(shm.ToProgram, shm.Control)
			for {
				rec, _, _, ok, err := control.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				var c wire.Control
				if err := c.Get(rec); err != nil {
					t.Fatal(err)
				}
				if c.Type == wire.ControlServing {
					continue
				}
				if told++; c != (wire.Control{Type: wire.ControlUndelivered, Value: told, Detail: uint32(marks & wire.FlagMaybeRepeat)}) {
					t.Errorf("handed back %v, marks %#x: told %+v", handed, marks, c)
				}
			}
			if told != 4 {
				t.Errorf("handed back %v: told of %d messages, want 4", handed, told)
			}
		}
	}
}

// SendWait, Broadcast, deadlines and AckOnDone with real nodes.
func TestLibraryWithNodes(t *testing.T) {
	w := newWorld(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range w.nodes[:2] {
		echo(t, n)
	}
	last := w.nodes[2]
	onDone := func() *client.Client {
		s, err := client.Attach(ctx, client.Options{Socket: last.socket(), Role: client.RoleServer, AckOnDone: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s := onDone()
	gaveUp := make(chan client.Undelivered, 10)
	c, err := client.Attach(ctx, client.Options{Socket: w.slave().socket(), Undelivered: func(u client.Undelivered) { gaveUp <- u }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendWait(ctx, 0, []byte("x")); err != nil {
		t.Errorf("SendWait: %v", err)
	}
	settled := make(chan error, 2)
	for range 2 {
		go func() { settled <- c.SendWait(ctx, 2, []byte("x")) }()
	}
	first, second := receive(t, s), receive(t, s)
	s.Done(second)
	if err := s.Close(); err != nil { // the first is not done, so neither is taken
		t.Fatal(err)
	}
	s = onDone()
	for range 2 {
		m := receive(t, s)
		if !m.MaybeRepeat || m.Seq != first.Seq && m.Seq != second.Seq {
			t.Errorf("received %+v, want what was not done, marked", m)
		}
		s.Done(m)
	}
	for range 2 {
		if err := <-settled; err != nil {
			t.Errorf("SendWait: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(ctx, 2, []byte("x"), client.Deadline(time.Now().Add(20*time.Millisecond))); err != nil {
		t.Fatal(err)
	}
	select {
	case u := <-gaveUp:
		if u.Hash != 2 {
			t.Errorf("given up: %+v", u)
		}
	case <-ctx.Done():
		t.Error("a message without a program was not given up at its deadline")
	}
	if err := c.Drain(ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
	echo(t, last)
	replies := 0
	if n, err := c.BroadcastRequest(ctx, []byte("x"), func([]byte) { replies++ }); n != 3 || err != nil || replies != 3 {
		t.Errorf("BroadcastRequest: %d receivers, %d replies, %v, want 3", n, replies, err)
	}
	if n, err := c.Replicate(ctx, 1, []byte("x")); n != 2 || err != nil {
		t.Errorf("Replicate: %d receivers, %v, want 2", n, err)
	}
	local := attach(t, w.nodes[0], client.RoleClient)
	if n, err := local.Broadcast(ctx, []byte("x"), client.WithoutSelf()); n != 2 || err != nil {
		t.Errorf("Broadcast without self: %d receivers, %v, want 2", n, err)
	}
	if err := c.SendRandom(ctx, []byte("x")); err != nil {
		t.Errorf("SendRandom: %v", err)
	}
	if err := c.Drain(ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
}

// One segment has one attachment, whatever session a program writes into it:
// two would have a ring with two producers and be counted twice.
func TestOneAttachmentPerSegment(t *testing.T) {
	w := newWorld(t, 1)
	echo(t, w.nodes[0])
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	fresh := w.slave()
	twice := func(n *testNode, g *program, what string) {
		t.Helper()
		g.mem[16] ^= 0xff // as the segment of another session
		other := wire.SessionID(g.mem[16:32])
		req := wire.AttachRequest{Role: wire.RoleClient, Name: "raw", Session: other, Flags: wire.AttachHandBack}
		if _, rep := attachWith(t, n, &req, g.memfd); rep.Code != wire.AttachRefusedSegment {
			t.Errorf("%s: %v %s, want the segment refused", what, rep.Code, rep.Text)
		}
		g.mem[16] ^= 0xff
	}
	twice(fresh, g, "of an attachment of this node")
	n := w.again()
	next, rep := g.handBack(n, wire.RoleClient)
	if rep.Code != wire.AttachOK {
		t.Fatal(rep.Text)
	}
	twice(n, next, "of an attachment that was handed back")
}
