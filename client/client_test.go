package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/wire"
)

// longStop ends a wait that should never be that long.
const longStop = time.Minute

func attach(t testing.TB, n *testNode, role Role) *Client {
	t.Helper()
	c, err := Attach(t.Context(), Options{Socket: n.path, Role: role, Name: t.Name()[:min(len(t.Name()), 60)]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// stopIn is a context that ends by itself, for waits that must end before.
func stopIn(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// endable is a context that ends as at a deadline, when the test wants it.
type endable struct {
	context.Context
	ended chan struct{}
}

func newEndable(t testing.TB) endable { return endable{t.Context(), make(chan struct{})} }

func (e endable) end() { close(e.ended) }

func (e endable) Done() <-chan struct{} { return e.ended }

func (e endable) Err() error {
	select {
	case <-e.ended:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx := stopIn(t, longStop)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func number(i int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(i)) }

// serveEcho answers every message with its payload until the returned function is called.
func serveEcho(t *testing.T, c *Client, threads int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Serve(ctx, threads, func(_ context.Context, m *Message) ([]byte, error) { return m.Payload, nil })
	}()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestRequestServe proves that every request gets its own reply, with any
// number of threads on both sides and payloads of any size.
func TestRequestServe(t *testing.T) {
	for _, threads := range []int{1, 4} {
		for _, callers := range []int{1, 2, 8} {
			t.Run(fmt.Sprintf("%d threads, %d callers", threads, callers), func(t *testing.T) {
				n := newTestNode(t)
				server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
				stop := serveEcho(t, server, threads)
				defer stop()
				ctx := stopIn(t, longStop)
				var wg sync.WaitGroup
				for g := range callers {
					wg.Go(func() {
						for i := range 300 {
							want := bytes.Repeat(number(g*1000+i), i*7%(c.MessageBytesMax()/8)+1)
							got, err := c.Request(ctx, uint64(i), want)
							if err != nil || !bytes.Equal(got.Payload, want) || got.MaybeRepeat {
								t.Errorf("caller %d, request %d: %d bytes, want %d: %v", g, i, len(got.Payload), len(want), err)
								return
							}
						}
					})
				}
				wg.Wait()
				s := c.Stats()
				if total := uint64(300 * callers); s.Sent != total || s.Answered != total || s.Failed != 0 || !s.Attached {
					t.Errorf("client: %+v", s)
				}
				if s := server.Stats(); s.Received != s.Replied || s.Received != uint64(300*callers) {
					t.Errorf("server: %+v", s)
				}
			})
		}
	}
}

// TestSendReceive proves that messages come in the order of Send, through
// backpressure, and that what Send refuses is not delivered.
func TestSendReceive(t *testing.T) {
	n := newTestNode(t)
	server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
	payload := make([]byte, 2000)
	sent := 0
	for ; ; sent++ {
		copy(payload, number(sent))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := c.Send(ctx, 7, payload)
		cancel()
		if err == nil {
			continue
		}
		for _, want := range []error{ErrBackpressure, ErrNotDelivered, context.DeadlineExceeded} {
			if !errors.Is(err, want) {
				t.Fatalf("got %v, want it to be %v", err, want)
			}
		}
		break
	}
	if least := testRingBytes / 2100; sent < least {
		t.Errorf("the rings took %d messages, want at least %d", sent, least)
	}
	ctx := stopIn(t, longStop)
	more := make(chan error, 1)
	go func() { // waits until there is room
		for i := range 500 {
			if err := c.Send(ctx, 7, number(sent+i)); err != nil {
				more <- err
				return
			}
		}
		more <- nil
	}()
	for i := range sent + 500 {
		m, err := server.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.LittleEndian.Uint64(m.Payload); got != uint64(i) || m.Hash != 7 || m.Seq != uint64(i)+1 || m.MaybeRepeat || m.WantsReply || m.Session != c.Session() {
			t.Fatalf("got message %d: %+v, want %d", got, m, i)
		}
		if err := server.Reply(ctx, m, nil); !errors.Is(err, ErrNoReplyWanted) {
			t.Fatalf("reply to a message: %v, want ErrNoReplyWanted", err)
		}
	}
	if err := <-more; err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.RoomWaits == 0 {
		t.Errorf("no wait for room was counted: %+v", s)
	}
}

// TestTooLarge proves the limit of payloads.
func TestTooLarge(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	if got, want := c.MessageBytesMax(), testRingBytes/4-128; got != want {
		t.Errorf("limit %d, want %d", got, want)
	}
	largest := bytes.Repeat([]byte("x"), c.MessageBytesMax())
	if r, err := c.Request(ctx, 1, largest); err != nil || !bytes.Equal(r.Payload, largest) {
		t.Errorf("largest payload: %v", err)
	}
	too := append(largest, 'x')
	_, err := c.Request(ctx, 1, too)
	for name, err := range map[string]error{"Send": c.Send(ctx, 1, too), "Request": err,
		"Reply": c.Reply(ctx, &Message{WantsReply: true}, too), "Async": c.TryRequestAsync(1, too, nil)} {
		if !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrNotDelivered) {
			t.Errorf("%s: %v, want ErrTooLarge and ErrNotDelivered", name, err)
		}
	}
}

// TestAsync proves that each callback is called once with its reply, also when
// requests are sent from callbacks and by callers that wait at the same time.
func TestAsync(t *testing.T) {
	const chains, length = 64, 200
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	var wg sync.WaitGroup
	var step func(chain, i int) func([]byte, error)
	step = func(chain, i int) func([]byte, error) {
		return func(reply []byte, err error) {
			if err != nil || !bytes.Equal(reply, number(chain*length+i)) {
				t.Errorf("chain %d, request %d: %x, %v", chain, i, reply, err)
			}
			if i++; i == length {
				wg.Done()
				return
			}
			if err := c.TryRequestAsync(1, number(chain*length+i), step(chain, i)); err != nil {
				t.Errorf("chain %d, request %d: %v", chain, i, err)
				wg.Done()
			}
		}
	}
	for chain := range chains {
		wg.Add(1)
		if err := c.RequestAsync(ctx, 1, number(chain*length), step(chain, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		if _, err := c.Request(ctx, 1, number(i)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if s := c.Stats(); s.Answered != chains*length+200 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAllocs proves that sending allocates nothing and a Request no more than
// its reply, and that a client program cannot receive.
func TestAllocs(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	payload := make([]byte, 64)
	if got := testing.AllocsPerRun(200, func() {
		if err := c.Send(context.Background(), 1, payload); err != nil {
			t.Fatal(err)
		}
	}); got > 0 && !raceEnabled {
		t.Errorf("Send: %v allocations, want 0", got)
	}
	// One for the reply; the node of this test grows its lists now and then.
	if got := testing.AllocsPerRun(200, func() {
		if _, err := c.Request(context.Background(), 1, payload); err != nil {
			t.Fatal(err)
		}
	}); got > 2 && !raceEnabled {
		t.Errorf("Request: %v allocations, want 1", got)
	}
	if _, err := c.Receive(t.Context()); !errors.Is(err, ErrNotServer) {
		t.Errorf("Receive: %v, want ErrNotServer", err)
	}
}

// TestContextEnds proves that a request whose context ends says whether it was
// sent, that its late reply disturbs nobody, and that a context that has ended
// before sends nothing.
func TestContextEnds(t *testing.T) {
	n := newTestNode(t)
	n.echo = false
	c := attach(t, n, RoleClient)
	stop := stopIn(t, longStop)
	for c.Stats().Sent < 3 && stop.Err() == nil { // those that ended before they were sent do not count
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := c.Request(ctx, 1, []byte("early"))
		cancel()
		// The node may be first to say that the deadline passed, and then knows more.
		if errors.Is(err, ErrMaybeDelivered) == errors.Is(err, ErrNotDelivered) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want ErrMaybeDelivered or ErrNotDelivered, and DeadlineExceeded", err)
		}
	}
	n.do(func() { n.echo = true })
	r, err := c.Request(stopIn(t, longStop), 1, []byte("late"))
	if err != nil || string(r.Payload) != "late" {
		t.Errorf("got %q, %v", r.Payload, err)
	}
	if s := c.Stats(); s.Failed != 3 || s.Answered != 1 {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sent := c.Stats().Sent
	_, err = c.Request(ctx, 1, nil)
	for name, err := range map[string]error{"Request": err, "Send": c.Send(ctx, 1, nil), "RequestAsync": c.RequestAsync(ctx, 1, nil, nil)} {
		if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want ErrNotDelivered and Canceled", name, err)
		}
	}
	if s := c.Stats(); s.Sent != sent {
		t.Errorf("%d messages were sent after their context had ended", s.Sent-sent)
	}
	server := attach(t, n, RoleServer)
	if _, err := server.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive: %v, want Canceled", err)
	}
}

// TestServerEnded proves what ControlRequestFailed does: an error, or with
// Repeatable another try that is marked.
func TestServerEnded(t *testing.T) {
	n := newTestNode(t)
	n.echo = false
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	type outcome struct {
		reply Reply
		err   error
	}
	got := make(chan outcome, 1)
	request := func(opts ...CallOption) {
		r, err := c.Request(ctx, 1, []byte("x"), opts...)
		got <- outcome{r, err}
	}
	arrived := func(seq uint64) {
		t.Helper()
		until(t, "the request arrives", func() (ok bool) {
			n.do(func() {
				for _, p := range n.programs {
					ok = len(p.requestSeqs) > 0 && p.requestSeqs[len(p.requestSeqs)-1] == seq
				}
			})
			return ok
		})
	}
	go request()
	arrived(1)
	n.control(wire.Control{Type: wire.ControlRequestFailed, Value: 1})
	if o := <-got; !errors.Is(o.err, ErrMaybeDelivered) {
		t.Errorf("got %v, want ErrMaybeDelivered", o.err)
	}
	n.control(wire.Control{Type: wire.ControlRequestFailed, Value: 1}) // late: nobody waits

	n.do(func() { n.echo = true; n.pump(); n.echo = false }) // a late reply: nobody waits
	go request(Repeatable())
	arrived(2)
	n.control(wire.Control{Type: wire.ControlRequestFailed, Value: 2})
	n.do(func() { n.echo = true; n.pump() })
	if o := <-got; o.err != nil || !o.reply.MaybeRepeat || string(o.reply.Payload) != "x" {
		t.Errorf("got %+v, want a reply that says MaybeRepeat", o)
	}
	n.do(func() {
		for _, p := range n.programs {
			if p.repeats != 1 {
				t.Errorf("%d requests were marked as repeats, want 1", p.repeats)
			}
		}
	})
}

// TestFailWithoutOwner proves that the option fails only when nobody is in
// service for the given time.
func TestFailWithoutOwner(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	ctx := stopIn(t, longStop)
	err := c.Send(ctx, 1, nil, FailWithoutOwner(5*time.Millisecond))
	if !errors.Is(err, ErrNoOwner) || !errors.Is(err, ErrNotDelivered) {
		t.Errorf("got %v, want ErrNoOwner", err)
	}
	if s := c.Stats(); s.Sent != 0 {
		t.Errorf("the message was sent: %+v", s)
	}
	got := make(chan error, 1)
	go func() {
		_, err := c.Request(ctx, 1, nil, FailWithoutOwner(longStop))
		got <- err
	}()
	n.control(wire.Control{Type: wire.ControlServing, Value: 0})
	n.control(wire.Control{Type: wire.ControlServing, Value: 3})
	if err := <-got; err != nil {
		t.Errorf("with servers in service: %v", err)
	}
	if c.Serving() != 3 {
		t.Errorf("serving %d, want 3", c.Serving())
	}
	if _, err := c.Request(ctx, 1, nil); err != nil {
		t.Errorf("without the option: %v", err)
	}
}

// TestClose proves that Close ends every wait with the error that tells what
// became of the message, and that it may be called again.
func TestClose(t *testing.T) {
	n := newTestNode(t)
	n.echo, n.noServer = false, true
	c := attach(t, n, RoleServer)
	ctx := stopIn(t, longStop)
	type outcome struct {
		what string
		err  error
		want []error
	}
	got := make(chan outcome, 20)
	maybe, not, closed := []error{ErrMaybeDelivered, ErrClosed}, []error{ErrNotDelivered, ErrClosed}, []error{ErrClosed}
	for range 2 {
		go func() {
			_, err := c.Request(ctx, 1, nil)
			got <- outcome{"Request", err, maybe}
		}()
		go func() {
			_, err := c.Receive(ctx)
			got <- outcome{"Receive", err, closed}
		}()
		if err := c.RequestAsync(ctx, 1, nil, func(_ []byte, err error) { got <- outcome{"RequestAsync", err, maybe} }); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "requests are out", func() bool { return c.Stats().Sent == 4 })
	full := make([]byte, c.MessageBytesMax())
	for c.TryRequestAsync(1, full, func(_ []byte, err error) { got <- outcome{"filler", err, maybe} }) == nil {
	}
	fillers := int(c.Stats().Sent) - 4
	go func() { got <- outcome{"Send", c.Send(ctx, 1, full), not} }()
	go func() {
		got <- outcome{"Serve", c.Serve(ctx, 2, func(context.Context, *Message) ([]byte, error) { return nil, nil }), closed}
	}()
	until(t, "Send waits", func() bool { return c.Stats().RoomWaits > 0 })
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 + fillers {
		o := <-got
		for _, want := range o.want {
			if !errors.Is(o.err, want) {
				t.Errorf("%s: %v, want %v", o.what, o.err, want)
			}
		}
	}
	if err := c.Send(ctx, 1, nil); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotDelivered) {
		t.Errorf("Send after Close: %v", err)
	}
	if _, err := c.Receive(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
}

// TestHandlerErrors proves that a handler's error, even that of another Client
// which is closed, costs its message the reply and nothing else.
func TestHandlerErrors(t *testing.T) {
	n := newTestNode(t)
	server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(ctx, 1, func(_ context.Context, m *Message) ([]byte, error) {
			if m.Hash == 0 {
				return nil, fmt.Errorf("ask further: %w", ErrClosed)
			}
			reply := m.Payload
			m.Payload = nil // the handler's to change
			return reply, nil
		})
	}()
	short := newEndable(t)
	unanswered := make(chan error, 1)
	go func() {
		_, err := c.Request(short, 0, nil)
		unanswered <- err
	}()
	until(t, "it is not answered", func() bool { return server.Stats().Unanswered == 1 })
	short.end()
	if err := <-unanswered; !errors.Is(err, ErrMaybeDelivered) {
		t.Errorf("got %v, want ErrMaybeDelivered", err)
	}
	if r, err := c.Request(stopIn(t, longStop), 1, []byte("yes")); err != nil || string(r.Payload) != "yes" {
		t.Errorf("got %q, %v", r.Payload, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if s := server.Stats(); s.Unanswered != 1 || s.Received != 2 {
		t.Errorf("%+v", s)
	}
	if err := server.Serve(ctx, 0, nil); !errors.Is(err, ErrOptions) {
		t.Errorf("Serve with no threads: %v, want ErrOptions", err)
	}
}

// TestPending proves that each registered request is taken once, also beyond
// the slots, and that nothing is left.
func TestPending(t *testing.T) {
	p := new(pending)
	const n = 3*pendingSlots + 7
	for seq := uint64(1); seq <= n; seq++ {
		p.put(seq, wantReply, answer{call: &call{}})
	}
	for _, seq := range []uint64{0, slotTaken, n + 1} {
		if _, ok := p.take(seq, wantReply); ok {
			t.Errorf("took %d, which was never put", seq)
		}
	}
	var taken [n + 1]int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for seq := uint64(1); seq <= n-100; seq++ {
				if a, ok := p.take(seq, wantReply); ok && a.call != nil {
					mu.Lock()
					taken[seq]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for seq := 1; seq <= n-100; seq++ {
		if taken[seq] != 1 {
			t.Fatalf("request %d was taken %d times", seq, taken[seq])
		}
	}
	if left := p.takeAll(wantReply, n-50, n); len(left) != 50 {
		t.Errorf("%d left above %d, want 50", len(left), n-50)
	}
	if left := p.takeAll(wantReply, 0, n); len(left) != 50 || p.more.Load() != 0 {
		t.Errorf("%d left, want 50; overflow %d", len(left), p.more.Load())
	}
}
