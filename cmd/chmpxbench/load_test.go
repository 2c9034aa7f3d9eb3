package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/client"
)

// A parent starts itself as its children: the test binary must be one, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-child" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, make(chan os.Signal)))
	}
	goleak.VerifyTestMain(m)
}

// fake is a ring in which every request is answered by answer.
type fake struct {
	answer func(hash uint64, payload []byte) ([]byte, error)
}

func (f *fake) Send(_ context.Context, hash uint64, p []byte, _ ...client.CallOption) error {
	_, err := f.answer(hash, p)
	return err
}

func (f *fake) Request(_ context.Context, hash uint64, p []byte, _ ...client.CallOption) (client.Reply, error) {
	reply, err := f.answer(hash, p)
	return client.Reply{Payload: reply}, err
}

func (f *fake) RequestAsync(_ context.Context, hash uint64, p []byte, done func([]byte, error), _ ...client.CallOption) error {
	reply, err := f.answer(hash, p)
	if errors.Is(err, errLost) {
		return nil // nobody ever answers
	}
	done(reply, err)
	return nil
}

// fakeReceivers is how many servers of a fake ring take a broadcast.
const fakeReceivers = 3

func (f *fake) Broadcast(_ context.Context, p []byte, _ ...client.CallOption) (int, error) {
	_, err := f.answer(0, p)
	return fakeReceivers, err
}

// BroadcastRequest of a fake ring gets one reply less when it fails.
func (f *fake) BroadcastRequest(_ context.Context, p []byte, each func([]byte), _ ...client.CallOption) (int, error) {
	reply, err := f.answer(0, p)
	if errors.Is(err, client.ErrNotDelivered) {
		return 0, err
	}
	n := fakeReceivers
	if err != nil {
		reply, n = p, 1
	}
	for range n {
		each(bytes.Clone(reply))
	}
	return fakeReceivers, err
}

func echo(_ uint64, p []byte) ([]byte, error) { return bytes.Clone(p), nil }

func newThread(t *testing.T, s settings, c carrier) *clientThread {
	t.Helper()
	s.bodyBytes, s.timeout, s.window = 64, cmp.Or(s.timeout, time.Minute), max(1, s.window)
	g := newGuard(context.Background(), s.timeout)
	t.Cleanup(g.close)
	th := &clientThread{settings: s, c: c, guard: g, body: newBody(0x61e9, s.bodyBytes), out: io.Discard}
	th.result.latency = newHistogram()
	return th
}

// A body is CHMPX's: thread, "-", loop, padding and a NUL, for any loop.
func TestBody(t *testing.T) {
	b := newBody(0x61e9, 64)
	for _, c := range []struct {
		loop uint64
		text string
	}{{0, "61e9-0@@@"}, {15, "61e9-f@@@"}, {16, "61e9-10@@"}, {0x123456, "61e9-123456@@"}} {
		b.set(c.loop)
		if !strings.HasPrefix(string(b.text), c.text) || len(b.text) != 64 || b.text[63] != 0 || b.text[62] != '@' {
			t.Errorf("loop %d: %q", c.loop, b.text)
		}
	}
	if n := testing.AllocsPerRun(100, func() { b.set(0x123457) }); n != 0 {
		t.Errorf("set allocates %v times", n)
	}
}

// A server's reply is the text itself when it fills the body, else it is
// completed with the server's thread and loop, or cut.
func TestReply(t *testing.T) {
	b := newBody(1, 64)
	out := make([]byte, 64)
	if reply(out, b.text, 0xab, 3); !bytes.Equal(out, b.text) {
		t.Errorf("same size: %q", out)
	}
	if reply(out, []byte("short\x00rest"), 0xab, 3); !strings.HasPrefix(string(out), "short:ab-3@@") || out[63] != 0 {
		t.Errorf("shorter text: %q", out)
	}
	if reply(out, bytes.Repeat([]byte{'x'}, 100), 0xab, 3); string(out) != strings.Repeat("x", 63)+"\x00" {
		t.Errorf("longer text: %q", out)
	}
	for _, size := range []int{64, 128, 4096} { // of the server's body
		s := serverRun{settings: settings{turnAround: true, bodyBytes: size}}
		for _, size := range []int{64, 128, 4096} {
			sent := newBody(1, size).text
			got := s.answer(bytes.Clone(sent), 7)
			if !answers(got, sent) {
				t.Errorf("%d bytes, answered with %d: is no answer", size, s.bodyBytes)
			}
			for _, wrong := range [][]byte{nil, got[:len(got)-1], newBody(2, len(got)).text} {
				if answers(wrong, sent) {
					t.Errorf("%d bytes, answered with %d: %q passes as an answer", size, s.bodyBytes, wrong)
				}
			}
		}
	}
	s := serverRun{settings: settings{turnAround: true, bodyBytes: 64}}
	if n := testing.AllocsPerRun(100, func() { s.answer(b.text, 1) }); n != 0 {
		t.Errorf("answer to the usual body allocates %v times", n)
	}
}

