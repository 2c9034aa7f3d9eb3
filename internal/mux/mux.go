// Package mux shares the one PORT of a server between the kinds of traffic
// that arrive there: data links, raft, rpc and the sessions of slaves. A
// connection opens with an 8-byte preamble that names its kind; the mux reads
// exactly these bytes and hands the untouched connection to the kind's handler.
//
// It knows nothing of what the kinds carry. Listeners and dialers come from
// outside, so that tests can use pipes.
package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
)

// Kind says what a connection carries.
type Kind uint8

// The kinds of connections.
const (
	KindData    Kind = iota + 1 // frames between two nodes
	KindRaft                    // raft's own RPCs
	KindRPC                     // requests to the control plane
	KindSession                 // a slave's session, multiplexed with yamux

	kindEnd
)

// String returns the lower-case word used in logs.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindRaft:
		return "raft"
	case KindRPC:
		return "rpc"
	case KindSession:
		return "session"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// PreambleBytes is the length of the preamble: "CHMPX", version 1, kind, 0.
const PreambleBytes = 8

// Limits of the mux.
const (
	preambleTimeout  = 5 * time.Second
	openingConnsMax  = 64 // connections that have not sent their preamble yet
	acceptBackoffMax = time.Second
	rejectLogEvery   = time.Second
)

// ErrPreamble is wrapped by errors about bytes that are no preamble of ours.
var ErrPreamble = errors.New("mux: invalid preamble")

var preambleHead = []byte("CHMPX\x01")

// Preamble returns the bytes that open a connection of this kind.
func Preamble(k Kind) [PreambleBytes]byte {
	var p [PreambleBytes]byte
	copy(p[:], preambleHead)
	p[6] = byte(k)
	return p
}

// ParsePreamble returns the kind that a preamble names. b must hold exactly
// PreambleBytes; anything else is ErrPreamble.
func ParsePreamble(b []byte) (Kind, error) {
	if len(b) != PreambleBytes || !bytes.Equal(b[:6], preambleHead) || b[7] != 0 {
		return 0, fmt.Errorf("%w: %q", ErrPreamble, b[:min(len(b), PreambleBytes)])
	}
	if k := Kind(b[6]); k > 0 && k < kindEnd {
		return k, nil
	}
	return 0, fmt.Errorf("%w: unknown kind %d", ErrPreamble, b[6])
}

// Dialer opens a connection to host:port. It must end when ctx does.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

// DialTCP is the Dialer of real nodes: TCP, host names resolved at each call.
func DialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", fault.Dial(addr))
}

// Dial connects to the mux at addr and sends the preamble of kind. The whole
// takes at most 5 s, less if ctx ends. The connection has TCP_NODELAY set
// and no deadline; the caller owns it.
func Dial(ctx context.Context, dial Dialer, addr string, kind Kind) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, preambleTimeout)
	defer cancel()
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s to %s: %w", kind, addr, err)
	}
	noDelay(conn)
	deadline, _ := ctx.Deadline()
	p := Preamble(kind)
	err = conn.SetDeadline(deadline)
	if err == nil {
		_, err = conn.Write(p[:])
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("send %s preamble to %s: %w", kind, addr, err)
	}
	return conn, nil
}

// noDelay turns Nagle's algorithm off where there is one.
func noDelay(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true) // fails only on a connection that is gone; its first read says so
	}
}

// Server accepts the connections of one PORT and hands them to handlers.
// Create it with New, register handlers, then Run it once.
type Server struct {
	ln       net.Listener
	log      *slog.Logger
	handlers [kindEnd]func(net.Conn)
	opening  chan struct{} // a token per connection without preamble

	mu         sync.Mutex // guards what follows; nothing blocks under it
	conns      map[net.Conn]struct{}
	closed     bool
	lastReject time.Time
	rejected   int
}

// New returns a server on ln, which it closes when Run ends.
func New(ln net.Listener, log *slog.Logger) *Server {
	return &Server{
		ln: ln, log: log,
		opening: make(chan struct{}, openingConnsMax),
		conns:   make(map[net.Conn]struct{}),
	}
}

// Handle registers the handler of a kind; to be called before Run. The handler
// runs on a goroutine of its own per connection and owns the connection: it
// closes it or hands it on. A connection still in its handler when Run's ctx
// ends is closed. Kinds without handler are closed after the preamble.
func (s *Server) Handle(kind Kind, h func(net.Conn)) { s.handlers[kind] = h }

// Addr returns the listener's address.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Run accepts until ctx ends or the listener fails for good; then it closes
// the listener and every connection that a handler has not handed on, waits
// for the handlers to return and reports why it ended (nil after ctx ended).
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, s.shut)
	defer func() {
		stop()
		s.shut()
		wg.Wait()
	}()
	backoff := time.Millisecond
	for {
		conn, err := s.ln.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if conn != nil {
				conn.Close()
			}
			if ctx.Err() == nil {
				return fmt.Errorf("accept on %s: %w", s.ln.Addr(), err)
			}
			return nil
		}
		if err != nil { // out of descriptors, or the like: it passes
			s.log.Warn("cannot accept connections for the moment", "addr", s.ln.Addr().String(), "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, acceptBackoffMax)
			continue
		}
		backoff = time.Millisecond
		select {
		case s.opening <- struct{}{}:
			wg.Go(func() { s.open(conn) }) // ended by shut, awaited above
		default:
			s.reject(conn, "too many connections without preamble")
		}
	}
}

// open reads the preamble and calls the handler.
func (s *Server) open(conn net.Conn) {
	kind, err := s.readPreamble(conn)
	<-s.opening
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			s.reject(conn, err.Error())
			return
		}
		conn.Close()
		return
	}
	h := s.handlers[kind]
	if h == nil {
		s.reject(conn, "no handler for "+kind.String())
		return
	}
	h(conn)
	s.untrack(conn)
}

func (s *Server) readPreamble(conn net.Conn) (Kind, error) {
	if !s.track(conn) {
		return 0, net.ErrClosed
	}
	noDelay(conn)
	if err := conn.SetDeadline(time.Now().Add(preambleTimeout)); err != nil {
		return 0, fmt.Errorf("set deadline: %w", err)
	}
	var p [PreambleBytes]byte
	if _, err := io.ReadFull(conn, p[:]); err != nil {
		return 0, fmt.Errorf("read preamble: %w", err)
	}
	kind, err := ParsePreamble(p[:])
	if err != nil {
		return 0, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return 0, fmt.Errorf("clear deadline: %w", err)
	}
	return kind, nil
}

// reject closes a stranger's connection with one log line, at most one a second.
func (s *Server) reject(conn net.Conn, why string) {
	conn.Close()
	s.untrack(conn)
	s.mu.Lock()
	s.rejected++
	n, now := s.rejected, time.Now()
	quiet := s.closed || now.Sub(s.lastReject) < rejectLogEvery
	if !quiet {
		s.rejected, s.lastReject = 0, now
	}
	s.mu.Unlock()
	if !quiet {
		s.log.Warn("connection refused", "remote", remote(conn), "reason", why, "refused", n)
	}
}

func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// shut closes the listener and everything not handed on.
func (s *Server) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.ln.Close()
	for c := range s.conns {
		c.Close()
	}
}

func remote(conn net.Conn) string {
	if a := conn.RemoteAddr(); a != nil {
		return a.String()
	}
	return "unknown"
}
