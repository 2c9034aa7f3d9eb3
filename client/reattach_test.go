package client

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// TestReattachKeepsMessages proves that what a lost node had not settled goes
// to the next one in order and marked, and what was settled does not.
func TestReattachKeepsMessages(t *testing.T) {
	for i, drops := range []int{0, 3, 0, 3} { // how often the node is lost again at once
		n := newTestNode(t)
		n.do(func() { n.echo, n.takeBack = false, i >= 2 })
		c := attach(t, n, RoleClient)
		ctx := stopIn(t, longStop)
		const settled, unsettled, later = 20, 30, 10
		n.do(func() { n.echo = true })
		for i := range settled {
			if err := c.Send(ctx, 1, number(i)); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "messages are settled", func() (ok bool) {
			n.do(func() {
				for _, p := range n.programs {
					ok = len(p.requestSeqs) == settled && len(p.unsettled) == 0
				}
			})
			return ok
		})
		n.do(func() { n.echo, n.drop = false, drops })
		for i := range unsettled {
			if err := c.Send(ctx, 1, number(settled+i)); err != nil {
				t.Fatal(err)
			}
		}
		n.stop()
		until(t, "the loss is noticed", func() bool { return !c.Stats().Attached })
		var wg sync.WaitGroup
		for range later { // wait for the node
			wg.Go(func() {
				if err := c.Send(ctx, 1, number(1000)); err != nil {
					t.Error(err)
				}
			})
		}
		n.start(t)
		wg.Wait()
		until(t, "attached for good", func() bool { return c.Stats().Reattached == uint64(1+drops) && c.Stats().Attached })
		n.do(func() {
			if want := i / 2 * (1 + drops); n.resumed != want {
				t.Errorf("%d segments were taken back, want %d", n.resumed, want)
			}
		})

		server := attach(t, n, RoleServer)
		for i := range unsettled + later {
			m, err := server.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			number := binary.LittleEndian.Uint64(m.Payload)
			switch {
			case m.Seq != uint64(settled+i+1):
				t.Fatalf("message %d has sequence %d", i, m.Seq)
			case i < unsettled && (number != uint64(settled+i) || !m.MaybeRepeat):
				t.Fatalf("message %d: number %d, %+v; want it marked", i, number, m)
			case i >= unsettled && (number != 1000 || drops == 0 && m.MaybeRepeat):
				t.Fatalf("later message %d: number %d, %+v", i, number, m)
			}
		}
	}
}

// TestHandBack proves that a program goes on in its own segment through many
// restarts of its node: what it has not taken and was struck out does not come,
// what comes later does, and the ring does not shrink.
func TestHandBack(t *testing.T) {
	n := newTestNode(t)
	n.do(func() { n.takeBack, n.noServer = true, true })
	server := attach(t, n, RoleServer)
	ctx := stopIn(t, longStop)
	give := func(seq uint64) (ok bool) {
		n.do(func() {
			p := n.programs[server.Session()]
			if p == nil {
				return
			}
			var rec []byte
			if rec, ok, _ = p.inReqs.Reserve(wire.InRequestBytes + testRingBytes/10); ok {
				(&wire.InRequest{Seq: seq, From: 77, Session: wire.SessionID{1}}).Put(rec)
				p.inReqs.Commit()
				n.pump()
			}
		})
		return ok
	}
	seq := uint64(0)
	for round := range 20 {
		until(t, "the node has the program", func() bool { return server.Stats().Reattached == uint64(round) && give(seq+1) })
		for seq++; give(seq + 1); seq++ {
		}
		for range round % 7 { // what stays is struck out
			m, err := server.Receive(ctx)
			if err != nil || m.Seq > seq {
				t.Fatalf("round %d: %+v, %v", round, m, err)
			}
		}
		last := server.Stats().Received
		n.stop()
		until(t, "the loss is noticed", func() bool { return !server.Stats().Attached })
		n.start(t)
		until(t, "attached again", func() bool { return server.Stats().Attached })
		if !give(seq + 1) { // all that was untaken may lie behind the head
			until(t, "room", func() bool { server.take(new(Message)); return give(seq + 1) })
		}
		seq++
		m, err := server.Receive(ctx)
		if err != nil || m.Seq != seq || server.Stats().Received < last+1 {
			t.Fatalf("round %d: got %+v, %v, want sequence %d", round, m, err, seq)
		}
	}
	n.do(func() {
		if n.resumed != 20 {
			t.Errorf("%d segments were taken back, want 20", n.resumed)
		}
	})
}

