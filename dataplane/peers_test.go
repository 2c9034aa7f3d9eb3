package dataplane_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// peer is another node, played by the test byte by byte.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// connect opens a link and leaves the hello to the test.
func connect(t *testing.T, n *testNode) *peer {
	t.Helper()
	slave := n.w.slave()
	slave.await("a link, so that the node is there", func() bool { return slave.evidence[n.id].State == ring.LinkAlive })
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func frame(h wire.Header, payload []byte) []byte {
	h.Length = uint32(len(payload))
	b := make([]byte, wire.HeaderBytes, wire.HeaderBytes+len(payload))
	h.Put(b)
	return append(b, payload...)
}

// read returns the next frame.
func (p *peer) read() (h wire.Header, payload []byte, err error) {
	var b [wire.HeaderBytes]byte
	if _, err = io.ReadFull(p.r, b[:]); err != nil {
		return h, nil, err
	}
	if err = h.Get(b[:]); err != nil {
		return h, nil, err
	}
	payload = make([]byte, h.Length)
	_, err = io.ReadFull(p.r, payload)
	return h, payload, err
}

func helloOf(id ring.ID) wire.Hello {
	return wire.Hello{Version: wire.HelloVersion, Group: "test", ID: id, Role: wire.NodeSlave, Name: "peer"}
}

// greet exchanges hellos and returns the node's.
func (p *peer) greet(h wire.Hello) *wire.Hello {
	p.t.Helper()
	body, err := h.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(frame(wire.Header{Type: wire.TypeHello}, body))
	_, payload, err := p.read()
	if err != nil {
		p.t.Fatalf("read hello: %v", err)
	}
	got, err := wire.DecodeHello(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// ended waits until the node has closed the link.
func (p *peer) ended(what string) {
	p.t.Helper()
	for {
		if _, _, err := p.read(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Errorf("%s: the link was not closed", what)
			}
			return
		}
	}
}

// pong asks for a sign of life.
func (p *peer) pong() {
	p.t.Helper()
	p.write(frame(wire.Header{Type: wire.TypePing}, nil))
	for {
		h, _, err := p.read()
		if err != nil {
			p.t.Fatalf("no pong: %v", err)
		}
		if h.Type == wire.TypePong {
			return
		}
	}
}

// Whoever does not introduce itself properly gets no link; it is told why if
// it speaks the language.
func TestStrangersGetNoLink(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	other, self, version, strange := helloOf(5), helloOf(n.id), helloOf(5), helloOf(5)
	other.Group, version.Version, strange.RingID = "other", wire.HelloVersion+1, 0xbad
	for name, h := range map[string]wire.Hello{"group": other, "our id": self, "version": version, "another ring": strange} {
		p := connect(t, n)
		if got := p.greet(h); got.Refused == "" {
			t.Errorf("%s: not refused", name)
		}
		p.ended(name)
	}
	for name, b := range map[string][]byte{
		"http":        []byte("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: something or other, 64 bytes\r\n\r\n"),
		"zeros":       make([]byte, 200),
		"not a hello": frame(wire.Header{Type: wire.TypePing}, nil),
		"no json":     frame(wire.Header{Type: wire.TypeHello}, []byte("hello")),
		"huge":        frame(wire.Header{Type: wire.TypeHello}, make([]byte, wire.HelloBytesMax+1)),
	} {
		p := connect(t, n)
		p.write(b)
		p.ended(name)
	}
	echo(t, n)
	ask(t, attach(t, w.slave(), client.RoleClient), 1, "as before")
}

// The largest frame arrives in pieces and costs nothing but itself; one that
// announces more, or is of no known type, costs its link.
func TestFramesInPieces(t *testing.T) {
	w := newWorld(t, 1)
	p := connect(t, w.nodes[0])
	p.greet(helloOf(5))
	big := frame(wire.Header{Type: wire.TypeTable}, make([]byte, wire.PayloadBytesMax))
	for len(big) > 0 {
		k := min(len(big), 9973)
		p.write(big[:k])
		big = big[k:]
	}
	p.pong()
	p.write(frame(wire.Header{Type: wire.TypeBye}, nil)[:30])
	p.write(frame(wire.Header{Type: wire.TypeBye}, nil)[30:])
	p.pong()
	b := frame(wire.Header{Type: wire.TypeBye}, nil)
	b[4] = 200
	p.write(b)
	p.ended("unknown type")
	p = connect(t, w.nodes[0])
	p.greet(helloOf(5))
	b = frame(wire.Header{Type: wire.TypeTable}, nil)
	b[3] = 0x7f
	p.write(b)
	p.ended("too long")
}

// A peer that asks and asks and never reads the answers loses its link before
// they fill the memory; others are served meanwhile.
func TestPeerThatNeverReads(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	echo(t, n)
	c := attach(t, w.slave(), client.RoleClient)
	p := connect(t, n)
	p.greet(helloOf(5))
	var pings []byte
	for range 4096 {
		pings = append(pings, frame(wire.Header{Type: wire.TypePing}, nil)...)
	}
	var err error
	rounds := 0
	for ; err == nil && rounds < 1000; rounds++ {
		if _, err = p.conn.Write(pings); rounds%100 == 0 {
			ask(t, c, uint64(rounds), "meanwhile")
		}
	}
	if err == nil {
		t.Error("the link was not cut")
	}
	t.Logf("cut after %d KiB of pings", rounds*len(pings)>>10)
	ask(t, c, 1, "afterwards")
}

// A node that opens another link has one link: the earlier one is closed.
// Hundreds of attachments and links leave nothing behind.
func TestNothingIsLeftBehind(t *testing.T) {
	w := newWorld(t, 2)
	n := w.nodes[0]
	echo(t, n)
	echo(t, w.nodes[1])
	c := attach(t, w.slave(), client.RoleClient)
	round := func(times int) {
		last := connect(t, n)
		last.greet(helloOf(5))
		last.pong() // else it may come to be the link after the next one
		for i := range times {
			next := connect(t, n)
			next.greet(helloOf(5))
			next.pong()
			last.ended("replaced link")
			_ = last.conn.Close()
			last = next
			role := wire.RoleClient
			if i%2 == 0 {
				role = wire.RoleServer
			}
			g, _ := attachRaw(t, n, role, wire.SessionID{})
			g.sends(i%7, uint64(i))
			g.done()
			if i%16 == 0 {
				ask(t, c, uint64(i), "meanwhile")
			}
		}
		_ = last.conn.Close()
		n.awaitStatus("all have ended", gone(1))
		n.awaitStatus("link ended", func(s *dataplane.Status) bool { return len(s.Links) == 3 })
	}
	round(50)
	fds, threads := counts(t)
	round(500)
	stop, again := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for {
		f, g := counts(t)
		if f <= fds && g <= threads {
			return
		}
		select {
		case <-again.C:
		case <-stop:
			t.Fatalf("%d descriptors and %d goroutines, before %d and %d", f, g, fds, threads)
		}
	}
}

// counts returns the open descriptors and the goroutines of this process.
func counts(t *testing.T) (fds, goroutines int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list), runtime.NumGoroutine()
}