// A client thread counts what it sent and what went wrong, and why.
func TestClientThread(t *testing.T) {
	wrong := func(hash uint64, p []byte) ([]byte, error) {
		switch hash {
		case 3:
			return []byte("else"), nil
		case 5:
			return nil, client.ErrNotDelivered
		}
		return echo(hash, p)
	}
	for _, window := range []int{1, 4} {
		th := newThread(t, settings{loops: 10, turnAround: true, window: window}, &fake{wrong})
		if window == 1 {
			th.run(context.Background())
		} else {
			w := newWindowThread(*th, 1)
			w.run(context.Background())
			th = &w.clientThread
		}
		if r := th.result; r.Sent != 10 || r.Errors != 2 || r.FirstErr != errWrong.Error() || r.latency.TotalCount() == 0 {
			t.Errorf("window %d: %+v", window, r)
		}
	}
}

// A client whose server program runs without -ta, and so replies nothing, hears
// what to look at.
func TestEmptyReply(t *testing.T) {
	th := newThread(t, settings{loops: 1, turnAround: true, window: 1}, &fake{func(uint64, []byte) ([]byte, error) { return nil, nil }})
	th.run(context.Background())
	if r := th.result; r.Errors != 1 || !strings.Contains(r.FirstErr, "run with -ta?") {
		t.Errorf("%+v", r)
	}
}

// With -pr each message is printed in CHMPX's words.
func TestPrint(t *testing.T) {
	var b strings.Builder
	th := newThread(t, settings{loops: 2, turnAround: true, print: true}, &fake{func(hash uint64, p []byte) ([]byte, error) {
		if hash == 1 {
			return nil, client.ErrNotDelivered
		}
		return echo(hash, p)
	}})
	th.out = &b
	th.run(context.Background())
	body := func(i string) string { return "61e9-" + i + strings.Repeat("@", 57) }
	want := "Send : " + body("0") + " -> Succeed(receiver count:1)\nReceive reply : -> 1 Succeed(" + body("0") + ")\nSend : " + body("1") + " -> Failed\n"
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

// With -b each message goes to all servers, and each of their replies counts.
func TestBroadcast(t *testing.T) {
	body := func(i string) string { return "61e9-" + i + strings.Repeat("@", 57) }
	for _, tc := range []struct {
		name       string
		turnAround bool
		err        error
		errors     int64
		want       string
	}{
		{"sent", false, nil, 0, "Send : " + body("0") + " -> Succeed(receiver count:3)\n"},
		{"not sent", false, client.ErrNotDelivered, 1, "Send : " + body("0") + " -> Failed\n"},
		{"answered", true, nil, 0, "Send : " + body("0") + " -> Succeed(receiver count:3)\n" + strings.Repeat("Receive reply : -> 1 Succeed("+body("0")+")\n", 3)},
		{"not asked", true, client.ErrNotDelivered, 1, "Send : " + body("0") + " -> Failed\n"},
		{"two late", true, context.Canceled, 2, "Send : " + body("0") + " -> Succeed(receiver count:3)\nReceive reply : -> 1 Succeed(" + body("0") + ")\n" +
			strings.Repeat("Receive reply : -> 1 Failed(timeouted - 1m0s)\n", 2)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			f := &fake{func(_ uint64, p []byte) ([]byte, error) { return p, tc.err }}
			th := newThread(t, settings{loops: 1, turnAround: tc.turnAround, broadcast: true, print: true}, f)
			th.out = &b
			th.run(context.Background())
			if b.String() != tc.want || th.result.Errors != tc.errors || th.result.Sent != 1 {
				t.Errorf("%+v, got:\n%swant:\n%s", th.result, b.String(), tc.want)
			}
		})
	}
}

// A guard cuts off what takes too long, then serves the next operation again.
func TestGuard(t *testing.T) {
	defer func(real time.Time) { base = real }(base)
	synctest.Test(t, func(t *testing.T) {
		base = time.Now()
		g := newGuard(context.Background(), 20*time.Millisecond)
		defer g.close()
		defer startWatch(context.Background(), []*guard{g}, 20*time.Millisecond)()
		for range 3 {
			start, ctx := g.begin()
			<-ctx.Done()
			if took, cut := g.end(start); !cut || took < 20*time.Millisecond {
				t.Errorf("a stuck operation took %v, cut off: %v", took, cut)
			}
			start, ctx = g.begin()
			if _, cut := g.end(start); cut || ctx.Err() != nil {
				t.Errorf("a quick operation was cut off")
			}
		}
	})
	g := newGuard(context.Background(), time.Hour)
	defer g.close()
	if n := testing.AllocsPerRun(100, func() { start, _ := g.begin(); g.end(start) }); n != 0 {
		t.Errorf("an operation allocates %v times", n)
	}
}

// Requests that are never answered end the run and are counted as errors.
func TestWindowLost(t *testing.T) {
	th := newThread(t, settings{loops: 3, turnAround: true, window: 4, timeout: 100 * time.Millisecond}, &fake{func(uint64, []byte) ([]byte, error) { return nil, errLost }})
	w := newWindowThread(*th, 1)
	w.run(context.Background())
	if r := w.result; r.Sent != 3 || r.Errors != 3 || !strings.Contains(r.FirstErr, errNoReply.Error()) {
		t.Errorf("result %+v", r)
	}
}

// Lines of several threads do not mix.
func TestLockedWriter(t *testing.T) {
	var b strings.Builder
	out := &lockedWriter{w: &b}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				io.WriteString(out, "line\n")
			}
		})
	}
	wg.Wait()
	if b.String() != strings.Repeat("line\n", 800) {
		t.Error("lines are mixed")
	}
}
