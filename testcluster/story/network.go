package story

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// network connects the processes of a story. Nothing of it needs a socket, so
// that fake time runs. A cut between two hosts loses everything on its way,
// as a network does that sends again: connections stand still and go on when it is
// healed, new ones wait.
type network struct {
	mu        sync.Mutex // guards everything of the network, its hosts and connections
	listeners map[string]*listener
	cuts      map[[2]string]bool
	conns     map[*conn]struct{}
	names     map[string]string // of hosts, by address: cuts are between hosts, whether or not anything listens there
	ports     int               // of connections made so far
}

const (
	// streamBytesMax is what a connection takes before its writer waits.
	streamBytesMax = 256 << 10
	// backlogMax is how many connections may wait to be accepted.
	backlogMax = 128
)

func newNetwork() *network {
	return &network{listeners: make(map[string]*listener), cuts: make(map[[2]string]bool), conns: make(map[*conn]struct{}), names: make(map[string]string)}
}

// cut stops what goes between two hosts, both ways.
func (n *network) cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[[2]string{a, b}], n.cuts[[2]string{b, a}] = true, true
}

// heal ends all cuts.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	for c := range n.conns {
		c.in.moved.Broadcast()
		c.out.moved.Broadcast()
	}
}

// host is one process on the network.
type host struct {
	n    *network
	name string
	addr string // of its interface
	down bool   // guarded by n.mu
}

// host returns a new process at an address.
func (n *network) host(name, addr string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[addr] = name
	return &host{n: n, name: name, addr: addr}
}

// listen opens a port.
func (h *host) listen(port int) (net.Listener, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	addr := fmt.Sprintf("%s:%d", h.addr, port)
	if h.n.listeners[addr] != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &listener{h: h, addr: address(addr), conns: make(chan *conn, backlogMax), closed: make(chan struct{})}
	h.n.listeners[addr] = l
	return l, nil
}

// dialRetry is how often a dial that gets no answer looks again.
const dialRetry = 100 * time.Millisecond

// dial connects to an address. Where nothing can pass it waits until ctx ends.
func (h *host) dial(ctx context.Context, addr string) (net.Conn, error) {
	again := time.NewTicker(dialRetry)
	defer again.Stop()
	for {
		c, err := h.tryDial(addr)
		if c != nil {
			return c, nil
		}
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
		case <-again.C:
		}
	}
}

// tryDial returns neither a connection nor an error when there is no answer.
func (h *host) tryDial(addr string) (*conn, error) {
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[addr]
	switch {
	case h.down:
		return nil, net.ErrClosed
	case n.cuts[[2]string{h.name, n.names[hostPart(addr)]}]:
		return nil, nil
	case l == nil:
		return nil, syscall.ECONNREFUSED
	}
	n.ports++
	here := address(fmt.Sprintf("%s:%d", h.addr, 40000+n.ports%20000))
	near, far := n.connect(h, l.h, here, l.addr)
	select {
	case l.conns <- far:
		return near, nil
	default:
		near.shut()
		far.shut()
		return nil, nil
	}
}

// crash ends everything that a host has on the network.
func (h *host) crash() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.down = true
	for _, l := range h.n.listeners {
		if l.h == h {
			l.shut()
		}
	}
	for c := range h.n.conns {
		if c.host == h {
			c.shut()
		}
	}
}

// connections returns how many there are.
func (n *network) connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

type address string

func (address) Network() string  { return "story" }
func (a address) String() string { return string(a) }

// hostPart returns an address without its port.
func hostPart(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

type listener struct {
	h      *host
	addr   address
	conns  chan *conn
	closed chan struct{}
	ended  bool // guarded by n.mu
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Close() error {
	l.h.n.mu.Lock()
	defer l.h.n.mu.Unlock()
	l.shut()
	return nil
}

// shut closes a listener, and what nobody has accepted; n.mu is held.
func (l *listener) shut() {
	if l.ended {
		return
	}
	l.ended = true
	close(l.closed)
	delete(l.h.n.listeners, string(l.addr))
	for {
		select {
		case c := <-l.conns:
			c.shut()
		default:
			return
		}
	}
}
