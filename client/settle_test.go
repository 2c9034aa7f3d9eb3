package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// attachAs attaches with options of the test's.
func attachAs(t *testing.T, n *testNode, o Options) *Client {
	t.Helper()
	o.Socket = n.path
	c, err := Attach(stopIn(t, longStop), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// restart ends the node and starts it again, when the clients have noticed.
func restart(t *testing.T, n *testNode, clients ...*Client) {
	t.Helper()
	n.stop()
	for _, c := range clients {
		until(t, "the loss is noticed", func() bool { return !c.Stats().Attached })
	}
	n.start(t)
}

// ways are the two ways in which a node takes a program back.
var ways = map[string]bool{"segment taken back": true, "records copied": false}

// TestSendWait proves that SendWait ends when the message was taken, and with
// the right error when it was not or nobody knows.
func TestSendWait(t *testing.T) {
	n := newTestNode(t)
	server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	waited := make(chan error, 1)
	go func() { waited <- c.SendWait(ctx, 1, []byte("a")) }()
	until(t, "the message is sent", func() bool { return c.Stats().Sent == 1 })
	select {
	case err := <-waited:
		t.Fatalf("returned %v before the message was taken", err)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := server.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("taken: %v", err)
	}
	short := newEndable(t)
	go func() { waited <- c.SendWait(short, 1, nil) }()
	until(t, "the message is sent", func() bool { return c.Stats().Sent == 2 })
	short.end()
	if err := <-waited; !errors.Is(err, ErrMaybeDelivered) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context ended: %v, want ErrMaybeDelivered", err)
	}
	if err := c.SendWait(short, 1, nil); !errors.Is(err, ErrNotDelivered) {
		t.Errorf("context had ended: %v, want ErrNotDelivered", err)
	}
	if err := c.SendWait(ctx, 1, nil, Deadline(time.Now().Add(-time.Second))); !errors.Is(err, ErrNotDelivered) {
		t.Errorf("deadline: %v, want ErrNotDelivered", err)
	}
	go func() { waited <- c.SendWait(ctx, 1, []byte("a")) }()
	until(t, "the message is sent", func() bool { return c.Stats().Sent == 4 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, ErrMaybeDelivered) || !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v, want ErrMaybeDelivered and ErrClosed", err)
	}
}

// TestSendWaitRestart proves that SendWait outlives its node: what the lost one
// had settled without the word being read is settled, the rest is sent again.
func TestSendWaitRestart(t *testing.T) {
	for name, back := range ways {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.do(func() { n.takeBack, n.echo = back, false })
			server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
			ctx := stopIn(t, longStop)
			n.do(func() { n.mute = true })
			waited := make([]chan error, 2)
			for i := range waited {
				waited[i] = make(chan error, 1)
				go func() { waited[i] <- c.SendWait(ctx, 1, number(i)) }()
				until(t, "the message is sent", func() bool { return c.Stats().Sent == uint64(i+1) })
				if i == 0 {
					if _, err := server.Receive(ctx); err != nil {
						t.Fatal(err)
					}
					until(t, "it is settled", func() (ok bool) {
						n.do(func() { ok = len(n.programs[c.Session()].unsettled) == 0 })
						return ok
					})
				}
			}
			restart(t, n, server, c)
			if err := <-waited[0]; err != nil {
				t.Errorf("settled before the loss: %v", err)
			}
			n.do(func() { n.mute = false })
			m, err := server.Receive(ctx)
			if err != nil || m.Seq != 2 || !m.MaybeRepeat {
				t.Fatalf("received %+v, %v, want message 2 marked", m, err)
			}
			if err := <-waited[1]; err != nil {
				t.Errorf("settled after it: %v", err)
			}
		})
	}
}

