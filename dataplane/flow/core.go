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
	// ErrWindow says that a record's sequence lies Window or more past the
	// oldest unsettled one. The record may be submitted again later.
	ErrWindow = errors.New("flow: sequence past the window")
	// ErrEnded says that the session has ended.
	ErrEnded = errors.New("flow: session has ended")
)

// Config says who a Core works for. The zero value of a number means its default.
type Config struct {
	Self        ring.ID
	Slave       bool  // a slave node: it owns nothing
	SessionsMax int   // senders' sessions whose sequences are remembered; default 4,096
	RetryMinNs  int64 // first back-off after a refusal; default 1 ms
	RetryMaxNs  int64 // longest back-off; default 50 ms
	StandInNs   int64 // after how long without a way to a server another one may stand in for it; 0: never
	ReplyHoldNs int64 // how long a reply waits for a way to its asker; default 1 s
}

func (cfg *Config) setDefaults() {
	if cfg.SessionsMax <= 0 {
		cfg.SessionsMax = 4096
	}
	if cfg.RetryMinNs <= 0 {
		cfg.RetryMinNs = 1e6
	}
	if cfg.RetryMaxNs < cfg.RetryMinNs {
		cfg.RetryMaxNs = max(50e6, cfg.RetryMinNs)
	}
	if cfg.ReplyHoldNs <= 0 {
		cfg.ReplyHoldNs = 1e9
	}
}

// Core is the delivery core of one node. See the package comment for who may
// call it. The owner calls Flush after each batch of events.
type Core struct {
	cfg   Config
	ports Ports
	stats Stats

	// The view.
	table       *ring.Table
	epoch       ring.Epoch       // of table
	self        ring.Incarnation // of this node, 0 = not admitted
	selfIndex   int              // of this node in table under self, -1 = not there
	admittedInc ring.Incarnation // the incarnation that admitted belongs to
	admitted    ring.Epoch       // epoch of the first table that showed self
	seal        *ring.SlotSet
	sealed      int   // untaken records in sealed slots
	held        bool  // see Hold
	cuts        int   // peers that are cut off
	standing    int   // peers that this node stands in for
	noneBefore  int64 // until then it begins to do so for no other one
	askNs       int64 // when to look again for whom another one is to be asked
	lookAt      int   // the session that was looked at last for that

	// Peers and sessions of this node.
	peers      map[ring.ID]*Peer
	peerList   []*Peer
	dests      []*Peer // peers that are or were servers of a table, by Peer.dest
	servers    []*Peer // by index into table.Servers
	sessions   []*Session
	byID       map[wire.SessionID]*Session
	byStream   map[uint32]*Session
	lastFound  *Session // of byID
	lastStream uint32
	rotor      int              // which session is served first
	serving    []*Peer          // the servers that random messages go round, as of table
	rounds     [roundsEnd]round // where they are
	ending     []*Session
	gone       goneSessions
	dueNs      int64 // no Tick before can do anything

	// Receiving.
	sets     map[wire.SessionID]*inSet
	newest   *inSet // ends of the list by last use
	oldest   *inSet
	acks     []*inSet   // with acknowledgements pending
	answers  []*Peer    // with reply acknowledgements pending
	waiters  []*inSet   // refused for a reason that is not one program's
	programs []*Session // attached server programs that take new messages
	joining  []*Session // attached, but the chain is full
	chain    []fence
	restored []restored   // fences of programs that came back with records
	lost     lostRequests // that their askers' nodes do not know of, oldest first
	turn     int          // the program that got a message in turns last
	untaken  int          // delivered, not taken, all programs
	orphans  int          // of these, records of forgotten sets
	numbers  int          // next number of a program

	fansFree []*fan   // to be used again
	chosen   []int    // scratch of chooseCopies
	owners   []int    // scratch of ownersOf
	asking   []asking // scratch of lookForDeputies

	// Scratch for calls of ports, which must not keep what they are given.
	header   wire.Header
	delivery Delivery
}

// New returns a core without peers, sessions or table.
func New(cfg Config, p Ports) *Core {
	cfg.setDefaults()
	return &Core{
		cfg: cfg, ports: p, selfIndex: -1, dueNs: never,
		peers: map[ring.ID]*Peer{}, byID: map[wire.SessionID]*Session{}, byStream: map[uint32]*Session{},
		sets: map[wire.SessionID]*inSet{},
	}
}

// Frame handles a frame that arrived from p, of the types that carry messages,
// replies and what answers them; others are counted and ignored. payload is
// not kept. Frames of an earlier link must not come after PeerDown.
func (c *Core) Frame(nowNs int64, p *Peer, h *wire.Header, payload []byte) {
	if !p.up {
		c.stats.Violations++
		return
	}
	switch h.Type {
	case wire.TypeMessage:
		c.message(nowNs, p, h, payload)
	case wire.TypeAck:
		c.acknowledged(nowNs, p, h)
	case wire.TypeLater, wire.TypeMoved:
		c.refused(nowNs, p, h)
	case wire.TypeRoom:
		c.roomAt(nowNs, p, h)
	case wire.TypeBye:
		c.forget(c.sets[h.Session])
		c.lost.drop(&h.Session, 0)
	case wire.TypeRequestLost:
		c.requestLost(p, h)
	case wire.TypeReply:
		c.reply(nowNs, p, h, payload)
	case wire.TypeReplyAck:
		c.replyAcknowledged(p, h)
	case wire.TypeReplyLater:
		c.replyRefused(nowNs, p, h)
	default:
		c.stats.Violations++
	}
	c.reap()
}

