package raftnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of raft's connections.
const (
	dialWait        = 30 * time.Second       // how long a dial waits for a peer that is not there
	dialRetry       = 100 * time.Millisecond // between its attempts
	dialAttempt     = 2 * time.Second        // one attempt
	dialWaitersMax  = 64                     // dials that wait for one peer
	targetTimeout   = 5 * time.Second
	targetBytesMax  = 256
	incomingConnMax = 16
)

// errStreamClosed is returned to raft by a stream that was closed.
var errStreamClosed = errors.New("raftnode: stream layer closed")

// DialFunc opens a raft connection to a member. addr is empty for a slave,
// which is reached through its session.
type DialFunc func(ctx context.Context, id raft.ServerID, addr string) (net.Conn, error)

// Stream is raft's StreamLayer over connections that others accept and dial.
//
// Dial waits for a peer that refuses: raft backs off by up to 10 s after
// errors, and a restarted server would be without news for as long. One
// dialler per peer tries; the others wait for it.
type Stream struct {
	self  raft.ServerID
	addr  net.Addr
	dial  DialFunc
	realm func() string
	log   *slog.Logger

	dials     context.Context // ended by Interrupt
	interrupt context.CancelFunc
	ctx       context.Context // ended by Close
	cancel    context.CancelFunc
	incoming  chan net.Conn

	mu    sync.Mutex // guards what follows; nothing blocks under it
	conns map[*streamConn]struct{}
	gates map[raft.ServerAddress]*gate
	held  bool
}

// gate lets one dial at a time try an absent peer.
type gate struct {
	token   chan struct{}
	waiters int
}

// NewStream returns a stream layer for the member self, at addr as others see
// it. realm names the raft group whose log this member has, "" while it has
// none; members of different groups do not talk, even if their ids fit.
func NewStream(self raft.ServerID, addr string, dial DialFunc, realm func() string, log *slog.Logger) *Stream {
	ctx, cancel := context.WithCancel(context.Background())
	dials, interrupt := context.WithCancel(ctx)
	return &Stream{
		self: self, addr: memberAddr(Address(self, addr)), dial: dial, realm: realm, log: log,
		dials: dials, interrupt: interrupt, ctx: ctx, cancel: cancel,
		incoming: make(chan net.Conn, incomingConnMax),
		conns:    make(map[*streamConn]struct{}),
		gates:    make(map[raft.ServerAddress]*gate),
	}
}

// memberAddr is an Address as net.Addr.
type memberAddr raft.ServerAddress

// Network implements net.Addr.
func (memberAddr) Network() string { return "chmpx" }

// String implements net.Addr.
func (a memberAddr) String() string { return string(a) }

// Address joins id and host:port to what raft calls an address, so that the
// dialler can tell the other side whom it wants to talk to.
func Address(id raft.ServerID, hostport string) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + hostport)
}

// splitAddress undoes Address.
func splitAddress(a raft.ServerAddress) (raft.ServerID, string) {
	id, hostport, _ := strings.Cut(string(a), "@")
	return raft.ServerID(id), hostport
}

// Deliver takes a connection that a mux accepted for raft. It reads for whom
// it is (a server that lost its disk has another id than the caller thinks)
// and hands it to raft, or closes it. It returns when that is done.
func (s *Stream) Deliver(conn net.Conn) {
	id, realm, err := readTarget(conn)
	own := s.realm()
	if held := s.isHeld(); err != nil || held || id != s.self || realm != "" && own != "" && realm != own {
		s.log.Debug("raft connection refused", "remote", conn.RemoteAddr().String(), "held", held,
			"for", string(id), "self", string(s.self), "realm", realm, "own", own, "err", err)
		conn.Close()
		return
	}
	if err := writeWelcome(conn); err != nil {
		conn.Close()
		return
	}
	s.DeliverStream(conn)
}

// DeliverStream takes a connection that is known to be for this member.
func (s *Stream) DeliverStream(conn net.Conn) {
	c := s.track(conn)
	if c == nil {
		return
	}
	select {
	case s.incoming <- c:
	case <-s.dials.Done():
		c.Close()
	}
}

// Accept implements net.Listener.
func (s *Stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.ctx.Done():
		return nil, errStreamClosed
	}
}

// Addr implements net.Listener.
func (s *Stream) Addr() net.Addr { return s.addr }

// Close does what Interrupt does and ends Accept. Idempotent.
func (s *Stream) Close() error {
	s.cancel()
	s.Interrupt()
	return nil
}

// Interrupt ends waiting dials and every connection, so that raft's goroutines
// come to an end; later dials fail at once. Idempotent.
func (s *Stream) Interrupt() {
	s.interrupt()
	s.closeAll()
}

