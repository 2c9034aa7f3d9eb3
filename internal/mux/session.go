package mux

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Limits of sessions.
const (
	helloBytesMax      = 4096
	helloTimeout       = 5 * time.Second
	sessionDialWait    = 10 * time.Second
	sessionKeepalive   = 2 * time.Second
	sessionWriteLimit  = 5 * time.Second
	sessionStreamsMax  = 16 // streams waiting to be accepted
	sessionNameLenMax  = 256
	sessionIDLenMax    = 128
	sessionGroupLenMax = 256
	sessionLogEvery    = 10 * time.Second
	goneMax            = 4096 // ended sessions remembered
)

// ErrNoSession says that a slave's session did not appear in time.
var ErrNoSession = errors.New("mux: no session")

// SessionHello is what a slave says first on a session.
type SessionHello struct {
	Group string `json:"group"` // GROUP of its configuration
	ID    string `json:"id"`    // its raft server id
	Name  string `json:"name"`
	Level int    `json:"level,omitempty"` // the highest feature level that it speaks; 0: 1
}

// SessionReply answers a SessionHello; an empty Refused accepts it.
type sessionReply struct {
	Refused string `json:"refused,omitempty"`
}

// ErrSessionRefused is wrapped by OpenSession when the server said no.
var ErrSessionRefused = errors.New("mux: session refused")

// Session is a slave's end of a session: the server opens streams on it.
type Session struct{ y *yamux.Session }

// OpenSession connects a slave to the server at addr.
func OpenSession(ctx context.Context, dial Dialer, addr string, hello SessionHello, log *slog.Logger) (*Session, error) {
	conn, err := Dial(ctx, dial, addr, KindSession)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	y, err := openYamux(conn, hello, log)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open session with %s: %w", addr, err)
	}
	return &Session{y: y}, nil
}

func openYamux(conn net.Conn, hello SessionHello, log *slog.Logger) (*yamux.Session, error) {
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if err := writeJSON(conn, hello); err != nil {
		return nil, err
	}
	var reply sessionReply
	if err := readJSON(conn, &reply); err != nil {
		return nil, err
	}
	if reply.Refused != "" {
		return nil, fmt.Errorf("%w: %s", ErrSessionRefused, reply.Refused)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("clear deadline: %w", err)
	}
	y, err := yamux.Client(conn, yamuxConfig(log))
	if err != nil {
		return nil, fmt.Errorf("start yamux: %w", err)
	}
	return y, nil
}

// Accept returns the next stream that the server opened; it fails once the
// session has ended.
func (s *Session) Accept() (net.Conn, error) { return s.y.Accept() }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.y.CloseChan() }

// Close ends the session and its streams. Idempotent.
func (s *Session) Close() error { return s.y.Close() }

// Sessions is a server's registry of the slaves' sessions. Serve is the
// handler of KindSession. All methods may be called from any goroutine.
type Sessions struct {
	log   *slog.Logger
	admit func(SessionHello) error

	mu     sync.Mutex // guards what follows; nothing blocks under it
	live   map[string]*yamux.Session
	gone   map[string]time.Time // when a slave's last session ended
	change chan struct{}        // closed and replaced at every change
	closed bool
	logged time.Time // when a refusal was last logged
	silent int       // refusals since
}

// NewSessions returns an empty registry. admit decides who may open a session;
// its error text goes to the slave. It may be called from many goroutines.
func NewSessions(log *slog.Logger, admit func(SessionHello) error) *Sessions {
	return &Sessions{
		log: log, admit: admit,
		live:   make(map[string]*yamux.Session),
		gone:   make(map[string]time.Time),
		change: make(chan struct{}),
	}
}

// Serve handles one connection of KindSession and returns when it has ended.
// A newer session of the same slave replaces the older one.
func (s *Sessions) Serve(conn net.Conn) {
	defer conn.Close()
	hello, err := s.handshake(conn)
	if err != nil {
		s.logRefusal(conn, err)
		return
	}
	y, err := yamux.Server(conn, yamuxConfig(s.log))
	if err != nil {
		s.log.Error("session of a slave failed", "remote", remote(conn), "err", err)
		return
	}
	defer y.Close()
	if !s.add(hello.ID, y) {
		return
	}
	s.log.Debug("session opened", "slave", hello.Name, "id", hello.ID, "remote", remote(conn))
	for {
		stream, err := y.Accept() // slaves open no streams; this only waits for the end
		if err != nil {
			break
		}
		stream.Close()
	}
	s.remove(hello.ID, y)
	s.log.Debug("session ended", "slave", hello.Name, "id", hello.ID)
}

