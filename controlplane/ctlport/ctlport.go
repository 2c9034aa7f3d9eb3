// Package ctlport serves the control port of a node: one text command per
// connection as CHMPX has it, and HTTP with JSON on the same port. A
// connection is HTTP when it begins with GET, POST, HEAD or OPTIONS and " /".
//
// It knows nothing of a node: what to answer comes in as functions, and of the
// ring it knows only how statuses look. Who may connect is decided by Hosts,
// before a byte is read. No client holds up another one: every
// connection has a goroutine of its own, each step has a limit of 5 s, and of
// more than 64 connections the one that has been silent for longest is closed.
package ctlport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of the port.
const (
	connsMax         = 64
	stepTimeout      = 5 * time.Second
	silenceTimeout   = 200 * time.Millisecond // ends a text command without terminator
	commandBytesMax  = 8191
	lingerBytesMax   = 64 << 10
	acceptBackoffMax = time.Second
	logEvery         = time.Second
)

// Config says what the port answers. All functions may be called from many
// goroutines at once. Those with a context may block until it ends, at the
// latest with Run; the others must not block for long.
type Config struct {
	Rights     func(ctx context.Context, remote net.Addr) Rights     // of a host, before it is read; nil: full for everybody
	Command    func(ctx context.Context, c Command, open int) string // answer to a text command, with open connections, "" = close without one; nil: all are unknown
	Status     func() any                                            // what GET /v1/status returns as JSON
	Consistent func(ctx context.Context) error                       // returns when Status shows what is committed; nil: there is no ?consistent=1
	Owners     func(hash uint64) Owners                              // what GET /v1/owners returns as JSON
	Logger     *slog.Logger                                          // nil: discards
	Names      func() []string                                       // of this node, beside its addresses and localhost: what Host may say in HTTP; nil: none
	Actions    map[string]Action                                     // what POST does, by path
}

// Action does what a POST asks for, whose body it gets, and returns what is
// answered as JSON. An error is answered as one that changed nothing.
type Action func(ctx context.Context, body []byte) (any, error)

// Server is a control port. Create it with New and Run it once.
type Server struct {
	ln  net.Listener
	cfg Config

	denied denials

	mu      sync.Mutex        // guards what follows; nothing blocks under it
	conns   map[net.Conn]bool // true: has sent nothing yet
	silent  []net.Conn        // those, oldest first
	closed  bool
	lastLog time.Time
}

// New returns a control port on ln, which it closes when Run ends.
func New(ln net.Listener, cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{ln: ln, cfg: cfg, denied: denials{logged: make(map[netip.Addr]time.Time)}, conns: make(map[net.Conn]bool)}
}

// Run serves until ctx ends (nil) or the listener fails for good, then closes
// every connection and returns when their goroutines have ended.
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
		switch {
		case err == nil:
			backoff = time.Millisecond
			if !s.track(conn) {
				conn.Close()
				continue
			}
			wg.Go(func() { // ended by shut, awaited above
				defer s.untrack(conn)
				s.serve(ctx, conn)
			})
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on control port %s: %w", s.ln.Addr(), err)
		default: // out of descriptors, or the like: it passes
			s.warn("cannot accept on the control port for the moment", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, acceptBackoffMax)
		}
	}
}

func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	rights := Full
	if s.cfg.Rights != nil {
		rights = s.cfg.Rights(ctx, conn.RemoteAddr())
	}
	if rights == Denied {
		if ctx.Err() == nil && s.denied.due(conn.RemoteAddr()) {
			s.cfg.Logger.Warn("control connection denied: no SVRNODE, SLVNODE or CTLALLOW lets this host in", "remote", conn.RemoteAddr().String())
		}
		return
	}
	_ = conn.SetDeadline(time.Now().Add(stepTimeout)) // a closed connection fails at the read
	r := bufio.NewReaderSize(conn, commandBytesMax)
	if _, err := r.Peek(1); err != nil {
		return
	}
	s.heard(conn)
	head := peekMethod(conn, r)
	if isHTTP(head) {
		_ = conn.SetReadDeadline(time.Now().Add(stepTimeout))
		s.serveHTTP(ctx, conn, r, rights)
	} else {
		s.serveText(ctx, conn, r, rights)
	}
	linger(conn)
}

// linger waits a moment for the client to close: closing over unread input
// would send a reset, which can overtake the answer.
func linger(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok && t.CloseWrite() == nil {
		_ = t.SetReadDeadline(time.Now().Add(silenceTimeout))
		_, _ = io.CopyN(io.Discard, t, lingerBytesMax) // whatever comes is of no use
	}
}

