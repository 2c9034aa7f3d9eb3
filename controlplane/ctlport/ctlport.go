// Package ctlport serves the control port of a node: one text command per
// connection as CHMPX has it, and HTTP with JSON on the same port. A
// connection is HTTP when it begins with GET, POST, HEAD or OPTIONS and " /".
//
// It knows nothing of the ring: what to answer comes in as functions. No
// client holds up another one: every connection has a goroutine of its own,
// there are at most 64, and each step has a limit of 5 s.
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
// goroutines at once and must not block for long.
type Config struct {
	Allowed func(remote net.Addr) bool // hosts that are read at all; nil: everybody
	Command func(c Command) string     // answer to a text command, "" = close without one; nil: all are unknown
	Status  func() any                 // what GET /v1/status returns as JSON
	Logger  *slog.Logger               // nil: discards
}

// Server is a control port. Create it with New and Run it once.
type Server struct {
	ln  net.Listener
	cfg Config

	mu      sync.Mutex // guards what follows; nothing blocks under it
	conns   map[net.Conn]struct{}
	closed  bool
	lastLog time.Time
}

// New returns a control port on ln, which it closes when Run ends.
func New(ln net.Listener, cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{ln: ln, cfg: cfg, conns: make(map[net.Conn]struct{})}
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
				s.serve(conn)
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

func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	if s.cfg.Allowed != nil && !s.cfg.Allowed(conn.RemoteAddr()) {
		s.warn("control connection denied", "remote", conn.RemoteAddr().String())
		return
	}
	_ = conn.SetDeadline(time.Now().Add(stepTimeout)) // a closed connection fails at the read
	r := bufio.NewReaderSize(conn, commandBytesMax)
	head, err := peekMethod(conn, r)
	if err != nil {
		return
	}
	if isHTTP(head) {
		_ = conn.SetReadDeadline(time.Now().Add(stepTimeout))
		s.serveHTTP(conn, r)
	} else {
		s.serveText(conn, r)
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

// peekMethod returns the first bytes of a connection, without consuming them,
// once they suffice to tell HTTP from a text command: 200 ms of silence after
// "GET" make it a (text) command.
func peekMethod(conn net.Conn, r *bufio.Reader) ([]byte, error) {
	for n := 1; ; n++ {
		if n > 1 && n > r.Buffered() {
			_ = conn.SetReadDeadline(time.Now().Add(silenceTimeout)) // a closed connection fails at the read
		}
		head, err := r.Peek(n)
		if len(head) == 0 {
			return nil, err
		}
		if err != nil || n >= methodBytesMax || !couldBeHTTP(head) || isHTTP(head) {
			return head, nil
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

func (s *Server) serveText(conn net.Conn, r *bufio.Reader) {
	line := readCommand(conn, r)
	if len(line) == 0 {
		return
	}
	c := ParseCommand(line)
	reply := ""
	if s.cfg.Command != nil {
		reply = s.cfg.Command(c)
	} else {
		reply = Unknown(c)
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
// silence or 8,191 bytes, and returns what came before that.
func readCommand(conn net.Conn, r *bufio.Reader) []byte {
	var line []byte
	overall := time.Now().Add(stepTimeout)
	for len(line) < commandBytesMax {
		if r.Buffered() == 0 {
			deadline := time.Now().Add(silenceTimeout)
			if deadline.After(overall) {
				deadline = overall
			}
			_ = conn.SetReadDeadline(deadline) // a closed connection fails at the read
		}
		b, err := r.ReadByte()
		if err != nil || b == 0 || b == '\r' || b == '\n' {
			break
		}
		line = append(line, b)
	}
	return line
}

func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	full := len(s.conns) >= connsMax
	if !s.closed && !full {
		s.conns[conn] = struct{}{}
	}
	closed := s.closed
	s.mu.Unlock()
	if full {
		s.warn("control connection refused: too many", "max", connsMax)
	}
	return !closed && !full
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
