package flow

import (
	"errors"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// Errors of Submit.
var (
	// ErrSequence says that a record's sequence does not grow.
	ErrSequence = errors.New("flow: sequence does not grow")
	// ErrWindow says that a record's sequence lies Window or more past the oldest unsettled one.
	ErrWindow = errors.New("flow: sequence past the window")
	// ErrEnded says that the session has ended.
	ErrEnded = errors.New("flow: session has ended")
)

// Config says who a Core works for. The zero value of a number means its default.
type Config struct {
	Self        ring.ID
	Slave       bool  // a slave node: it owns nothing and takes no server programs
	SessionsMax int   // senders' sessions to remember; default 4,096
	RetryMinNs  int64 // first back-off after a refusal; default 1 ms
	RetryMaxNs  int64 // longest back-off; default 50 ms
	ReplyHoldNs int64 // how long a reply waits for a way to its asker; default 1 s
}

// Core is the delivery core of one node. See the package comment for who may call it.
type Core struct {
	cfg   Config
	ports Ports
}

// Peer is another node, or this node itself, at the far end of a link.
type Peer struct {
	Handle any // for the owner of the core
	id     ring.ID
}

// ID returns the id that the peer was created with.
func (p *Peer) ID() ring.ID { return p.id }

// Session is one attachment of one program of this node.
type Session struct {
	Handle any // for the owner of the core
	id     wire.SessionID
}

// ID returns the session's id.
func (s *Session) ID() wire.SessionID { return s.id }

// Stats are counters since New; they only grow.
type Stats struct {
	Submitted uint64 `json:"submitted"` // records of both streams taken from programs
}

// New returns a core without peers, sessions or table.
func New(cfg Config, p Ports) *Core { return &Core{cfg: cfg, ports: p} }

// Peer returns the peer with this id, creating it at first.
func (c *Core) Peer(id ring.ID) *Peer { return &Peer{id: id} }

// PeerUp says that a link to p is established and its hello named inc.
func (c *Core) PeerUp(nowNs int64, p *Peer, inc ring.Incarnation) {}

// PeerDown says that the link to p is gone, with every frame in flight.
func (c *Core) PeerDown(p *Peer) {}

// PeerRoom says that the link to p has room again after TransmitRecord reported false.
func (c *Core) PeerRoom(nowNs int64, p *Peer) {}

// Attach registers a program.
func (c *Core) Attach(nowNs int64, id wire.SessionID, server bool) *Session { return &Session{id: id} }

// Detach says that the program of s has ended.
func (c *Core) Detach(nowNs int64, s *Session) {}

// Accepts returns how many more records of the stream may be submitted now.
func (c *Core) Accepts(s *Session, st Stream) int { return 0 }

// Submit hands a record over for delivery.
func (c *Core) Submit(nowNs int64, s *Session, st Stream, r *Record) error { return nil }

// Frame handles a frame that arrived from p.
func (c *Core) Frame(nowNs int64, p *Peer, h *wire.Header, payload []byte) {}

// Taken tells the head cursor of the request in-ring of s.
func (c *Core) Taken(nowNs int64, s *Session, head uint64) {}

// Delivered reports whether s has untaken records.
func (c *Core) Delivered(s *Session) bool { return false }

// SetView installs a table, this node's incarnation and the sealed slots.
func (c *Core) SetView(nowNs int64, t *ring.Table, self ring.Incarnation, seal *ring.SlotSet) {}

// Drained reports whether no untaken record lies in a sealed slot.
func (c *Core) Drained() bool { return true }

// Waiting reports whether Tick and Taken should come soon.
func (c *Core) Waiting() bool { return false }

// Tick passes time.
func (c *Core) Tick(nowNs int64) {}

// Flush sends the acknowledgements that the last events left pending.
func (c *Core) Flush() {}

// Stats returns the counters.
func (c *Core) Stats() Stats { return Stats{} }
