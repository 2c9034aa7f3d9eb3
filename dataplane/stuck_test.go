package dataplane_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// More messages than the window takes whose deadline has passed when the node
// reads them do not stall the out-ring: what follows them is delivered.
func TestExpiredMessagesDoNotStall(t *testing.T) {
	w := newWorld(t, 1)
	s := attach(t, w.nodes[0], client.RoleServer)
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	for g.seq < 3000 {
		g.seq++
		g.send(wire.OutRequest{Seq: g.seq, Hash: 1, DeadlineUnixMs: 1}, nil)
	}
	g.sends(1, 1)
	g.ring()
	if m := receive(t, s); m.Seq != 3001 {
		t.Errorf("received sequence %d, want 3001", m.Seq)
	}
}

func receive(t *testing.T, c *client.Client) *client.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return m
}

// A program that changes a record after the node has read it is cut off, and
// its session ends although the record can never be delivered.
func TestChangedRecordEndsSession(t *testing.T) {
	w := newWorld(t, 1)
	w.table.Servers[0].Status = ring.ServiceIn // nobody takes messages
	w.publish(nil)
	for _, first := range []bool{true, false} { // it ends before or after the node notices
		g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
		g.sends(10, 0)
		g.ring()
		before := w.slave().plane.Status().Counters.Submitted
		w.slave().awaitStatus("messages read", func(s *dataplane.Status) bool {
			return s.Counters.Submitted%10 == 0 && s.Counters.Submitted >= before && s.Counters.Submitted > 0
		})
		if first {
			g.exit()
			w.slave().awaitStatus("program ended", func(s *dataplane.Status) bool { return len(s.Attached) == 1 && s.Attached[0].Ended })
		}
		record := g.mem[4096+shm.ControlRingBytes+1<<20:]
		binary.NativeEndian.PutUint32(record, 4)
		w.table.Servers[0].Status = serving
		w.publish(nil)
		w.slave().awaitStatus("its segment is free", gone(0))
		w.table.Servers[0].Status = ring.ServiceIn
		w.publish(nil)
	}
}

// A message that fits the rings of its sender's node and not those of the
// owner's node is refused for good, and its sender hears so at once; the
// program that it is for is not blamed.
func TestMessageLargerThanRings(t *testing.T) {
	w := newWorld(t, 1)
	w.slave().stop()
	w.start(&testNode{id: w.slave().id, slave: true, rings: 4 << 20}, nil)
	w.publish(nil)
	echo(t, w.nodes[0])
	c := attach(t, w.slave(), client.RoleClient)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Request(ctx, 1, make([]byte, 600<<10)); ctx.Err() != nil || !errors.Is(err, client.ErrNotDelivered) {
		t.Errorf("600 KiB: %v, want not delivered", err)
	}
	if err := c.SendWait(ctx, 1, make([]byte, 600<<10)); ctx.Err() != nil || !errors.Is(err, client.ErrNotDelivered) {
		t.Errorf("600 KiB: %v, want not delivered", err)
	}
	if _, err := c.BroadcastRequest(ctx, make([]byte, 600<<10), func([]byte) { t.Error("a reply") }); ctx.Err() != nil || err == nil {
		t.Errorf("broadcast of 600 KiB: %v, want an error", err)
	}
	lost := make(chan client.Undelivered, 3)
	quiet, err := client.Attach(ctx, client.Options{Socket: w.slave().socket(), Undelivered: func(u client.Undelivered) { lost <- u }})
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	if err := errors.Join(quiet.Send(ctx, 7, make([]byte, 600<<10)), quiet.Send(ctx, 7, []byte("fits"))); err != nil {
		t.Fatal(err)
	}
	select {
	case u := <-lost:
		if u != (client.Undelivered{Seq: 1, Hash: 7}) {
			t.Errorf("told %+v", u)
		}
	case <-ctx.Done():
		t.Error("Send without a deadline: nobody was told")
	}
	ask(t, c, 2, "fits")
	ask(t, c, 1, "the same hash again")
	if s := w.nodes[0].plane.Status(); s.Counters.TooLarge != 4 {
		t.Errorf("%d messages were refused for good, want 4: %+v", s.Counters.TooLarge, s)
	}
	w.nodes[0].await("one program, and no other before", func() bool { return w.nodes[0].programs == 1 && w.nodes[0].reports == 1 })
}

