package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a mux on a loopback port and returns its address; stop waits for
// its end.
func serve(t *testing.T, log *slog.Logger, handlers map[Kind]func(net.Conn)) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(ln, log)
	for k, h := range handlers {
		s.Handle(k, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// TestKinds proves that every kind reaches its handler, with the connection
// itself (not a wrapper) and with the first byte after the preamble unread.
func TestKinds(t *testing.T) {
	type arrival struct {
		kind Kind
		tcp  bool
		text string
	}
	got := make(chan arrival, 4)
	handlers := make(map[Kind]func(net.Conn))
	for _, k := range []Kind{KindData, KindRaft, KindRPC, KindSession} {
		handlers[k] = func(c net.Conn) {
			defer c.Close()
			b, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("%s: %v", k, err)
			}
			_, tcp := c.(*net.TCPConn)
			got <- arrival{k, tcp, string(b)}
		}
	}
	addr, _ := serve(t, slog.New(slog.DiscardHandler), handlers)
	for k := range handlers {
		conn, err := Dial(t.Context(), DialTCP, addr, k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "hello "+k.String()); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if a := <-got; a.kind != k || !a.tcp || a.text != "hello "+k.String() {
			t.Errorf("%s arrived as %+v", k, a)
		}
	}
}

// TestGarbage proves that a stranger's bytes cost the connection and one log line.
func TestGarbage(t *testing.T) {
	var buf lockedBuffer
	addr, stop := serve(t, slog.New(slog.NewTextHandler(&buf, nil)), map[Kind]func(net.Conn){KindData: func(c net.Conn) { c.Close() }})
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "CHMPX\x01\x09\x00", "CHMPX\x01\x02\x00"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, garbage); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%q: read %d bytes, %v", garbage, n, err)
		}
		conn.Close()
	}
	stop()
	if n := strings.Count(buf.String(), "connection refused"); n != 1 {
		t.Errorf("%d log lines within a second, want 1:\n%s", n, buf.String())
	}
}

// TestOpeningLimit proves that no more than 64 connections may be without
// preamble, and that those that are do not stop the others once they are gone.
func TestOpeningLimit(t *testing.T) {
	addr, _ := serve(t, slog.New(slog.DiscardHandler), map[Kind]func(net.Conn){KindData: func(c net.Conn) { c.Close() }})
	var idle []net.Conn
	for range openingConnsMax {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	over, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("the 65th connection was not closed")
	}
	for _, c := range idle {
		c.Close()
	}
}

// TestRunClosesWhatHandlersHold proves that Run ends although a handler still
// serves a connection and another connection has sent nothing.
func TestRunClosesWhatHandlersHold(t *testing.T) {
	in := make(chan struct{})
	addr, stop := serve(t, slog.New(slog.DiscardHandler), map[Kind]func(net.Conn){KindData: func(c net.Conn) {
		close(in)
		_, _ = io.Copy(io.Discard, c)
	}})
	conn, err := Dial(t.Context(), DialTCP, addr, KindData)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	<-in
	stop()
}

// TestSession proves that a server reaches a slave through the slave's session,
// that a dial waits for a session that is not there yet, and that a new session
// replaces an old one.
func TestSession(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	reg := NewSessions(log, func(h SessionHello) error {
		if h.Group != "g" {
			return errors.New("wrong group")
		}
		return nil
	})
	defer reg.Close()
	addr, _ := serve(t, log, map[Kind]func(net.Conn){KindSession: reg.Serve})

	type result struct {
		conn net.Conn
		err  error
	}
	early := make(chan result, 1)
	go func() {
		c, err := reg.Dial(context.Background(), "x.s")
		early <- result{c, err}
	}()
	if _, err := OpenSession(t.Context(), DialTCP, addr, SessionHello{Group: "other", ID: "x.s"}, log); !errors.Is(err, ErrSessionRefused) {
		t.Errorf("a foreign session: %v", err)
	}
	hello := SessionHello{Group: "g", ID: "x.s", Name: "x"}
	first, err := OpenSession(t.Context(), DialTCP, addr, hello, log)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	r := <-early
	if r.err != nil {
		t.Fatalf("the dial that waited: %v", r.err)
	}
	defer r.conn.Close()
	far, err := first.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(r.conn, "hi"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(far, b); err != nil || string(b) != "hi" {
		t.Errorf("read %q, %v", b, err)
	}

	second, err := OpenSession(t.Context(), DialTCP, addr, hello, log)
	if err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if has, _ := reg.Has("x.s"); !has {
		t.Error("the new session is not registered")
	}
	second.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if c, err := reg.Dial(ctx, "y.s"); !errors.Is(err, ErrNoSession) {
		t.Errorf("dial of a slave that never came: %v, %v", c, err)
	}
}

// TestSessionsBounded proves that slaves that come and go under ever new ids
// and strangers that are refused cost neither memory nor log for ever.
func TestSessionsBounded(t *testing.T) {
	var out lockedBuffer
	reg := NewSessions(slog.New(slog.NewTextHandler(&out, nil)), func(SessionHello) error { return nil })
	defer reg.Close()
	y := new(yamux.Session)
	for i := range goneMax + 10 {
		id := strconv.Itoa(i)
		reg.live[id] = y
		reg.remove(id, y)
	}
	if n := len(reg.gone); n != goneMax {
		t.Errorf("%d ended sessions remembered", n)
	}
	if _, at := reg.Has(strconv.Itoa(goneMax + 9)); at.IsZero() {
		t.Error("the newest was forgotten")
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for range 100 {
		reg.logRefusal(near, errors.New("a stranger"))
	}
	if n := strings.Count(out.String(), "a stranger"); n != 1 {
		t.Errorf("%d lines about strangers", n)
	}
}

// FuzzParsePreamble proves that exactly the preambles of known kinds are accepted.
func FuzzParsePreamble(f *testing.F) {
	p := Preamble(KindRaft)
	f.Add(p[:])
	f.Add([]byte("CHMPX\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParsePreamble(b)
		if err != nil {
			return
		}
		if want := Preamble(k); !bytes.Equal(b, want[:]) || k == 0 || k >= kindEnd {
			t.Errorf("%q accepted as %s", b, k)
		}
	})
}

// FuzzReadHello proves that no bytes make the reader of hellos panic or read
// beyond the length that they name.
func FuzzReadHello(f *testing.F) {
	var b bytes.Buffer
	if err := writeJSON(&b, SessionHello{Group: "g", ID: "x"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var h SessionHello
		if readJSON(r, &h) == nil && len(in)-r.Len() > 4+helloBytesMax {
			t.Error("read too much")
		}
	})
}

// lockedBuffer is a buffer for logs of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
