package dataplane_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// program is a program without the client library: it does to its segment
// what the test wants.
type program struct {
	t       *testing.T
	conn    *net.UnixConn
	mem     []byte
	memfd   int
	seg     *shm.Segment
	node    shm.Doorbell // the node waits on it
	out     *shm.Producer
	in      *shm.Consumer
	session wire.SessionID
	seq     uint64
	done    func() // ends the program and gives back what the test holds of it
}

// attachRaw attaches without the library. An error is the node's refusal.
func attachRaw(t *testing.T, n *testNode, role wire.Role, session wire.SessionID) (*program, *wire.AttachReply) {
	t.Helper()
	return attachWith(t, n, &wire.AttachRequest{Role: role, Name: "raw", Session: session})
}

// handBack attaches a program again and brings its segment along.
func (g *program) handBack(n *testNode, role wire.Role) (*program, *wire.AttachReply) {
	g.t.Helper()
	return attachWith(g.t, n, &wire.AttachRequest{Role: role, Name: "raw", Session: g.session, Flags: wire.AttachHandBack}, g.memfd)
}

func attachWith(t *testing.T, n *testNode, req *wire.AttachRequest, handed ...int) (*program, *wire.AttachReply) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: n.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := req.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := shm.SendFds(conn, b, handed...); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, wire.AttachBytesMax)
	got, fds, err := shm.RecvFds(conn, buf, 3)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := wire.DecodeAttachReply(buf[wire.AttachPrefixBytes:got])
	if err != nil {
		t.Fatal(err)
	}
	if rep.Code != wire.AttachOK {
		_ = conn.Close()
		return nil, rep
	}
	g := &program{t: t, conn: conn, session: rep.Session, memfd: fds[0]}
	if g.mem, err = shm.MapMemfd(fds[0]); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fds[1])
	if g.node, err = shm.NewEventfdDoorbell(fds[2]); err != nil {
		t.Fatal(err)
	}
	if g.seg, err = shm.Open(g.mem); err != nil {
		t.Fatal(err)
	}
	g.out, g.in = g.seg.Producer(shm.ToNode, shm.Request), g.seg.Consumer(shm.ToProgram, shm.Request)
	g.done = sync.OnceFunc(func() {
		g.exit()
		_ = g.node.Close()
		_ = unix.Close(g.memfd)
		_ = shm.Unmap(g.mem)
	})
	t.Cleanup(g.done)
	return g, rep
}

// exit ends the program as a kill would: the socket closes and nothing else happens.
func (g *program) exit() { _ = g.conn.Close() }

// send writes a message without waking the node.
func (g *program) send(r wire.OutRequest, payload []byte) {
	g.t.Helper()
	rec, ok, err := g.out.Reserve(wire.OutRequestBytes + len(payload))
	if err != nil || !ok {
		g.t.Fatalf("no room in the out-ring: %v", err)
	}
	r.Put(rec)
	copy(rec[wire.OutRequestBytes:], payload)
	g.out.Commit()
	g.out.Publish()
}

// sends writes n good messages for a hash.
func (g *program) sends(n int, hash uint64) {
	g.t.Helper()
	for range n {
		g.seq++
		g.send(wire.OutRequest{Seq: g.seq, Hash: hash}, []byte("x"))
	}
}

// ring wakes the node.
func (g *program) ring() {
	if err := g.node.Ring(); err != nil {
		g.t.Error(err)
	}
}

// cursors returns tail and head of a ring, by shm's layout of a segment.
func (g *program) cursors(d shm.Direction, c shm.Class) (tail, head []byte) {
	off := 1024 + 256*(3*int(d)+int(c))
	return g.mem[off : off+8], g.mem[off+128 : off+136]
}

// cutOff waits until the node has closed the socket.
func (g *program) cutOff() {
	g.t.Helper()
	if err := g.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		g.t.Fatalf("the node did not cut the program off: %v", err)
	}
}

// awaitStatus waits until the node's status shows what it should, for at most 20 s.
func (n *testNode) awaitStatus(what string, cond func(s *dataplane.Status) bool) {
	n.w.t.Helper()
	stop, again := time.After(patience), time.NewTicker(2*time.Millisecond)
	defer again.Stop()
	for {
		s := n.plane.Status()
		if cond(&s) {
			return
		}
		select {
		case <-again.C:
		case <-stop:
			n.w.t.Fatalf("node %v: %s did not happen: %+v", n.id, what, s)
		}
	}
}

// gone says that only the given number of programs hold a segment.
func gone(left int) func(s *dataplane.Status) bool {
	return func(s *dataplane.Status) bool {
		return len(s.Attached) == left && s.ShmBytes == int64(left*shm.SegmentBytes(1<<20))
	}
}

var put64 = binary.NativeEndian.PutUint64

// Whatever a program writes into its segment costs that program its
// attachment, and nothing else: its segment is freed, the node goes on, and
// messages that a bad server program was given reach the good one.
func TestGarbageOfPrograms(t *testing.T) {
	ways := map[string]func(g *program){
		"tail of requests": func(g *program) { tail, _ := g.cursors(shm.ToNode, shm.Request); put64(tail, 1<<40) },
		"tail of replies":  func(g *program) { tail, _ := g.cursors(shm.ToNode, shm.Reply); put64(tail, 8) },
		"tail of control":  func(g *program) { tail, _ := g.cursors(shm.ToNode, shm.Control); put64(tail, 3) },
		"bad records": func(g *program) {
			for range 3 {
				g.send(wire.OutRequest{Seq: 0}, nil)
			}
		},
		"too large": func(g *program) {
			g.send(wire.OutRequest{Seq: 1, Hash: 63}, make([]byte, wire.MessageBytesMax(1<<20)+1))
		},
		"sequence goes back": func(g *program) {
			g.sends(2, 0)
			g.send(wire.OutRequest{Seq: 1}, nil)
			g.sends(3, 0)
		},
		"sequence leaps": func(g *program) {
			g.sends(1, 1<<20|63)
			for i := range uint64(5) {
				g.send(wire.OutRequest{Seq: 5000 * (i + 1), Hash: 63}, nil)
			}
		},
		"all ones": func(g *program) {
			for i := 1024; i < len(g.mem); i++ {
				g.mem[i] = 0xff
			}
		},
	}
	for name, garbage := range ways {
		for _, last := range []string{"stays", "exits"} {
			t.Run(name+", "+last, func(t *testing.T) {
				w := newWorld(t, 2)
				for _, n := range w.nodes[:2] {
					echo(t, n)
				}
				c := attach(t, w.slave(), client.RoleClient)
				ask(t, c, 0, "before")
				for range 5 {
					for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
						g, _ := attachRaw(t, w.nodes[0], role, wire.SessionID{})
						garbage(g)
						g.ring()
						if last == "exits" {
							g.exit()
						} else {
							g.cutOff()
						}
					}
				}
				w.nodes[0].awaitStatus("only the good program is left", gone(1))
				for h := range uint64(64) {
					ask(t, c, h, "after")
				}
			})
		}
	}
}