// The number of programs that was reported last is the number that there is.
func TestProgramsReportedInOrder(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 15 {
				g, _ := attachRaw(t, n, wire.RoleServer, wire.SessionID{})
				g.exit()
			}
		})
	}
	wg.Wait()
	n.awaitStatus("all have ended", gone(0))
	stop := attach(t, n, client.RoleServer)
	n.await("one program reported", func() bool { return n.programs == 1 })
	if err := stop.Close(); err != nil {
		t.Fatal(err)
	}
	n.await("no program reported", func() bool { return n.programs == 0 })
}

// A server that leaves the table and is back in the next one is reached again.
func TestServerLeavesAndReturns(t *testing.T) {
	w := newWorld(t, 2)
	w.slave().stop()
	w.start(&testNode{id: w.slave().id, slave: true, blank: true}, nil)
	both, one := w.table, w.table
	one.Servers = both.Servers[:1]
	one.Base = ring.Interleaved(64, 1, []uint16{0})
	w.publish(nil)
	for _, n := range w.nodes[:2] {
		echo(t, n)
	}
	c := attach(t, w.slave(), client.RoleClient)
	for i := range 30 {
		if id := ask(t, c, 1, fmt.Sprint("round ", i)); id != 0x101 {
			t.Fatalf("answered by %v", id)
		}
		for _, w.table = range []ring.Table{one, both} {
			w.epoch++
			v := w.build()
			w.slave().plane.SetView(ring.View{Table: v}, 0)
		}
		w.publish(nil)
	}
}

// A node stops at once although a server took its link and says nothing, and
// although somebody opened a link to it and says nothing.
func TestStopDoesNotWaitForSilentPeers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w := (&world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, hello: time.Hour}).begin(1)
	mute := w.table.Servers[0]
	mute.ID, mute.Number, mute.Name, mute.Addr = 0x1ff, 9, "mute", ln.Addr().String()
	w.table.Servers = append(w.table.Servers, mute)
	w.publish(nil)
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mine, err := net.Dial("tcp", w.nodes[0].addr)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for _, n := range w.nodes {
			n.stop()
		}
	}()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("they wait for the silent peers")
	}
}