// TestReattachRequests proves that requests outlive their node: those not
// settled are sent again, replies that came before the loss are kept, and a
// message taken before it can be answered after it.
func TestReattachRequests(t *testing.T) {
	n := newTestNode(t)
	server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	replies := make(chan Reply, 2)
	request := func(payload string) {
		r, err := c.Request(ctx, 1, []byte(payload))
		if err != nil {
			t.Error(err)
		}
		replies <- r
	}
	go request("taken before")
	before, err := server.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the request is settled", func() (ok bool) {
		n.do(func() { ok = len(n.programs[c.Session()].unsettled) == 0 })
		return ok
	})
	n.do(func() { n.paused = true })
	go request("not taken")
	until(t, "both are out", func() bool { return c.Stats().Sent == 2 })
	n.stop()
	n.do(func() { n.paused = false })
	until(t, "the loss is noticed", func() bool { return !c.Stats().Attached && !server.Stats().Attached })
	n.start(t)
	if err := server.Reply(ctx, before, []byte("answered after")); err != nil {
		t.Fatal(err)
	}
	defer serveEcho(t, server, 1)()
	got := map[string]bool{}
	for range 2 {
		r := <-replies
		got[string(r.Payload)] = true
	}
	if !got["answered after"] || !got["not taken"] {
		t.Errorf("got %v", got)
	}
}