// TestUndelivered proves that every message that is given up at its deadline is
// reported once, with its hash, through restarts of the node, that what was
// taken is not, and that nothing waits for ever.
func TestUndelivered(t *testing.T) {
	for name, back := range ways {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.do(func() { n.takeBack = back })
			var mu sync.Mutex
			got := map[uint64]uint64{}
			c := attachAs(t, n, Options{Undelivered: func(u Undelivered) {
				mu.Lock()
				defer mu.Unlock()
				if got[u.Seq] != 0 {
					t.Errorf("%+v is reported twice", u)
				}
				got[u.Seq] = u.Hash
			}})
			ctx := stopIn(t, longStop)
			for round := range 4 {
				n.do(func() { n.echo = false })
				deadline := time.Now().Add(30 * time.Millisecond)
				for i := range 40 {
					opts := []CallOption{Deadline(deadline)}
					if i%4 == 3 {
						opts = nil
					}
					if err := c.Send(ctx, uint64(round*40+i+1), nil, opts...); err != nil {
						t.Fatal(err)
					}
				}
				if round%2 == 1 {
					restart(t, n, c)
				}
				until(t, "all are reported", func() bool {
					return c.Stats().Undelivered == uint64(round*30+3) || c.Stats().Undelivered > uint64(round*30)
				})
				n.do(func() { n.echo = true })
				if err := c.Drain(ctx); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "all are reported", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(got) == 4*30 && c.Stats().Undelivered == 4*30
			})
			mu.Lock()
			defer mu.Unlock()
			for seq, hash := range got {
				if seq != hash || seq%4 == 0 {
					t.Errorf("message %d with hash %d was reported", seq, hash)
				}
			}
			until(t, "nobody leads for them", func() bool { return c.in.async.Load() == 0 })
		})
	}
}