// All requests that a server took and did not answer fail when it ends, also
// when they are more than the control ring holds.
func TestAllRequestsOfEndedServerFail(t *testing.T) {
	const requests = 4000
	w := newWorld(t, 1)
	s := attach(t, w.nodes[0], client.RoleServer)
	c := attach(t, w.slave(), client.RoleClient)
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	failed := make(chan error, requests)
	wg.Go(func() {
		for range requests {
			receive(t, s)
		}
	})
	for range requests {
		if err := c.RequestAsync(ctx, 1, []byte("x"), func(_ []byte, err error) { failed <- err }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	w.slave().awaitStatus("all acknowledged", func(s *dataplane.Status) bool { return s.Counters.Acked == requests })
	w.table.Servers[0].Status = ring.ServiceIn
	w.publish(nil)
	for i := range requests {
		select {
		case err := <-failed:
			if !errors.Is(err, client.ErrMaybeDelivered) {
				t.Fatalf("request failed with %v", err)
			}
		case <-ctx.Done():
			t.Fatalf("%d of %d requests failed", i, requests)
		}
	}
}

// A table that was installed last is there after a restart, however short the
// node lived with it.
func TestLastTableIsKept(t *testing.T) {
	for range 10 {
		w := newWorld(t, 1)
		n := w.slave()
		for range 20 {
			w.publish(nil)
		}
		n.stop()
		p := w.start(&testNode{id: n.id, slave: true, dir: n.dir}, nil)
		if e := p.plane.Status().Epoch; e.Index != w.epoch {
			t.Fatalf("restarted with epoch %v, want %d", e, w.epoch)
		}
	}
}

// What a server program was given and has not taken when it is killed goes to
// another program of its node, or waits for one.
func TestUntakenRecordsOfKilledProgram(t *testing.T) {
	for _, other := range []string{"there is another", "another comes later"} {
		t.Run(other, func(t *testing.T) {
			w := newWorld(t, 1)
			g, _ := attachRaw(t, w.nodes[0], wire.RoleServer, wire.SessionID{})
			if other == "there is another" {
				echo(t, w.nodes[0])
			}
			c := attach(t, w.slave(), client.RoleClient)
			var wg sync.WaitGroup
			for h := range uint64(20) {
				wg.Go(func() { ask(t, c, h, "untaken") })
			}
			w.nodes[0].awaitStatus("messages given out", func(s *dataplane.Status) bool { return s.Counters.Accepted >= 20 })
			g.exit()
			if other != "there is another" {
				w.nodes[0].awaitStatus("messages taken back", func(s *dataplane.Status) bool { return s.Counters.Withdrawn == 20 })
				echo(t, w.nodes[0])
			}
			wg.Wait()
		})
	}
}

// What a client program wrote before it was killed is delivered in order, also
// when it never woke the node and when it is more than the window takes.
func TestMessagesOfKilledProgram(t *testing.T) {
	w := newWorld(t, 1)
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	const messages = 3000
	g.sends(messages, 5)
	g.exit()
	s := attach(t, w.nodes[0], client.RoleServer)
	for seq := range uint64(messages) {
		if m := receive(t, s); m.Seq != seq+1 || m.MaybeRepeat {
			t.Fatalf("received %d (repeat %v), want %d", m.Seq, m.MaybeRepeat, seq+1)
		}
	}
	w.slave().awaitStatus("its segment is free", gone(0))
}

// A program that comes back with its session is refused while the node still
// has the earlier attachment, and takes it over afterwards, also with messages
// that are not settled.
func TestSameSessionAgain(t *testing.T) {
	w := newWorld(t, 1)
	w.table.Servers[0].Status = ring.ServiceIn // nobody takes messages
	w.publish(nil)
	old, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	if _, rep := attachRaw(t, w.slave(), wire.RoleClient, old.session); rep.Code != wire.AttachRefusedSession {
		t.Errorf("second attachment of a session: %v, want a refusal", rep.Code)
	}
	for range 5 {
		old.sends(400, 3)
		old.exit()
		w.slave().awaitStatus("program ended", func(s *dataplane.Status) bool { return len(s.Attached) == 1 && s.Attached[0].Ended })
		next, rep := attachRaw(t, w.slave(), wire.RoleClient, old.session)
		if rep.Code != wire.AttachOK {
			t.Fatalf("attach again: %v %s", rep.Code, rep.Text)
		}
		next.sends(int(old.seq), 3) // as the library does: what is not settled comes again
		old = next
	}
	old.ring()
	w.table.Servers[0].Status = serving
	w.publish(nil)
	s := attach(t, w.nodes[0], client.RoleServer)
	for seq := range old.seq {
		if m := receive(t, s); m.Seq != seq+1 {
			t.Fatalf("received %d, want %d", m.Seq, seq+1)
		}
	}
	old.exit()
	w.slave().awaitStatus("its segment is free", gone(0))
}

// A server program that stands still with a full in-ring holds up its own
// hashes only; when it goes on, everything arrives in order.
func TestStandingProgram(t *testing.T) {
	w := newWorld(t, 2)
	still := attach(t, w.nodes[0], client.RoleServer)
	echo(t, w.nodes[1])
	asker := attach(t, w.slave(), client.RoleClient)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const messages = 100 // of each: two out-rings hold more than one in-ring
	var wg sync.WaitGroup
	for range 2 {
		sender := attach(t, w.slave(), client.RoleClient)
		wg.Go(func() {
			for range messages {
				if err := sender.Send(ctx, 0, make([]byte, 32<<10)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	w.nodes[0].awaitStatus("the in-ring is full", func(s *dataplane.Status) bool { return s.Counters.Later > 0 })
	for i := range 200 {
		ask(t, asker, 1, fmt.Sprint("meanwhile ", i))
	}
	last := map[wire.SessionID]uint64{}
	for range 2 * messages {
		m := receive(t, still)
		if last[m.Session]++; m.Seq != last[m.Session] {
			t.Fatalf("received %d of a session, want %d", m.Seq, last[m.Session])
		}
	}
	wg.Wait()
}

// A program that takes nothing does not keep its node awake, and what it takes
// at last is acknowledged at once.
func TestStoppedProgramCostsNothing(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	s, c := attach(t, n, client.RoleServer), attach(t, w.slave(), client.RoleClient)
	send := func(upTo uint64) {
		t.Helper()
		if err := c.Send(context.Background(), 1, []byte("taken late")); err != nil {
			t.Fatal(err)
		}
		n.awaitStatus("delivered", func(s *dataplane.Status) bool { return s.Counters.Accepted == upTo })
	}
	send(1)
	send(2)
	until := n.plane.Status().Ticks + 30
	n.awaitStatus("ticks that find that nothing moves", func(s *dataplane.Status) bool { return s.Ticks >= until })
	began := time.Now()
	until = n.plane.Status().Ticks + 20
	n.awaitStatus("some ticks", func(s *dataplane.Status) bool { return s.Ticks >= until })
	if took := time.Since(began); took < 200*time.Millisecond { // 400 ms, and more on a busy machine
		t.Errorf("20 ticks in %v", took)
	}
	for i := range uint64(2) {
		begin := time.Now()
		receive(t, s)
		w.slave().awaitStatus("settled", func(s *dataplane.Status) bool { return s.Counters.Acked == i+1 })
		t.Logf("acknowledged after %v", time.Since(begin))
	}
}

// A node where nothing happens looks at once whether its program takes what it
// is given: it does not rest until the next look of an idle ticker.
func TestIdleNodeAcknowledgesSoon(t *testing.T) {
	w := newWorld(t, 1)
	s, c := attach(t, w.nodes[0], client.RoleServer), attach(t, w.slave(), client.RoleClient)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var took []time.Duration
	for range 9 {
		settled := make(chan error, 1)
		begin := time.Now()
		go func() { settled <- c.SendWait(ctx, 1, []byte("x")) }()
		receive(t, s)
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	if took[2] > 200*time.Millisecond { // 2 to 3 ms on a machine that is not busy; an idle ticker rests for 250 ms
		t.Errorf("messages were settled after %v", took)
	}
}

// A program that reads nothing while all receivers of a window full of requests
// to many go down at once is not cut off, however many they are, and then hears
// of each receiver of each request.
func TestManyReceiversGoDownAtOnce(t *testing.T) {
	const receivers = 20 // that are not there: dialled for ever
	w := newWorld(t, 1)
	first := len(w.table.Servers)
	for i := range receivers {
		w.table.Servers = append(w.table.Servers, ring.Server{
			ID: ring.ID(0x200 + i), Number: uint16(100 + i), Identity: ring.Identity{Name: fmt.Sprint("z", i)},
			Addr: "127.0.0.1:1", Status: serving, Incarnation: 3,
		})
	}
	w.publish(nil)
	g, _ := attachRaw(t, w.slave(), wire.RoleClient, wire.SessionID{})
	for range flow.Window {
		g.seq++
		g.send(wire.OutRequest{Seq: g.seq, Kind: wire.KindBroadcast, Flags: wire.FlagWantsReply | wire.FlagWantsSettled}, nil)
	}
	g.ring()
	w.slave().awaitStatus("all requests read", func(s *dataplane.Status) bool { return s.Counters.Submitted == flow.Window })
	for i := range w.table.Servers[first:] {
		w.table.Servers[first+i].Status = ring.ServiceIn
	}
	w.publish(nil)
	for range 100 { // nor does it matter how often the number of servers changes
		w.table.Servers[0].Status ^= ring.Suspend
		w.publish(nil)
	}
	serving, shown, failed, told := uint64(0), 0, map[uint64]int{}, 0
	in := g.seg.Consumer(shm.ToProgram, shm.Control)
	for stop := time.Now().Add(patience); told < flow.Window*receivers || shown < 2 || serving != 1; {
		rec, _, end, ok, err := in.Next()
		if err != nil || time.Now().After(stop) {
			t.Fatalf("told %d times, want %d: %v %+v", told, flow.Window*receivers, err, w.slave().plane.Status().Attached)
		}
		if !ok {
			runtime.Gosched()
			continue
		}
		var c wire.Control
		if err := c.Get(rec); err != nil {
			t.Fatal(err)
		}
		in.Release(end)
		if g.seg.RoomWanted(shm.NodeSide) {
			g.ring()
		}
		switch c.Type {
		case wire.ControlRequestFailed:
			failed[c.Value]++
			told++
		case wire.ControlServing:
			serving = c.Value
			shown++
		}
	}
	for seq := range g.seq {
		if failed[seq+1] != receivers {
			t.Fatalf("request %d has lost %d receivers, want %d", seq+1, failed[seq+1], receivers)
		}
	}
	if s := w.slave().plane.Status(); len(s.Attached) != 1 || s.Attached[0].Ended || shown > 3 {
		t.Errorf("told %d times how many servers serve; %+v", shown, s.Attached)
	}
}
