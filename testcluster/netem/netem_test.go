package netem

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/internal/freeport"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(playRole(role, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// rig is a network between a and b, on which b answers what it reads.
func rig(t *testing.T) (n *Network, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the network
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	ports, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	n = New(1)
	t.Cleanup(func() { n.Close() })
	if err := n.Forward("a", "b", addr, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return n, addr
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// say writes a word and returns how long its echo takes, or why none comes within the time.
func say(c net.Conn, within time.Duration) (time.Duration, error) {
	start := time.Now()
	if _, err := io.WriteString(c, "word"); err != nil {
		return 0, err
	}
	if err := c.SetReadDeadline(start.Add(within)); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return time.Since(start), err
}

const (
	patience = 20 * time.Second
	moment   = 100 * time.Millisecond
)

func apply(t *testing.T, n *Network, from, to string, c Condition) func() {
	t.Helper()
	undo, err := n.Apply(from, to, c)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := undo(); err != nil {
			t.Error(err)
		}
	}
}

// What is held arrives when it is over, in whichever direction it was held, and
// on connections that were opened meanwhile; who has given up never came.
func TestHold(t *testing.T) {
	for _, d := range [][2]string{{"a", "b"}, {"b", "a"}} {
		n, addr := rig(t)
		old := dial(t, addr)
		if _, err := say(old, patience); err != nil {
			t.Fatal(err)
		}
		undo := apply(t, n, d[0], d[1], Condition{Hold: true})
		if _, err := say(old, moment); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("held from %s to %s: %v, want no answer", d[0], d[1], err)
		}
		opened := dial(t, addr)
		if _, err := say(opened, moment); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("new while held from %s to %s: %v, want no answer", d[0], d[1], err)
		}
		dial(t, addr).Close()
		undo()
		for _, c := range []net.Conn{old, opened} {
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Errorf("after held from %s to %s: %v", d[0], d[1], err)
			}
			if _, err := say(c, patience); err != nil {
				t.Errorf("after held from %s to %s: %v", d[0], d[1], err)
			}
		}
	}
}

// Refused: what is there is reset, what comes is refused, and all is well afterwards.
func TestRefuse(t *testing.T) {
	n, addr := rig(t)
	old := dial(t, addr)
	if _, err := say(old, patience); err != nil {
		t.Fatal(err)
	}
	undo := apply(t, n, "b", "a", Condition{Refuse: true})
	if _, err := say(old, patience); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("open connection: %v, want a reset", err)
	}
	if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("new connection: %v, want refused", err)
	}
	undo()
	if _, err := say(dial(t, addr), patience); err != nil {
		t.Error(err)
	}
}

// A host that is down refuses, unless the way to it is held: then it hangs.
func TestDown(t *testing.T) {
	n, addr := rig(t)
	if err := n.Down("b", true); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("host down: %v, want refused", err)
	}
	undo := apply(t, n, "a", "b", Condition{Hold: true})
	if _, err := say(dial(t, addr), moment); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("host down and held: %v, want no answer", err)
	}
	undo()
	if err := n.Down("b", false); err != nil {
		t.Fatal(err)
	}
	if _, err := say(dial(t, addr), patience); err != nil {
		t.Error(err)
	}
}

// Delays add up over both directions, and loss makes late what would not be.
func TestSlow(t *testing.T) {
	const d = 60 * time.Millisecond
	for _, c := range []struct {
		name string
		Condition
		least time.Duration
	}{
		{"delay", Condition{Delay: d}, d},
		{"loss", Condition{Loss: 1}, repeatAfter},
		{"rate", Condition{Rate: 4 * 1000 / int(d/time.Millisecond)}, d - time.Millisecond},
	} {
		n, addr := rig(t)
		n.seed = 3 // with which the first losses end no connection
		apply(t, n, "a", "b", c.Condition)
		took, err := say(dial(t, addr), patience)
		if err != nil || took < c.least {
			t.Errorf("%s: %v, %v, want at least %v", c.name, took, err, c.least)
		}
	}
}

// What a side writes before it closes arrives, whole and with its end.
func TestCloseInOrder(t *testing.T) {
	_, addr := rig(t)
	c := dial(t, addr)
	const size = 8 << 20
	go func() {
		_, _ = c.Write(make([]byte, size))
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("%d of %d bytes came back, %v", n, size, err)
	}
}

// A line that was narrow does not hold back what waited for it.
func TestNarrowNoMore(t *testing.T) {
	n, addr := rig(t)
	undo := apply(t, n, "a", "b", Condition{Rate: 20 << 10})
	c := dial(t, addr)
	const size = 1 << 20 // 51 s
	go func() {
		_, _ = c.Write(make([]byte, size))
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4<<10)); err != nil {
		t.Fatal(err)
	}
	undo()
	if rest, err := io.Copy(io.Discard, c); rest != size-4<<10 || err != nil {
		t.Errorf("%d of %d bytes, %v", rest+4<<10, size, err)
	}
}