// TestLostReplies proves that a request whose reply was lost with the node ends
// with ErrMaybeDelivered instead of waiting for ever, and that requests sent
// after the loss are not touched.
func TestLostReplies(t *testing.T) {
	n := newTestNode(t)
	server := attach(t, n, RoleServer)
	c, err := Attach(stopIn(t, longStop), Options{Socket: n.path, lostReplyWait: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx := stopIn(t, longStop)
	outcome := make(chan error, 2)
	if err := c.RequestAsync(ctx, 1, []byte("never answered"), func(_ []byte, err error) { outcome <- err }); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	until(t, "the request is settled", func() (ok bool) {
		n.do(func() { ok = len(n.programs[c.Session()].unsettled) == 0 })
		return ok
	})
	n.stop()
	until(t, "the loss is noticed", func() bool { return !c.Stats().Attached })
	n.start(t)
	if err := <-outcome; !errors.Is(err, ErrMaybeDelivered) {
		t.Fatalf("error %v, want ErrMaybeDelivered", err)
	}
	if err := c.RequestAsync(ctx, 1, []byte("after"), func(_ []byte, err error) { outcome <- err }); err != nil {
		t.Fatal(err)
	}
	m, err := server.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Reply(ctx, m, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; err != nil {
		t.Error(err)
	}
}

// TestCloseWhileDetached proves that Close ends the attempts to attach again,
// and that calls that wait for a node end with their context.
func TestCloseWhileDetached(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleServer)
	n.stop()
	until(t, "the loss is noticed", func() bool { return !c.Stats().Attached })
	short := newEndable(t)
	got, received := make(chan error, 1), make(chan error, 1)
	go func() { got <- c.Send(short, 1, nil) }()
	go func() {
		_, err := c.Receive(short)
		received <- err
	}()
	until(t, "Send waits", func() bool { return c.Stats().RoomWaits == 1 })
	short.end()
	err := <-got
	for _, want := range []error{ErrBackpressure, ErrNoNode, ErrNotDelivered, context.DeadlineExceeded} {
		if !errors.Is(err, want) {
			t.Errorf("Send: %v, want %v", err, want)
		}
	}
	if err := <-received; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive: %v", err)
	}
	go func() { got <- c.Send(t.Context(), 1, nil) }()
	until(t, "Send waits", func() bool { return c.Stats().RoomWaits == 2 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("Send: %v, want ErrClosed", err)
	}
}

// TestReattachRefused proves that a refusal or a wrong segment is not the end
// of a program that was attached.
func TestReattachRefused(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	n.stop()
	n.do(func() {
		n.refuse = []wire.AttachReply{{Code: wire.AttachRefusedSession}, {Code: wire.AttachRefusedRoom}, {Code: wire.AttachRefusedStopping}}
	})
	n.start(t)
	if r, err := c.Request(stopIn(t, longStop), 1, []byte("x")); err != nil || string(r.Payload) != "x" {
		t.Errorf("got %q, %v", r.Payload, err)
	}
	n.stop()
	n.do(func() { n.ringBytes = testRingBytes / 2 })
	n.start(t)
	until(t, "a smaller segment is tried", func() bool {
		var tried bool
		n.do(func() { tried = len(n.programs) > 0 })
		return tried
	})
	if c.Stats().Attached {
		t.Error("attached with rings that may not hold what there is")
	}
	n.do(func() { n.ringBytes = testRingBytes })
	if _, err := c.Request(stopIn(t, longStop), 1, nil); err != nil {
		t.Error(err)
	}
}

// TestCorruptNode proves that nonsense from the node costs the attachment, and
// that the client goes on with the next.
func TestCorruptNode(t *testing.T) {
	tests := map[string]func(p *testProgram){
		"reply of no request": func(p *testProgram) {
			room, _, _ := p.inReplies.Reserve(3)
			clear(room)
			p.inReplies.Commit()
		},
		"unknown control record": func(p *testProgram) {
			room, _, _ := p.inControl.Reserve(wire.ControlBytes)
			wire.Control{Type: 99}.Put(room)
			p.inControl.Commit()
		},
		"message that is none": func(p *testProgram) {
			room, _, _ := p.inReqs.Reserve(wire.InRequestBytes)
			clear(room)
			p.inReqs.Commit()
		},
		"head of the out-ring": func(p *testProgram) { p.mem[1024+2*256+128] = 3 }, // see shm/layout.go
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.noServer = true
			c := attach(t, n, RoleServer)
			ctx := stopIn(t, longStop)
			received := make(chan error, 1)
			go func() {
				_, err := c.Receive(ctx)
				received <- err
			}()
			n.do(func() {
				n.echo = false // a release would repair the head
				for _, p := range n.programs {
					spoil(p)
				}
				n.pump()
			})
			full := make([]byte, c.MessageBytesMax())
			for c.Stats().Reattached == 0 && ctx.Err() == nil { // the head is looked at when the ring seems full
				_ = c.TryRequestAsync(1, full, func([]byte, error) {})
				wait(ctx, time.Millisecond)
			}
			n.do(func() { n.echo = true })
			if _, err := c.Request(ctx, 1, nil); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := <-received; !errors.Is(err, ErrClosed) {
				t.Errorf("Receive: %v, want ErrClosed", err)
			}
		})
	}
}

// TestAttachErrors proves what Attach says about nodes that are not there,
// refuse, or hand out what is no segment.
func TestAttachErrors(t *testing.T) {
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	tests := []struct {
		name  string
		setup func(n *testNode)
		opts  Options
		want  []error
	}{
		{"no options", nil, Options{}, []error{ErrOptions}},
		{"no config file", nil, Options{Config: "/does/not/exist"}, nil},
		{"unknown role", nil, Options{Socket: "x", Role: 9}, []error{ErrOptions}},
		{"long name", nil, Options{Socket: "x", Name: string(make([]byte, 65))}, []error{ErrOptions}},
		{"no node", func(n *testNode) { n.stop() }, Options{}, []error{ErrNoNode, context.DeadlineExceeded}},
		{"refused", func(n *testNode) { n.refuse = []wire.AttachReply{{Code: wire.AttachRefusedRole, Text: "slave"}} }, Options{}, []error{ErrRefused}},
		{"no room", func(n *testNode) { n.refuse = []wire.AttachReply{{Code: wire.AttachRefusedRoom}} }, Options{}, []error{ErrNoRoom}},
		{"stops, then there", func(n *testNode) { n.refuse = []wire.AttachReply{{Code: wire.AttachRefusedStopping}} }, Options{}, nil},
		{"bad segment, then a good one", func(n *testNode) { n.spoil = func(mem []byte) { mem[0]++ } }, Options{}, nil},
		{"another session, then the right one", func(n *testNode) { n.spoil = func(mem []byte) { mem[16]++ } }, Options{}, nil},
		{"accepted without descriptors, then with", func(n *testNode) { n.refuse = []wire.AttachReply{{Code: wire.AttachOK}} }, Options{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newTestNode(t)
			limit := longStop
			if tt.setup != nil {
				tt.setup(n)
				tt.opts.Socket = n.path
			}
			if len(tt.want) > 1 {
				limit = 50 * time.Millisecond
			}
			c, err := Attach(stopIn(t, limit), tt.opts)
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			if tt.want == nil && (err == nil) != (tt.setup != nil) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				if c.Node() != 77 {
					t.Errorf("node %v", c.Node())
				}
				_ = c.Close()
			}
		})
	}
}

