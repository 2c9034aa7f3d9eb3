package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

// Errors of this package.
var (
	// ErrConfig is wrapped by every error about an impossible Config.
	ErrConfig = errors.New("controlplane: invalid configuration")
	// ErrLocked says that another process holds the data directory.
	ErrLocked = raftnode.ErrLocked
	// ErrNoLeader says that no leader took a request in time.
	ErrNoLeader = errors.New("controlplane: no leader")
	// ErrRefused is wrapped when the leader refused a request for good.
	ErrRefused = errors.New("controlplane: refused")
	// ErrOtherRing says that the other side belongs to another ring or has another configuration.
	ErrOtherRing = errors.New("controlplane: another ring")
	// ErrStateMachine is wrapped when the node must stop because it cannot apply an entry of the log.
	ErrStateMachine = errors.New("controlplane: state machine failed")
)

// Member is a node as the configuration file names it.
type Member struct {
	ID ring.ID
	ring.Identity
	Addr string // host:port of PORT, resolved when dialled; empty for a slave
}

// Config says how to build a Plane. Zero durations and counts take the default
// named beside them.
type Config struct {
	Self    Member     // this node
	Group   string     // GROUP
	Params  fsm.Params // ring-wide values; they count only for the node that starts the ring. MaxVoters: odd, 1 to 63, 0 means 5
	Servers []Member   // all servers of the configuration, in any order; contains Self unless Slave; see Plane.SetServers
	Slave   bool       // this node is a slave: never a voter, nothing on disk
	DataDir string     // servers only; created if missing (0750)
	// Bootstrap starts a ring of one, unless somebody answers with a ring of this
	// Group, which is joined then. A server that has a ring on its disk goes on with
	// it alone if it is proven that this ring has lost its majority for good, and
	// ends with ErrOtherRing if somebody answers with another ring.
	Bootstrap bool

	Mux    *mux.Server  // servers only: New registers the kinds raft, rpc and session; Run of it is the caller's
	Dial   mux.Dialer   // nil: mux.DialTCP
	Logger *slog.Logger // nil: discards

	// SlaveMay says whether the host of a slave may change the ring by what its
	// operators ask for, as CTLSLAVES says for the control port. It may look names up, so it may
	// block until ctx ends; any goroutine. nil: every one may.
	SlaveMay func(ctx context.Context, remote net.Addr) bool

	// OnView takes every new state that this node has applied, in log order and
	// never concurrently, with the incarnation under which this process start is
	// admitted (0: not admitted, or no longer). Intermediate states may be left
	// out. It runs on a goroutine of its own; nil is allowed.
	OnView func(v fsm.View, self ring.Incarnation)

	// Hold is asked before the ring is told that this server has no program. It
	// returns false if one is attached by now; else programs that come take
	// nothing until Release is called: at the latest when OnView has had what the
	// ring decided. Both are nil, or neither; they need OnView.
	Hold    func() bool
	Release func()

	// OnRestart is called when the ring wants this process to restart: it is to
	// Leave and to end, and its server to be started again within hold. It must
	// not block; nil: the wish is ignored, and passes.
	OnRestart func(hold time.Duration)

	// OnLease hears true when no leader was heard for OwnerLease, and false when one
	// is again and OnView has had what was decided meanwhile. It must not block for
	// long.
	OnLease func(lapsed bool)

	// StandIns returns the notes of this server about those that it stands in for, or
	// has. With collect the leader wants to admit a start: what is not noted now must not
	// begin for CollectHold. ForgetStandIn says that the ring knows of a note, so that it may go from
	// the disk. Neither may block for long; both are nil, or neither; they need OnView.
	StandIns      func(collect bool) []ring.StandIn
	ForgetStandIn func(n ring.StandIn)

	// Build is what this program speaks; another one than the zero value is for tests.
	Build fsm.Build

	Times
	StandbyAfter time.Duration // a voter that has not been UP for so long loses its vote to a standby that has caught up; default 1 min
	StrayAfter   time.Duration // a server that joined raft, never came up and has not been heard for so long is removed from raft; default 10 min
	SlaveGrace   time.Duration // a slave without session for so long is down; default 5 s
	SlaveGC      time.Duration // SLAVEGC: a slave down for so long is removed; default 10 min
	NoSync       bool          // do not fsync the log: tests only
}

