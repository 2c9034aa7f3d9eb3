package controlplane

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

// Limits of rpc connections.
const (
	rpcBytesMax    = 1 << 20
	rpcConnsMax    = 256 // served at a time
	rpcIdleConns   = 2   // kept per peer
	rpcIdleTimeout = time.Minute
	rpcWriteLimit  = 5 * time.Second
)

// errNoConnection is wrapped when no new connection could be made. Of callAnew
// it says that the request was not sent at all.
var errNoConnection = errors.New("controlplane: no connection")

// errRPC is wrapped by errors about bytes that are no rpc of ours.
var errRPC = errors.New("controlplane: invalid rpc")

// op names a request.
type op string

// The requests.
const (
	opProbe      op = "probe"       // who are you, have you a ring; probeAnswer
	opWho        op = "who"         // who answers at my address; whoAnswer
	opStandIns   op = "stand-ins"   // for whom do you stand in; standInsAnswer
	opPropose    op = "propose"     // proposeBody; proposeAnswer; leader only
	opCommand    op = "command"     // proposeBody; proposeAnswer; leader only; of operators
	opRead       op = "read"        // readAnswer; leader only
	opEvidence   op = "evidence"    // evidenceBody; leader only
	opJoinServer op = "join-server" // joinServerBody; joinAnswer; leader only
	opJoinSlave  op = "join-slave"  // joinSlaveBody; leader only
)

// code says how a request went.
type code string

// The codes of a response.
const (
	codeOK        code = ""
	codeNotLeader code = "not-leader" // Leader names it, if known
	codeRefused   code = "refused"    // for good: asking again does not help
	codeOtherRing code = "other-ring"
	codeGroup     code = "other-group"
	codeFailed    code = "failed" // this time
	codeLevel     code = "level"  // fsm.ErrLevel, and nothing is in the log
)

type request struct {
	Op     op              `json:"op"`
	Group  string          `json:"group"`
	RingID uint64          `json:"ring_id,omitempty"` // 0: the caller knows none
	From   ring.ID         `json:"from"`
	Slave  bool            `json:"slave,omitempty"`
	Boot   uint64          `json:"boot"`
	RaftID string          `json:"raft_id,omitempty"` // empty: raft does not run
	Body   json.RawMessage `json:"body,omitempty"`

	remote net.Addr // where it came from; nil: this process
}

type response struct {
	Code   code   `json:"code,omitempty"`
	Text   string `json:"text,omitempty"`
	Leader string `json:"leader,omitempty"` // host:port
	// Refusal is the text of fsm's sentinel, with codeRefused: the entry is in the log.
	Refusal string `json:"refusal,omitempty"`
	// Uncertain: the request failed, and may have been done all the same.
	Uncertain bool            `json:"uncertain,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"`
}

// err returns what a response that is not OK means to the caller.
func (r *response) err() error {
	switch r.Code {
	case codeOK:
		return nil
	case codeNotLeader:
		return fmt.Errorf("%w: the server asked does not lead", ErrNoLeader)
	case codeRefused:
		if is := fsm.Refusal(r.Refusal); is != nil {
			return fmt.Errorf("%w: %w", ErrRefused, &refusal{text: r.Text, is: is})
		}
		return fmt.Errorf("%w: %s", ErrRefused, r.Text)
	case codeLevel:
		return fmt.Errorf("%w: %w", ErrRefused, &refusal{text: r.Text, is: fsm.ErrLevel})
	case codeOtherRing, codeGroup:
		return fmt.Errorf("%w: %s", ErrOtherRing, r.Text)
	}
	return errors.New(r.Text)
}

// writeFrame writes v with a 4-byte little-endian length before it.
func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode rpc: %w", err)
	}
	if len(body) > rpcBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d allowed", errRPC, len(body), rpcBytesMax)
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := w.Write(append(b, body...)); err != nil {
		return fmt.Errorf("write rpc: %w", err)
	}
	return nil
}