// TestDamagedSegment proves that adopt copies what can be read of a damaged
// out-ring and gives up the requests behind it.
func TestDamagedSegment(t *testing.T) {
	n := newTestNode(t)
	n.echo = false
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	outcome := make(chan error, 2)
	for i := range 2 {
		if err := c.RequestAsync(ctx, 1, number(i), func(_ []byte, err error) { outcome <- err }); err != nil {
			t.Fatal(err)
		}
	}
	n.do(func() {
		for _, p := range n.programs { // the header of the second record: 8 + 32 + 8 bytes after the first
			p.mem[4096+shm.ControlRingBytes+testRingBytes+48] = 0xff
			delete(n.programs, p.session) // this node reads no more
			_ = p.bell.Close()
		}
		n.echo = true
	})
	if err := <-outcome; !errors.Is(err, ErrMaybeDelivered) || !errors.Is(err, shm.ErrCorrupt) {
		t.Errorf("behind the damage: %v, want ErrMaybeDelivered and ErrCorrupt", err)
	}
	if err := <-outcome; err != nil {
		t.Errorf("before the damage: %v", err)
	}
	if _, err := c.Request(ctx, 1, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestCorruptInCallback proves that a callback that sends meets a damaged ring
// without waiting, so that the client can attach again.
func TestCorruptInCallback(t *testing.T) {
	n := newTestNode(t)
	n.echo = false
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	full := make([]byte, c.MessageBytesMax())
	tried := make(chan error, 1)
	err := c.RequestAsync(ctx, 1, nil, func([]byte, error) {
		var err error
		for err == nil { // the head is looked at when the ring seems full
			err = c.TryRequestAsync(1, full, func([]byte, error) {})
		}
		tried <- err
	})
	if err != nil {
		t.Fatal(err)
	}
	n.do(func() { n.programs[c.Session()].mem[1024+2*256+128] = 3 }) // head of the out-ring, see shm/layout.go
	n.control(wire.Control{Type: wire.ControlRequestFailed, Value: 1})
	select {
	case err := <-tried:
		if !errors.Is(err, ErrBackpressure) {
			t.Errorf("TryRequestAsync: %v, want ErrBackpressure", err)
		}
	case <-ctx.Done():
		t.Fatal("TryRequestAsync waits in a callback")
	}
	n.do(func() { n.echo = true })
	if _, err := c.Request(ctx, 1, nil); err != nil {
		t.Error(err)
	}
}

// TestContextEndsDuringAttach proves that a caller that leads on a new
// attachment is told of the end of its context before all of the attachment is
// in place.
func TestContextEndsDuringAttach(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleServer)
	present := func() *attachment {
		c.in.lead.Lock()
		defer c.in.lead.Unlock()
		return c.in.at
	}
	n.stop()
	until(t, "the loss is noticed", func() bool { return present() == nil })
	c.replies.mu.Lock() // the keeper stops here
	n.start(t)
	until(t, "the attachment is there", func() bool { return present() != nil })
	at := present()
	ctx, cancel := context.WithCancel(t.Context())
	received := make(chan error, 1)
	go func() {
		_, err := c.Receive(ctx)
		received <- err
	}()
	until(t, "the caller sleeps", func() bool { return at.seg.WakeNeeded(shm.ProgramSide) })
	cancel()
	select {
	case err := <-received:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Receive: %v, want Canceled", err)
		}
	case <-time.After(longStop):
		t.Error("Receive outlives its context")
	}
	c.replies.mu.Unlock()
}