func (s *Stream) closeAll() {
	s.mu.Lock()
	all := make([]*streamConn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// Hold cuts this member off: its connections are closed and there are no new
// ones, until Hold(false). To its peers it is as if it were dead.
func (s *Stream) Hold(on bool) {
	s.mu.Lock()
	s.held = on
	s.mu.Unlock()
	if on {
		s.closeAll()
	}
}

func (s *Stream) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// errHeld is returned to raft while the stream is held.
var errHeld = errors.New("raftnode: this member is cut off")

// Dial implements raft.StreamLayer. timeout is not used: see dialWait.
func (s *Stream) Dial(address raft.ServerAddress, _ time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.dials, dialWait)
	defer cancel()
	id, hostport := splitAddress(address)
	conn, err := s.attempt(ctx, id, hostport)
	if err != nil {
		conn, err = s.wait(ctx, address, err)
	}
	if err != nil {
		return nil, err
	}
	c := s.track(conn)
	if c == nil {
		return nil, errStreamClosed
	}
	return c, nil
}

// wait tries until the peer is there, one dial at a time per peer.
func (s *Stream) wait(ctx context.Context, address raft.ServerAddress, first error) (net.Conn, error) {
	g, ok := s.enter(address)
	if !ok {
		return nil, first
	}
	defer s.leave(address, g)
	select {
	case g.token <- struct{}{}:
		defer func() { <-g.token }()
	case <-ctx.Done():
		return nil, fmt.Errorf("dial raft peer %s: %w", address, first)
	}
	id, hostport := splitAddress(address)
	tick := time.NewTicker(dialRetry)
	defer tick.Stop()
	for {
		conn, err := s.attempt(ctx, id, hostport)
		if err == nil {
			return conn, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial raft peer %s: %w", address, err)
		}
	}
}

func (s *Stream) enter(address raft.ServerAddress) (*gate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[address]
	if g == nil {
		g = &gate{token: make(chan struct{}, 1)}
		s.gates[address] = g
	}
	if g.waiters >= dialWaitersMax {
		return nil, false
	}
	g.waiters++
	return g, true
}

func (s *Stream) leave(address raft.ServerAddress, g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.waiters--; g.waiters == 0 {
		delete(s.gates, address)
	}
}

func (s *Stream) attempt(ctx context.Context, id raft.ServerID, hostport string) (net.Conn, error) {
	if s.isHeld() {
		return nil, errHeld
	}
	if hostport == "" { // a slave: its session is waited for by the dial itself
		return s.dial(ctx, id, "")
	}
	ctx, cancel := context.WithTimeout(ctx, dialAttempt)
	defer cancel()
	conn, err := s.dial(ctx, id, hostport)
	if err != nil {
		return nil, err
	}
	// A peer that takes the connection and says nothing holds up no end.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	// Without a welcome nobody is there yet: raft's back-off must not see it.
	err = writeTarget(conn, id, s.realm())
	if err == nil {
		err = readWelcome(conn)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (s *Stream) track(conn net.Conn) *streamConn {
	c := &streamConn{Conn: conn, s: s}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	held := s.held
	s.mu.Unlock()
	if held || s.dials.Err() != nil {
		c.Close()
		return nil
	}
	return c
}

// streamConn is a connection that its Stream closes with itself.
type streamConn struct {
	net.Conn
	s *Stream
}

// Close implements net.Conn.
func (c *streamConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// writeTarget says for whom a connection is and of which group: length u16,
// "id@realm".
func writeTarget(conn net.Conn, id raft.ServerID, realm string) error {
	if err := conn.SetWriteDeadline(time.Now().Add(targetTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	target := string(id) + "@" + realm
	b := binary.LittleEndian.AppendUint16(nil, uint16(len(target)))
	if _, err := conn.Write(append(b, target...)); err != nil {
		return fmt.Errorf("write target of a raft connection: %w", err)
	}
	return conn.SetWriteDeadline(time.Time{})
}

// welcome answers a target: the member runs here.
const welcome = 1

func writeWelcome(conn net.Conn) error {
	if err := conn.SetWriteDeadline(time.Now().Add(targetTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := conn.Write([]byte{welcome}); err != nil {
		return fmt.Errorf("welcome a raft connection: %w", err)
	}
	return conn.SetWriteDeadline(time.Time{})
}

func readWelcome(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(dialAttempt)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return fmt.Errorf("raft member is not there: %w", err)
	}
	return conn.SetReadDeadline(time.Time{})
}

// readTarget reads what writeTarget wrote and not a byte more.
func readTarget(conn net.Conn) (id raft.ServerID, realm string, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(targetTimeout)); err != nil {
		return "", "", fmt.Errorf("set deadline: %w", err)
	}
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return "", "", fmt.Errorf("read target of a raft connection: %w", err)
	}
	n := binary.LittleEndian.Uint16(head[:])
	if n == 0 || n > targetBytesMax {
		return "", "", fmt.Errorf("read target of a raft connection: %d bytes, 1 to %d allowed", n, targetBytesMax)
	}
	target := make([]byte, n)
	if _, err := io.ReadFull(conn, target); err != nil {
		return "", "", fmt.Errorf("read target of a raft connection: %w", err)
	}
	word, realm, _ := strings.Cut(string(target), "@")
	if word == "" {
		return "", "", errors.New("read target of a raft connection: no member in it")
	}
	return raft.ServerID(word), realm, conn.SetReadDeadline(time.Time{})
}