// Times are what may change while a plane runs; see SetTimes.
type Times struct {
	OwnerLease   time.Duration // OWNERLEASE, see OnLease; 0: off
	SuspendGrace time.Duration // SUSPENDGRACE: how long a server may be without program; default 1 s
	DownOut      time.Duration // DOWNOUT: AUTOMERGE takes a server out that has been down for so long; default 60 s
	UpBackoffMax time.Duration // UPBACKOFFMAX: longest wait before coming up again after a flap; default 60 s
	// AwaitStandIns: as leader this server admits a start only when all servers that
	// are UP have told for whom they stood in, or a while has passed.
	AwaitStandIns bool
}

func (t *Times) setDefaults() {
	t.SuspendGrace = cmp.Or(t.SuspendGrace, time.Second)
	t.DownOut = cmp.Or(t.DownOut, time.Minute)
	t.UpBackoffMax = cmp.Or(t.UpBackoffMax, time.Minute)
}

// SetTimes replaces Config.Times. An OwnerLease needs OnLease. Any goroutine.
func (p *Plane) SetTimes(t Times) {
	t.setDefaults()
	p.mu.Lock()
	p.times = t
	p.mu.Unlock()
	p.reports.raise()
	p.merging.raise()
}

func (p *Plane) timesNow() Times {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times
}

// maxVoters is the most voters that any ring may be configured for.
const maxVoters = 63

// withDefaults returns c with its zero values replaced, or every mistake in it.
func (c Config) withDefaults() (Config, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	c.Times.setDefaults()
	def(&c.StandbyAfter, time.Minute)
	def(&c.StrayAfter, 10*time.Minute)
	def(&c.SlaveGrace, 5*time.Second)
	def(&c.SlaveGC, 10*time.Minute)
	if c.Params.MaxVoters == 0 {
		c.Params.MaxVoters = 5
	}
	if c.Dial == nil {
		c.Dial = mux.DialTCP
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Servers = slices.Clone(c.Servers)
	slices.SortFunc(c.Servers, func(a, b Member) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	return c, c.validate()
}

func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if c.Self.ID == 0 {
		bad("Self.ID is zero")
	}
	if v := c.Params.MaxVoters; v < 1 || v > maxVoters || v%2 == 0 {
		bad("Params.MaxVoters %d, odd numbers from 1 to %d are allowed", v, maxVoters)
	}
	if c.OwnerLease != 0 && (c.OnLease == nil || c.OnView == nil) {
		bad("OwnerLease %v without OnLease or OnView", c.OwnerLease)
	}
	if len(c.Servers) == 0 {
		bad("Servers is empty")
	}
	for i, m := range c.Servers {
		if m.ID == 0 || (i > 0 && c.Servers[i-1].ID == m.ID) {
			bad("server %s: id %s is zero or listed twice", m.Name, m.ID)
		}
		if _, _, err := net.SplitHostPort(m.Addr); err != nil {
			bad("server %s: address %q: %v", m.Name, m.Addr, err)
		}
	}
	if c.Slave == (c.server(c.Self.ID) != nil) {
		bad("Self %s: Slave is %t, yet listed among the servers: %t", c.Self.ID, c.Slave, !c.Slave)
	}
	if c.Slave && c.Bootstrap {
		bad("--bootstrap on a slave: only a server can start a ring")
	}
	if (c.Hold == nil) != (c.Release == nil) || c.Hold != nil && c.OnView == nil {
		bad("of OnView, Hold and Release some are missing")
	}
	if (c.StandIns == nil) != (c.ForgetStandIn == nil) || c.StandIns != nil && c.OnView == nil {
		bad("of OnView, StandIns and ForgetStandIn some are missing")
	}
	if !c.Slave && (c.DataDir == "" || c.Mux == nil) {
		bad("a server needs DataDir and Mux")
	}
	return errors.Join(errs...)
}

// server returns the configured server with this id, nil if there is none.
func (c *Config) server(id ring.ID) *Member {
	i := slices.IndexFunc(c.Servers, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return &c.Servers[i]
}

// label returns how to call a node in logs and status: name:ctlport.
func (m *Member) label() string {
	return fmt.Sprintf("%s:%d", m.Name, m.CtlPort)
}

// addrs joins the addresses of members for a message.
func addrs(ms []Member) string {
	s := make([]string, len(ms))
	for i, m := range ms {
		s[i] = m.Addr
	}
	return strings.Join(s, ", ")
}