// Flush sends the acknowledgements that the events since the last Flush have
// left pending. The owner calls it at the end of each batch of events.
func (c *Core) Flush() {
	for i, set := range c.acks {
		set.ackQueued = false
		c.sendAck(set)
		c.acks[i] = nil
	}
	c.acks = c.acks[:0]
	for i, p := range c.answers {
		p.answerQueued = false
		c.sendReplyAcks(p)
		c.answers[i] = nil
	}
	c.answers = c.answers[:0]
}

// Tick passes time: back-offs end, deadlines and holds expire, tables are asked
// for again. It does nothing before something is due.
func (c *Core) Tick(nowNs int64) {
	if nowNs < c.dueNs {
		return
	}
	c.dueNs = never
	c.rotor++ // else those that are tried first get all the room there is
	first := c.rotor % max(len(c.sessions), 1)
	c.tick(nowNs, c.sessions[first:])
	c.tick(nowNs, c.sessions[:first])
	for _, p := range c.peerList {
		c.pullAgain(nowNs, p)
	}
	c.tickAway(nowNs)
	c.reap()
}

func (c *Core) tick(nowNs int64, sessions []*Session) {
	for _, s := range sessions {
		if nowNs >= s.requests.dueNs {
			c.scan(nowNs, s)
		}
		if nowNs >= s.replies.dueNs {
			c.scanReplies(nowNs, s)
		}
		c.dueNs = min(c.dueNs, s.requests.dueNs, s.replies.dueNs)
	}
}

// ReportsMax returns how many calls of Outcome, Receivers and RequestFailed can
// still follow for what one session has submitted: for a window full of requests
// to every server two and one per copy, and one for each request that waits for
// its reply. It grows with the servers that tables have shown.
func (c *Core) ReportsMax() int { return Window*(2+len(c.dests)) + awaitSlots }

// Waiting reports whether Tick and Taken should come soon: something waits for
// time to pass, or a program has records that it may take at any moment.
func (c *Core) Waiting() bool { return c.untaken > 0 || c.dueNs != never }

// DueNs returns when Tick can do something next, the largest time if nothing waits.
func (c *Core) DueNs() int64 { return c.dueNs }

// due notes that Tick can do something for w at a time.
func (c *Core) due(w *window, atNs int64) {
	w.due(atNs)
	c.dueNs = min(c.dueNs, atNs)
}

// Stats are counters since New; they only grow.
type Stats struct {
	Submitted      uint64 `json:"submitted"`       // messages taken over from programs
	Transmitted    uint64 `json:"transmitted"`     // messages put on links, each time
	Resent         uint64 `json:"resent"`          // messages transmitted again because a link broke
	Repeats        uint64 `json:"repeats"`         // messages marked as maybe repeated because their destination ended
	Acked          uint64 `json:"acked"`           // messages settled by an acknowledgement
	Expired        uint64 `json:"expired"`         // messages dropped at their deadline
	Stale          uint64 `json:"stale"`           // refusals of an earlier attempt, ignored
	RequestsFailed uint64 `json:"requests_failed"` // requests whose server ended before it replied
	CopiesTaken    uint64 `json:"copies_taken"`    // copies of replicated and broadcast messages that were taken
	CopiesGivenUp  uint64 `json:"copies_given_up"` // of these kinds, copies whose server left or ended, or that came to their deadline

	Accepted  uint64 `json:"accepted"`  // messages given to a program
	StoodIn   uint64 `json:"stood_in"`  // of these, in the place of a server that could not be reached
	Taken     uint64 `json:"taken"`     // of these, taken by it
	Withdrawn uint64 `json:"withdrawn"` // of these, untaken when it ended
	Restored  uint64 `json:"restored"`  // messages that a program brought back after a restart of the node
	Known     uint64 `json:"known"`     // messages that came again and were not given again
	Later     uint64 `json:"later"`     // messages refused for now
	TooLarge  uint64 `json:"too_large"` // messages refused for good: they do not fit this node's rings
	Moved     uint64 `json:"moved"`     // messages refused, not the owner
	Rooms     uint64 `json:"rooms"`     // refusals lifted
	Sessions  uint64 `json:"sessions"`  // senders' sessions ever remembered
	Evicted   uint64 `json:"evicted"`   // of these, forgotten for want of space

	RequestsLost     uint64 `json:"requests_lost"`     // requests that programs here took, and whose replies will not come
	RepliesSent      uint64 `json:"replies_sent"`      // replies put on links, each time
	RepliesDropped   uint64 `json:"replies_dropped"`   // replies without a way to their asker
	RepliesDelivered uint64 `json:"replies_delivered"` // replies given to a program
	RepliesStray     uint64 `json:"replies_stray"`     // replies for a program that is gone
	RepliesRefused   uint64 `json:"replies_refused"`   // replies refused for now

	TablePulls uint64 `json:"table_pulls"` // newer tables asked for
	Violations uint64 `json:"violations"`  // frames against the rules, ignored
}

// Stats returns the counters.
func (c *Core) Stats() Stats { return c.stats }
