package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/freeport"
	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLog logs to stderr when CHMPX_TEST_LOG is set, else nowhere.
func testLog(name string) *slog.Logger {
	if os.Getenv("CHMPX_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

// pipeNet is a network of net.Pipe: nothing of it needs a socket, so that fake
// time runs.
type pipeNet struct {
	mu        sync.Mutex // guards listeners
	listeners map[string]*pipeListener
}

type pipeListener struct {
	n     *pipeNet
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

func newPipeNet() *pipeNet { return &pipeNet{listeners: make(map[string]*pipeListener)} }

func (n *pipeNet) listen(addr string) net.Listener {
	l := &pipeListener{n: n, addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
	return l
}

func (n *pipeNet) alive(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listeners[addr] != nil
}

func (n *pipeNet) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
	case <-ctx.Done():
	}
	near.Close()
	return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
}

// listener returns what listens at addr.
func (n *pipeNet) listener(addr string) *pipeListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listeners[addr]
}

// put makes an address lead to a listener; what is connected stays so.
func (n *pipeNet) put(addr string, l *pipeListener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
}

// move makes the address to lead to what listens at from.
func (n *pipeNet) move(from, to string) { n.put(to, n.listener(from)) }

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		for addr, at := range l.n.listeners {
			if at == l {
				delete(l.n.listeners, addr)
			}
		}
	})
	return nil
}

// rig is a ring in one process.
type rig struct {
	t       *testing.T
	net     *pipeNet // nil: real loopback TCP
	dir     string
	group   string
	params  fsm.Params
	servers []Member
	nodes   map[string]*rigNode
	prepare func(*Plane)  // nil, or what to do to a plane before it runs
	blind   atomic.Bool   // links see nothing new
	unknown atomic.Uint64 // id of a server whose hello names no incarnation
}

// rigNode is one running node of a rig.
type rigNode struct {
	name   string
	member Member
	plane  *Plane
	stop   context.CancelFunc
	cancel func() // stop, and wait
	done   chan error

	mu    sync.Mutex // guards what follows
	mute  bool       // its data plane never says that a transfer is done
	views []fsm.View
	incs  []ring.Incarnation
}

func newRig(t *testing.T, pipes bool, servers int) *rig {
	r := &rig{
		t: t, dir: t.TempDir(), group: "rig", nodes: make(map[string]*rigNode),
		params: fsm.Params{
			Slots: 64, Replica: 1, DeliverMode: "hash", Placement: "slots", DoMerge: true, AutoMerge: true, MaxVoters: 5,
		},
	}
	if pipes {
		r.net = newPipeNet()
	}
	for i := range servers {
		name := string(rune('a' + i))
		r.servers = append(r.servers, Member{
			ID: ring.ID(10 + i), Identity: ring.Identity{Name: name, CtlPort: uint16(8021 + i)}, Addr: r.reserve(name),
		})
	}
	t.Cleanup(func() {
		for _, n := range r.nodes {
			r.kill(n.name)
		}
	})
	return r
}

// reserve returns the address of a server's PORT.
func (r *rig) reserve(name string) string {
	if r.net != nil {
		return name + ":8020"
	}
	free, err := freeport.Take(1)
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", free[0])
}

// listener opens the PORT of a server.
func (r *rig) listener(m *Member) net.Listener {
	if r.net != nil {
		return r.net.listen(m.Addr)
	}
	ln, err := net.Listen("tcp", m.Addr)
	if err != nil {
		r.t.Fatalf("listen: %v", err)
	}
	return ln
}

func (r *rig) dialer() mux.Dialer {
	if r.net != nil {
		return r.net.dial
	}
	return mux.DialTCP
}