// methodBytesMax is what "OPTIONS /" takes: enough to tell HTTP from text.
const methodBytesMax = 9

// peekMethod returns the first bytes of a connection that has sent one,
// without consuming them, once they suffice to tell HTTP from a text command:
// 200 ms of silence after "GET" make it a (text) command.
func peekMethod(conn net.Conn, r *bufio.Reader) []byte {
	for n := 1; ; n++ {
		if n > r.Buffered() {
			_ = conn.SetReadDeadline(time.Now().Add(silenceTimeout)) // a closed connection fails at the read
		}
		head, err := r.Peek(n)
		if err != nil || n >= methodBytesMax || !couldBeHTTP(head) || isHTTP(head) {
			return head
		}
	}
}

var methods = []string{"GET /", "POST /", "HEAD /", "OPTIONS /"}

func isHTTP(head []byte) bool {
	for _, m := range methods {
		if bytes.HasPrefix(head, []byte(m)) {
			return true
		}
	}
	return false
}

// couldBeHTTP reports whether head is the beginning of a method, or longer.
func couldBeHTTP(head []byte) bool {
	for _, m := range methods {
		if n := min(len(m), len(head)); string(head[:n]) == m[:n] {
			return true
		}
	}
	return false
}

func (s *Server) serveText(ctx context.Context, conn net.Conn, r *bufio.Reader, rights Rights) {
	line, ended, cut := readCommand(conn, r)
	if len(line) == 0 && !ended {
		return // nothing came
	}
	c := ParseCommand(line)
	c.Cut, c.ReadOnly = cut, rights < Full
	reply := Unknown(c)
	if s.cfg.Command != nil {
		reply = s.cfg.Command(ctx, c, s.open())
	}
	if reply == Unknown(c) {
		s.warn("unknown control command", "remote", conn.RemoteAddr().String(), "command", c.Word[:min(len(c.Word), 40)])
	}
	if reply == "" {
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(stepTimeout))
	if _, err := io.WriteString(conn, reply); err != nil {
		s.cfg.Logger.Debug("control reply not sent", "remote", conn.RemoteAddr().String(), "err", err)
	}
}

// readCommand reads up to NUL, CR, LF, the end of the stream, 200 ms of
// silence or 8,191 bytes, and returns what came before that, whether a CR or
// LF ended it, and whether there was more.
func readCommand(conn net.Conn, r *bufio.Reader) (line []byte, ended, cut bool) {
	overall := time.Now().Add(stepTimeout)
	for {
		if r.Buffered() == 0 {
			deadline := time.Now().Add(silenceTimeout)
			if deadline.After(overall) {
				deadline = overall
			}
			_ = conn.SetReadDeadline(deadline) // a closed connection fails at the read
		}
		b, err := r.ReadByte()
		switch {
		case err != nil || b == 0:
			return line, false, false
		case b == '\r' || b == '\n':
			return line, true, false
		case len(line) == commandBytesMax:
			return line, false, true
		}
		line = append(line, b)
	}
}

// track takes a connection in. A full port makes room by closing the
// connection that has been silent for longest; without one it refuses.
func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	full := len(s.conns) >= connsMax
	if full && len(s.silent) > 0 {
		oldest := s.silent[0]
		s.forget(oldest)
		oldest.Close() // ends its goroutine, too
		full = false
	}
	take := !s.closed && !full
	if take {
		s.conns[conn] = true
		s.silent = append(s.silent, conn)
	}
	s.mu.Unlock()
	if full {
		s.warn("control connection refused: too many", "max", connsMax)
	}
	return take
}

// heard notes that a connection has sent something.
func (s *Server) heard(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[conn] {
		s.conns[conn] = false
		s.silent = slices.DeleteFunc(s.silent, func(c net.Conn) bool { return c == conn })
	}
}

// open returns the number of connections.
func (s *Server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(conn)
}

// forget is untrack; mu is held.
func (s *Server) forget(conn net.Conn) {
	if s.conns[conn] {
		s.silent = slices.DeleteFunc(s.silent, func(c net.Conn) bool { return c == conn })
	}
	delete(s.conns, conn)
}

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

// warn logs at most once a second: strangers decide how often they come.
func (s *Server) warn(msg string, args ...any) {
	s.mu.Lock()
	now := time.Now()
	quiet := now.Sub(s.lastLog) < logEvery
	if !quiet {
		s.lastLog = now
	}
	s.mu.Unlock()
	if !quiet {
		s.cfg.Logger.Warn(msg, args...)
	}
}