// readFrame reads what writeFrame wrote. The length is checked before memory
// is taken.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read rpc: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > rpcBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d allowed", errRPC, n, rpcBytesMax)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read rpc: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", errRPC, err)
	}
	return nil
}

// rpcClient sends requests and keeps a few connections to each server.
type rpcClient struct {
	dial mux.Dialer

	mu     sync.Mutex // guards what follows; nothing blocks under it
	idle   map[string][]net.Conn
	closed bool
}

func newRPCClient(dial mux.Dialer) *rpcClient {
	return &rpcClient{dial: dial, idle: make(map[string][]net.Conn)}
}

// call sends one request and waits for its response until ctx ends. A request
// may arrive twice: a kept connection that turns out to be dead is replaced.
func (c *rpcClient) call(ctx context.Context, addr string, req *request) (*response, error) {
	for conn := c.take(addr); conn != nil; conn = c.take(addr) {
		resp, err := c.exchange(ctx, addr, conn, req)
		if err == nil || ctx.Err() != nil {
			return resp, err
		}
	}
	return c.callAnew(ctx, addr, req)
}

// callAnew is call over a new connection: to whoever answers at addr now.
func (c *rpcClient) callAnew(ctx context.Context, addr string, req *request) (*response, error) {
	conn, err := mux.Dial(ctx, c.dial, addr, mux.KindRPC)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoConnection, err)
	}
	return c.exchange(ctx, addr, conn, req)
}

func (c *rpcClient) exchange(ctx context.Context, addr string, conn net.Conn, req *request) (*response, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	resp := new(response)
	err := writeFrame(conn, req)
	if err == nil {
		err = readFrame(conn, resp)
	}
	if !stop() || err != nil {
		conn.Close()
		if err == nil || ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%s at %s: %w", req.Op, addr, err)
	}
	c.keep(addr, conn)
	return resp, nil
}

func (c *rpcClient) take(addr string) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.idle[addr]
	if len(l) == 0 {
		return nil
	}
	conn := l[len(l)-1]
	c.idle[addr] = l[:len(l)-1]
	return conn
}

func (c *rpcClient) keep(addr string, conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle[addr]) >= rpcIdleConns {
		conn.Close()
		return
	}
	c.idle[addr] = append(c.idle[addr], conn)
}

// close closes the kept connections. Idempotent.
func (c *rpcClient) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.idle {
		for _, conn := range l {
			conn.Close()
		}
	}
	clear(c.idle)
}

// rpcServer serves the connections of KindRPC.
type rpcServer struct {
	handle func(context.Context, *request) *response

	ctx    context.Context // ended by close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows; nothing blocks under it
	conns  map[net.Conn]struct{}
	closed bool
}

func newRPCServer(handle func(context.Context, *request) *response) *rpcServer {
	ctx, cancel := context.WithCancel(context.Background())
	return &rpcServer{handle: handle, ctx: ctx, cancel: cancel, conns: make(map[net.Conn]struct{})}
}

// serve is the mux's handler: it answers requests in turn until the connection
// ends or has been idle for a minute.
func (s *rpcServer) serve(conn net.Conn) {
	defer conn.Close()
	if !s.track(conn) {
		return
	}
	defer s.untrack(conn)
	for {
		req := new(request)
		if conn.SetReadDeadline(time.Now().Add(rpcIdleTimeout)) != nil || readFrame(conn, req) != nil {
			return
		}
		req.remote = conn.RemoteAddr()
		resp := s.handle(s.ctx, req)
		if conn.SetWriteDeadline(time.Now().Add(rpcWriteLimit)) != nil || writeFrame(conn, resp) != nil {
			return
		}
	}
}

func (s *rpcServer) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= rpcConnsMax {
		return false
	}
	s.conns[conn] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *rpcServer) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	s.wg.Done()
}

// close ends every connection and waits for their handlers. Idempotent.
func (s *rpcServer) close() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