// start starts the server or slave with this name; tweak may be nil.
func (r *rig) start(name string, tweak func(*Config)) *rigNode {
	r.t.Helper()
	n := &rigNode{name: name, done: make(chan error, 2)}
	cfg := Config{
		Group: r.group, Params: r.params, Servers: r.servers, Dial: r.dialer(), Logger: testLog(name), NoSync: true,
		OnView: n.take,
	}
	cfg.Slave = true
	for _, m := range r.servers {
		if m.Name == name {
			cfg.Slave, cfg.Self = false, m
		}
	}
	if cfg.Slave {
		cfg.Self = Member{ID: ring.ID(1000 + uint64(name[0])), Identity: ring.Identity{Name: name, CtlPort: 8999}}
	}
	if tweak != nil {
		tweak(&cfg)
	}
	n.member = cfg.Self
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	runs := 1
	if !cfg.Slave {
		cfg.DataDir = filepath.Join(r.dir, name)
		cfg.Mux = mux.New(r.listener(&cfg.Self), cfg.Logger)
	}
	p, err := New(cfg)
	if err != nil {
		cancel()
		r.t.Fatalf("start %s: %v", name, err)
	}
	n.plane = p
	if r.prepare != nil {
		r.prepare(p)
	}
	if !cfg.Slave {
		runs++
		go func() { n.done <- cfg.Mux.Run(ctx) }()
		go r.watchLinks(ctx, n)
	}
	go func() { n.done <- p.Run(ctx) }()
	n.cancel = func() {
		cancel()
		for range runs {
			if err := <-n.done; err != nil {
				r.t.Errorf("%s ended with %v", name, err)
			}
		}
	}
	r.nodes[name] = n
	return n
}

// startAll starts all servers.
func (r *rig) startAll() {
	for _, m := range r.servers {
		r.start(m.Name, nil)
	}
}

// kill ends a node without any goodbye.
func (r *rig) kill(name string) {
	n := r.nodes[name]
	delete(r.nodes, name)
	n.cancel()
}

// watchLinks is the data plane's part: it observes the other servers' ports.
func (r *rig) watchLinks(ctx context.Context, n *rigNode) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := make(map[ring.ID]ring.Evidence)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, m := range r.servers {
			if m.ID == n.member.ID || r.blind.Load() {
				continue
			}
			e := last[m.ID]
			e.Peer, e.State = m.ID, ring.LinkRefused
			if r.alive(ctx, m.Addr) {
				e.State = ring.LinkAlive
				if s := n.plane.view().Server(m.ID); uint64(m.ID) == r.unknown.Load() {
					e.Incarnation = 0
				} else if s != nil && s.Status.Live() == ring.Up {
					e.Incarnation = s.Incarnation // what its hello says by now
				}
			}
			if e != last[m.ID] {
				last[m.ID] = e
				n.plane.Link(e)
			}
		}
	}
}

// alive reports whether something listens at addr.
func (r *rig) alive(ctx context.Context, addr string) bool {
	if r.net != nil {
		return r.net.alive(addr)
	}
	conn, err := mux.Dial(ctx, mux.DialTCP, addr, mux.KindData)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (n *rigNode) take(v fsm.View, self ring.Incarnation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.views, n.incs = append(n.views, v), append(n.incs, self)
	if v.Merge == nil || self == 0 || n.plane == nil || n.mute {
		return
	}
	for _, x := range v.Merge.Transfers { // as a data plane without programs that keep data
		switch {
		case x.Receiver == n.member.ID && !x.Ready && v.Merge.Phase == ring.MergeCopying:
			n.plane.TransferReady(v.Merge.ID, x.Donor, x.Receiver)
		case x.Donor == n.member.ID && !x.Final && v.Merge.Phase == ring.MergeSealed:
			n.plane.TransferFinal(v.Merge.ID, v.Merge.Seal, x.Donor, x.Receiver)
		}
	}
}

// status returns the word of a server's live state as this node sees it.
func (n *rigNode) up(id ring.ID) bool {
	s := n.plane.view().Server(id)
	return s != nil && s.Status.Live() == ring.Up
}

// leader returns the node that leads, nil if none does.
func (r *rig) leader() *rigNode {
	for _, n := range r.nodes {
		if n.plane.leading.Load() {
			return n
		}
	}
	return nil
}

// allUp reports whether every running node sees exactly these servers UP.
func (r *rig) allUp(names ...string) bool {
	want := make(map[string]bool)
	for _, n := range names {
		want[n] = true
	}
	for _, n := range r.nodes {
		for _, m := range r.servers {
			if n.up(m.ID) != want[m.Name] {
				return false
			}
		}
	}
	return true
}

// await waits for a condition, at most limit.
func (r *rig) await(what string, limit time.Duration, cond func() bool) time.Duration {
	r.t.Helper()
	begin := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	stop := time.NewTimer(limit)
	defer stop.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-stop.C:
			for _, n := range r.nodes {
				r.t.Logf("%s: %+v", n.name, n.plane.Status())
			}
			r.t.Fatalf("%s: not within %v", what, limit)
		}
	}
	return time.Since(begin)
}