// TestUndeliveredBound proves that reports that nobody takes are counted, and
// that senders wait when too many messages may be given up.
func TestUndeliveredBound(t *testing.T) {
	n := newTestNode(t)
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	calls := 0
	c := attachAs(t, n, Options{Undelivered: func(Undelivered) { <-hold; calls++ }})
	ctx := stopIn(t, longStop)
	past := Deadline(time.Now().Add(-time.Second))
	const messages = watchedMax + 5000
	for i := range messages {
		if err := c.Send(ctx, uint64(i), nil, past); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all are counted", func() bool { return c.Stats().Undelivered == messages })
	release()
	until(t, "those that found room are called", func() bool { return len(c.reports) == 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if missed := c.Stats().UndeliveredMissed; missed == 0 || uint64(calls)+missed != messages {
		t.Errorf("%d calls, %d missed, want %d together", calls, missed, messages)
	}
}

// TestDrainTells proves that Drain returns when all that was given up has been
// told, so that Close behind it loses no report.
func TestDrainTells(t *testing.T) {
	n := newTestNode(t)
	n.do(func() { n.echo = false })
	const messages = 100
	told := 0
	c := attachAs(t, n, Options{Undelivered: func(Undelivered) {
		<-time.After(100 * time.Microsecond) // slower than the messages come
		told++
	}})
	ctx := stopIn(t, longStop)
	for i := range messages {
		if err := c.Send(ctx, uint64(i), nil, Deadline(time.Now().Add(-time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if told != messages || c.Stats().UndeliveredMissed != 0 {
		t.Errorf("%d of %d are told, %d missed", told, messages, c.Stats().UndeliveredMissed)
	}
}

// TestDrainWithoutWord proves that Drain returns also when messages with a
// deadline were settled without a word.
func TestDrainWithoutWord(t *testing.T) {
	n := newTestNode(t)
	c := attachAs(t, n, Options{Undelivered: func(u Undelivered) { t.Errorf("reported %+v", u) }})
	ctx := stopIn(t, longStop)
	for i := range 20 {
		if err := c.Send(ctx, uint64(i), nil, Deadline(time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		if err := c.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDrainOfEarlier proves that Drain waits for nothing that was sent after it
// was called: neither for what is untaken, nor for the reports that go on coming.
func TestDrainOfEarlier(t *testing.T) {
	t.Run("untaken", func(t *testing.T) {
		n := newTestNode(t)
		server, c := attach(t, n, RoleServer), attachAs(t, n, Options{Undelivered: func(Undelivered) {}})
		ctx := stopIn(t, longStop)
		later := Deadline(time.Now().Add(time.Hour))
		if err := c.Send(ctx, 1, nil, later); err != nil {
			t.Fatal(err)
		}
		drained := make(chan error, 1)
		go func() { drained <- c.Drain(ctx) }()
		until(t, "it waits", func() bool { return c.requests.drains.Load() == 1 })
		if err := c.Send(ctx, 1, nil, later); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
	t.Run("reports", func(t *testing.T) {
		n := newTestNode(t)
		c := attachAs(t, n, Options{Undelivered: func(Undelivered) { <-time.After(100 * time.Microsecond) }})
		ctx, cancel := context.WithCancel(stopIn(t, longStop))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for c.Send(ctx, 1, nil, Deadline(time.Now().Add(-time.Second))) == nil {
			}
		}()
		until(t, "reports wait", func() bool { return len(c.reports) == reportsMax })
		if err := c.Drain(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		<-ended
	})
}

// TestWatchedRoom proves that senders of messages with a deadline go on when
// the node has settled many of them without a word: nobody else would look.
func TestWatchedRoom(t *testing.T) {
	n := newTestNode(t)
	c := attachAs(t, n, Options{Undelivered: func(u Undelivered) { t.Errorf("reported %+v", u) }})
	ctx := stopIn(t, longStop)
	later := Deadline(time.Now().Add(time.Hour))
	const burst = 512 // divides watchedMax: nothing is unsettled when there is no more room
	for sent := 0; sent <= watchedMax; sent += burst {
		for i := range burst {
			if err := c.Send(ctx, uint64(i), nil, later); err != nil {
				t.Fatalf("after %d messages: %v", sent, err)
			}
		}
		until(t, "all are settled", func() (ok bool) { // so the ring is never full
			n.do(func() { p := n.programs[c.Session()]; ok = p.outRequests.Empty() && len(p.unsettled) == 0 })
			return ok
		})
	}
}

// TestOpened proves that the ring is released up to the oldest message that is
// not done, whatever the order, and that keeping count does not allocate.
func TestOpened(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var o opened
	var live []uint64 // tickets that are not done
	end := uint64(0)
	step := func() {
		if len(live) == 0 || len(live) < 200 && rnd.IntN(2) == 0 {
			end += 8
			live = append(live, o.push(end))
			return
		}
		i := rnd.IntN(len(live))
		ticket := live[i]
		live = slices.Delete(live, i, i+1)
		if !o.done(ticket) || o.done(ticket) || o.done(o.last) {
			t.Fatalf("ticket %d is not done once", ticket)
		}
		want := end // ticket i ends at 8 x (i + 1)
		if len(live) > 0 {
			want = 8 * slices.Min(live)
		}
		if o.passed > want || o.first != o.last && o.passed != want {
			t.Fatalf("passed %d, want %d", o.passed, want)
		}
	}
	for range 20_000 {
		step()
	}
	if got := testing.AllocsPerRun(1000, step); got > 0 && !raceEnabled {
		t.Errorf("%v allocations, want 0", got)
	}
}

// TestDrain proves that Drain waits for everything that was accepted before,
// through a restart of the node, and ends with its context.
func TestDrain(t *testing.T) {
	for name, back := range ways {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.do(func() { n.takeBack, n.echo = back, false })
			c := attach(t, n, RoleClient)
			ctx := stopIn(t, longStop)
			if err := c.Drain(ctx); err != nil {
				t.Errorf("nothing sent: %v", err)
			}
			for i := range 50 {
				if err := c.Send(ctx, 1, number(i)); err != nil {
					t.Fatal(err)
				}
			}
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			if err := c.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("nobody takes: %v", err)
			}
			drained := make(chan error, 1)
			go func() { drained <- c.Drain(ctx) }()
			restart(t, n, c)
			until(t, "attached again", func() bool { return c.Stats().Attached })
			select {
			case err := <-drained:
				t.Fatalf("drained with messages left: %v", err)
			default:
			}
			n.do(func() { n.echo = true })
			if err := <-drained; err != nil {
				t.Error(err)
			}
			n.do(func() {
				if p := n.programs[c.Session()]; !p.outRequests.Empty() || len(p.unsettled) > 0 {
					t.Error("drained before all was settled")
				}
			})
		})
	}
}

// TestAckOnDone proves that a message is taken when it is done, in any order,
// that a program goes on with those it has after its node restarted, and that
// nothing is given back for messages of a segment that is gone.
func TestAckOnDone(t *testing.T) {
	for name, back := range ways {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.do(func() { n.takeBack, n.echo = back, false })
			server, c := attachAs(t, n, Options{Role: RoleServer, AckOnDone: true}), attach(t, n, RoleClient)
			ctx := stopIn(t, longStop)
			left := func() (left int) {
				n.do(func() { left = len(n.programs[c.Session()].unsettled) })
				return left
			}
			var got []*Message
			receive := func() *Message {
				m, err := server.Receive(ctx)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m)
				return m
			}
			for i := range 4 {
				if err := c.Send(ctx, 1, number(i)); err != nil {
					t.Fatal(err)
				}
				receive()
			}
			if left() != 4 {
				t.Fatalf("%d messages are not taken, want 4", left())
			}
			for _, step := range []struct{ done, left int }{{2, 4}, {0, 3}, {0, 3}, {1, 1}} {
				server.Done(got[step.done])
				until(t, fmt.Sprintf("%d are left", step.left), func() bool { return left() == step.left })
			}
			if err := c.Send(ctx, 1, number(4)); err != nil {
				t.Fatal(err)
			}
			receive()
			n.stop()
			until(t, "the loss is noticed", func() bool { return !server.Stats().Attached && !c.Stats().Attached })
			server.Done(got[3])
			n.start(t)
			for seq := uint64(4); seq <= 5; seq++ { // not settled by the lost node: they come again
				if m := receive(); m.Seq != seq || !m.MaybeRepeat {
					t.Fatalf("got %+v, want message %d marked", m, seq)
				}
			}
			server.Done(got[4])
			server.Done(got[5])
			if err := c.Send(ctx, 1, number(5)); err != nil {
				t.Fatal(err)
			}
			receive()
			until(t, "the first is taken", func() bool { return left() == 2 })
			server.Done(got[7])
			server.Done(got[6])
			until(t, "all are taken", func() bool { return left() == 0 })
			defer serveEcho(t, server, 2)()
			for i := range 100 {
				if r, err := c.Request(ctx, 1, number(i)); err != nil || len(r.Payload) != 8 {
					t.Fatal(err)
				}
			}
			until(t, "what was served is taken", func() bool { return left() == 0 })
		})
	}
}

// TestMany proves that messages to many tell how many they go to, that requests
// collect as many replies, and that they do not wait for what cannot come.
func TestMany(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	for _, many := range []int{0, 1, 3, 100} {
		n.do(func() { n.many = many })
		if got, err := c.Broadcast(ctx, []byte("x"), WithoutSelf()); got != many || err != nil {
			t.Errorf("Broadcast: %d, %v, want %d", got, err, many)
		}
		if got, err := c.Replicate(ctx, 5, []byte("x")); got != many || err != nil {
			t.Errorf("Replicate: %d, %v, want %d", got, err, many)
		}
		replies := 0
		got, err := c.BroadcastRequest(ctx, []byte("x"), func(p []byte) {
			if string(p) == "x" {
				replies++
			}
		})
		if got != many || err != nil || replies != many {
			t.Errorf("BroadcastRequest: %d receivers, %d replies, %v, want %d", got, replies, err, many)
		}
	}
	if err := errors.Join(c.SendRandom(ctx, nil), c.Drain(ctx)); err != nil {
		t.Error(err)
	}
	n.do(func() { n.echo, n.many = false, 2 })
	ends := map[string]struct {
		end  func(cancel func())
		want error
	}{
		"context": {func(cancel func()) { cancel() }, context.Canceled},
		"receivers ended": {func(func()) {
			n.control(wire.Control{Type: wire.ControlRequestFailed, Value: c.Stats().Sent})
			n.control(wire.Control{Type: wire.ControlRequestFailed, Value: c.Stats().Sent})
		}, ErrMaybeDelivered},
		"node ended": {func(func()) { restart(t, n, c) }, ErrMaybeDelivered},
	}
	for name, end := range ends {
		short, cancel := context.WithCancel(ctx)
		outcome, before := make(chan error, 1), c.Stats().Sent
		go func() {
			_, err := c.ReplicateRequest(short, 5, nil, func([]byte) { t.Error("a reply that nobody sent") })
			outcome <- err
		}()
		until(t, "the request is out", func() (ok bool) {
			n.do(func() { ok = c.Stats().Sent == before+1 && len(n.programs[c.Session()].unsettled) == 0 })
			return ok
		})
		end.end(cancel)
		if err := <-outcome; !errors.Is(err, end.want) || !errors.Is(err, ErrMaybeDelivered) {
			t.Errorf("%s: %v, want %v", name, err, end.want)
		}
		cancel()
	}
	n.do(func() { n.many = 0 })
	reported := make(chan Undelivered, 1)
	w := attachAs(t, n, Options{Undelivered: func(u Undelivered) { reported <- u }})
	if got, err := w.Replicate(ctx, 5, nil); got != 0 || err != nil {
		t.Errorf("Replicate: %d, %v, want nobody", got, err)
	}
	select {
	case u := <-reported:
		if u != (Undelivered{Seq: 1, Hash: 5}) {
			t.Errorf("reported %+v", u)
		}
	case <-ctx.Done():
		t.Error("a message for nobody was not reported")
	}
	if got := c.gathers.n.Load(); got != 0 {
		t.Errorf("%d requests to many are still open", got)
	}
}

// TestUndeliveredOnce proves that a message that was told as given up, and whose
// room an older one holds up, is not told again by the next node.
func TestUndeliveredOnce(t *testing.T) {
	for name, back := range ways {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.do(func() { n.takeBack, n.echo = back, false })
			server := attach(t, n, RoleServer)
			reports := make(chan Undelivered, 10)
			c := attachAs(t, n, Options{Undelivered: func(u Undelivered) { reports <- u }})
			ctx := stopIn(t, longStop)
			if err := c.Send(ctx, 1, nil); err != nil { // nobody takes it yet
				t.Fatal(err)
			}
			if err := c.Send(ctx, 2, nil, Deadline(time.Now().Add(-time.Second))); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				until(t, "it is told", func() bool { return c.Stats().Undelivered >= 1 })
				restart(t, n, server, c)
				until(t, "the next node has read it", func() (ok bool) {
					n.do(func() { p := n.programs[c.Session()]; ok = p != nil && len(p.unsettled) == 2 })
					return ok
				})
			}
			if m, err := server.Receive(ctx); err != nil || m.Seq != 1 {
				t.Fatalf("received %+v, %v", m, err)
			}
			if err := c.Drain(ctx); err != nil {
				t.Fatal(err)
			}
			until(t, "nothing is watched", func() bool { return !c.requests.watched.any.Load() })
			if got := c.Stats().Undelivered; got != 1 || (<-reports).Seq != 2 {
				t.Errorf("%d reports, want one of message 2", got)
			}
		})
	}
}

// TestDrainBesideSend proves that callers of Drain leave room to who sends: room
// that comes free while they wait is used, though they have to wait on.
func TestDrainBesideSend(t *testing.T) {
	n := newTestNode(t)
	server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	m := &message{hash: 1, payload: make([]byte, 8000)}
	var err error
	for err == nil {
		_, err = c.writeRequest(m)
	}
	if !errors.Is(err, errNoRoom) {
		t.Fatal(err)
	}
	const drains = 3
	drained, sent := make(chan error, drains), make(chan error, 1)
	for i := range drains {
		go func() { drained <- c.Drain(ctx) }()
		until(t, "it waits", func() bool { return c.requests.drains.Load()+c.requests.waiting.Load() == int32(i+1) })
	}
	go func() { sent <- c.Send(ctx, 1, m.payload) }()
	until(t, "the sender waits", func() bool { return c.requests.drains.Load()+c.requests.waiting.Load() == drains+1 })
	for range 2 {
		if _, err := server.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-sent:
		if err != nil {
			t.Fatal(err)
		}
	case err := <-drained:
		t.Fatalf("Drain returned %v while messages are out", err)
	case <-ctx.Done():
		t.Fatal("there is room, and the sender waits")
	}
	for range c.Stats().Sent - 2 {
		if _, err := server.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for range drains {
		if err := <-drained; err != nil {
			t.Error(err)
		}
	}
}

// A message that the lost node gave up stays given up in the segment that it
// is copied to; any other may be a repeat.
func TestCopyKeepsWhatWasGivenUp(t *testing.T) {
	for flags, want := range map[wire.Flags]wire.Flags{
		wire.FlagWantsReply:                     wire.FlagWantsReply | wire.FlagMaybeRepeat,
		wire.FlagGivenUp:                        wire.FlagGivenUp,
		wire.FlagGivenUp | wire.FlagMaybeRepeat: wire.FlagGivenUp | wire.FlagMaybeRepeat,
	} {
		rec := make([]byte, wire.OutRequestBytes)
		(&wire.OutRequest{Seq: 7, Flags: flags}).Put(rec)
		seq, err := markRepeat(rec)
		var got wire.OutRequest
		if _, bad := got.Get(rec); seq != 7 || err != nil || bad != nil || got.Flags != want {
			t.Errorf("flags %#x: copied %d as %#x, %v, %v, want %#x", flags, seq, got.Flags, err, bad, want)
		}
	}
}

// TestDrainAfterDamagedWord proves that messages which a lost node had settled, and
// whose fate it wrote where nobody can read it, are reported as perhaps delivered, once,
// and that Drain does not wait for them in the segment of the next node.
func TestDrainAfterDamagedWord(t *testing.T) {
	for name, damage := range map[string]func(p *testProgram){
		"a record": func(p *testProgram) {
			room, _, _ := p.inControl.Reserve(3) // too short for any
			clear(room)
			p.inControl.Commit()
		},
		"the ring": func(p *testProgram) {
			at := p.inControl.Tail() % shm.ControlRingBytes
			p.tell(wire.Control{Type: wire.ControlServing, Value: 1})
			p.mem[4096+shm.ControlRingBytes+2*testRingBytes+at] = 0xff // length of the record; see shm/layout.go
		},
	} {
		t.Run(name, func(t *testing.T) { drainAfterDamage(t, damage) })
	}
}

func drainAfterDamage(t *testing.T, damage func(p *testProgram)) {
	n := newTestNode(t)
	n.do(func() { n.echo = false })
	var mu sync.Mutex
	var got []Undelivered
	c := attachAs(t, n, Options{Undelivered: func(u Undelivered) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, u)
	}})
	ctx := stopIn(t, longStop)
	for i := range 3 {
		if err := c.Send(ctx, uint64(i+1), make([]byte, 64), Deadline(time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	n.do(func() {
		for _, p := range n.programs {
			damage(p)
		}
		n.echo = true
		n.pump() // settles all
	})
	until(t, "the next attachment", func() bool { return c.Stats().Reattached > 0 })
	if err := c.Send(ctx, 4, nil, Deadline(time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 3 {
		t.Errorf("reported are %+v", got)
	}
	for i, u := range got {
		if u != (Undelivered{Seq: uint64(i + 1), Hash: uint64(i + 1), MaybeDelivered: true}) {
			t.Errorf("report %d is %+v", i, u)
		}
	}
}