func (s *Sessions) handshake(conn net.Conn) (SessionHello, error) {
	var hello SessionHello
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return hello, fmt.Errorf("set deadline: %w", err)
	}
	if err := readJSON(conn, &hello); err != nil {
		return hello, err
	}
	err := checkHello(hello)
	if err == nil {
		err = s.admit(hello)
	}
	var reply sessionReply
	if err != nil {
		reply.Refused = err.Error()
	}
	if werr := writeJSON(conn, reply); err == nil {
		err = werr
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	return hello, err
}

func checkHello(h SessionHello) error {
	if h.ID == "" || len(h.ID) > sessionIDLenMax || len(h.Name) > sessionNameLenMax || len(h.Group) > sessionGroupLenMax {
		return fmt.Errorf("%w: id, name or group missing or too long", ErrPreamble)
	}
	return nil
}

// logRefusal logs one refusal in 10 s: whoever is refused comes again.
func (s *Sessions) logRefusal(conn net.Conn, why error) {
	s.mu.Lock()
	s.silent++
	n, now := s.silent, time.Now()
	quiet := now.Sub(s.logged) < sessionLogEvery
	if !quiet {
		s.silent, s.logged = 0, now
	}
	s.mu.Unlock()
	if !quiet {
		s.log.Warn("session of a slave refused", "remote", remote(conn), "err", why, "refused", n)
	}
}

func (s *Sessions) add(id string, y *yamux.Session) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	old := s.live[id]
	s.live[id] = y
	delete(s.gone, id)
	s.changed()
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return true
}

func (s *Sessions) remove(id string, y *yamux.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[id] == y {
		delete(s.live, id)
		s.gone[id] = time.Now()
		if len(s.gone) > goneMax {
			s.dropOldest()
		}
		s.changed()
	}
}

// dropOldest forgets the session that ended first. s.mu is held.
func (s *Sessions) dropOldest() {
	oldest := ""
	for id, at := range s.gone {
		if oldest == "" || at.Before(s.gone[oldest]) {
			oldest = id
		}
	}
	delete(s.gone, oldest)
}

// changed wakes everybody who waits for a change. s.mu is held.
func (s *Sessions) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// Dial opens a stream to the slave with this id. It waits for its session to
// appear up to 10 s, or until ctx ends: raft backs off for as long after an
// error, a slave that restarts would have to wait for that.
func (s *Sessions) Dial(ctx context.Context, id string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionDialWait)
	defer cancel()
	for {
		s.mu.Lock()
		y, change, closed := s.live[id], s.change, s.closed
		s.mu.Unlock()
		if closed {
			return nil, fmt.Errorf("%w of %s: shutting down", ErrNoSession, id)
		}
		if y != nil {
			if conn, err := y.Open(); err == nil {
				return conn, nil
			}
			y.Close() // its Serve removes it, which is a change
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w of %s: %w", ErrNoSession, id, ctx.Err())
		}
	}
}

// Has reports whether the slave has a session now and, if not, when its last
// one ended (zero if there was none).
func (s *Sessions) Has(id string) (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.live[id]
	return ok, s.gone[id]
}

// Forget drops what is remembered about a slave without session.
func (s *Sessions) Forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gone, id)
}

// Close ends all sessions; later ones are refused. Idempotent.
func (s *Sessions) Close() {
	s.mu.Lock()
	all := make([]*yamux.Session, 0, len(s.live))
	for _, y := range s.live {
		all = append(all, y)
	}
	if !s.closed {
		s.closed = true
		s.changed()
	}
	s.mu.Unlock()
	for _, y := range all {
		y.Close()
	}
}

func yamuxConfig(log *slog.Logger) *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = sessionStreamsMax
	c.KeepAliveInterval = sessionKeepalive
	c.ConnectionWriteTimeout = sessionWriteLimit
	c.StreamOpenTimeout = sessionWriteLimit
	c.StreamCloseTimeout = sessionWriteLimit
	c.LogOutput = nil
	c.Logger = slogYamux{log}
	return c
}

// slogYamux takes yamux's log lines. All of them tell of a connection that
// broke, which its owner reports in its own words: debug.
type slogYamux struct{ log *slog.Logger }

func (l slogYamux) Print(v ...any)                 { l.log.Debug(fmt.Sprint(v...)) }
func (l slogYamux) Printf(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l slogYamux) Println(v ...any)               { l.log.Debug(fmt.Sprint(v...)) }

// writeJSON writes v with a 4-byte little-endian length before it.
func writeJSON(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := w.Write(append(b, body...)); err != nil {
		return fmt.Errorf("write hello: %w", err)
	}
	return nil
}

// readJSON reads what writeJSON wrote, at most helloBytesMax, not a byte more.
func readJSON(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > helloBytesMax {
		return fmt.Errorf("%w: hello of %d bytes, at most %d allowed", ErrPreamble, n, helloBytesMax)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: hello: %w", ErrPreamble, err)
	}
	return nil
}
