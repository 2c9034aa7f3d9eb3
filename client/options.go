package client

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// Role says which side of the ring a program is.
type Role = wire.Role

// The roles of a program.
const (
	// RoleClient sends and takes replies.
	RoleClient = wire.RoleClient
	// RoleServer also takes the messages of the keys that its node owns. Only
	// server nodes accept it.
	RoleServer = wire.RoleServer
)

// Options say which node to attach to, and as what.
type Options struct {
	Config  string       // configuration file of the node
	JSON    string       // configuration of the node as JSON, without Config; without both CHMCONFFILE and CHMJSONCONF count
	CtlPort int          // control port of the node; 0: as the configuration says
	CUK     string       // CUK of the node; "": as the configuration says
	Socket  string       // attach socket; takes the place of Config, JSON, CtlPort and CUK
	Role    Role         // default RoleClient
	Name    string       // shown in the node's status, at most 64 bytes
	Logger  *slog.Logger // default: silent
	// AckOnDone makes a server program take a message when it is done with it:
	// Receive must be followed by Done, Serve does that when the handler has
	// returned and the reply is accepted. What a program was given and has not
	// done when it ends is given to another one, marked MaybeRepeat. Without it
	// a message is taken when Receive returns it.
	AckOnDone bool
	// ColdWait makes waiting goroutines sleep at once. Without it the one that
	// reads from the node looks again for up to about 100 µs, giving the processor away
	// in between, if answers or messages lately came so fast. HOTWAIT = off in Config
	// or JSON does the same, unless Socket is given: then neither is read.
	ColdWait bool
	// Undelivered is called for each message that Send, SendRandom, Broadcast or
	// Replicate had accepted and that the ring has given up: its deadline
	// passed, it does not fit the rings of its receiver's node, or a message for
	// all found nobody. Calls come one after the other from a goroutine of the
	// Client; Close waits for the one that runs, so it must not call Close. Up to
	// 1,024 calls may be waiting; what comes beyond them is only counted
	// (Stats.UndeliveredMissed).
	Undelivered func(Undelivered)

	// System is how the node is attached to; default shm.Kernel(). A ring within
	// one process, for tests, has an shm.Heap. Its type may change in any version.
	System shm.System

	lostReplyWait time.Duration // of tests; default lostReplyWait
}

func (o *Options) setDefaults() error {
	if o.Role == 0 {
		o.Role = RoleClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.System == nil {
		o.System = shm.Kernel()
	}
	if o.lostReplyWait == 0 {
		o.lostReplyWait = lostReplyWait
	}
	switch {
	case o.Role != RoleClient && o.Role != RoleServer:
		return fmt.Errorf("%w: unknown role %v", ErrOptions, o.Role)
	case len(o.Name) > wire.AttachNameBytesMax:
		return fmt.Errorf("%w: Name has %d bytes, at most %d allowed", ErrOptions, len(o.Name), wire.AttachNameBytesMax)
	case o.Socket != "":
		return nil
	}
	source, err := config.FindSource(o.Config, o.JSON)
	if err != nil {
		return fmt.Errorf("%w: Config, JSON or Socket is needed: %w", ErrOptions, err)
	}
	o.Config, o.JSON = source.Path, source.Text
	return nil
}

// CallOption changes one call that sends.
type CallOption struct {
	repeatable  bool
	ownerWait   time.Duration
	needOwner   bool
	withoutSelf bool
	deadline    time.Time
}

// Repeatable lets a Request whose server ended before it replied be sent
// again, marked MaybeRepeat, until its context ends. Other calls ignore it.
func Repeatable() CallOption { return CallOption{repeatable: true} }

// FailWithoutOwner makes the call fail with ErrNoOwner, and the message not be
// sent, when the node knows no server in service for that long; right after
// Attach the node may need some milliseconds to tell. Without this option the
// message is kept until there is one. TryRequestAsync ignores it.
func FailWithoutOwner(wait time.Duration) CallOption {
	return CallOption{ownerWait: wait, needOwner: true}
}

// Deadline gives a message up that no server program has taken by then: it is
// not kept any longer, and Options.Undelivered, or the error of SendWait and of
// requests, tells. It counts to the millisecond, by the clock of this host. A
// Request has the deadline of its context, too; the earlier one counts.
func Deadline(t time.Time) CallOption { return CallOption{deadline: t} }

// WithoutSelf keeps a message of SendRandom, Broadcast or Replicate, and of
// their requests, from the server program of this program's own node. Calls
// that send by hash ignore it.
func WithoutSelf() CallOption { return CallOption{withoutSelf: true} }

func combine(opts []CallOption) CallOption {
	var all CallOption
	for _, o := range opts {
		all.repeatable = all.repeatable || o.repeatable
		all.withoutSelf = all.withoutSelf || o.withoutSelf
		if o.needOwner {
			all.needOwner, all.ownerWait = true, o.ownerWait
		}
		if !o.deadline.IsZero() && (all.deadline.IsZero() || o.deadline.Before(all.deadline)) {
			all.deadline = o.deadline
		}
	}
	return all
}

// deadlineMs returns the deadline of a record, 0 for none.
func (o *CallOption) deadlineMs() int64 {
	if o.deadline.IsZero() {
		return 0
	}
	return max(fault.Wall(o.deadline).UnixMilli(), 1)
}

// flags returns the flags of a message that does not go by hash.
func (o *CallOption) flags() wire.Flags {
	if o.withoutSelf {
		return wire.FlagWithoutSelf
	}
	return 0
}

// The errors of this package, for errors.Is. When a context ended a call, its
// error is joined in.
var (
	// ErrOptions says that Options do not name a node or hold bad values.
	ErrOptions = errors.New("client: bad options")
	// ErrNoNode says that there is no node to attach to.
	ErrNoNode = errors.New("client: no node")
	// ErrForeignDir says that strangers could have put the attach socket where it
	// is: it is not used.
	ErrForeignDir = errors.New("client: the run directory is not safe")
	// ErrRefused says that the node refused the attachment.
	ErrRefused = errors.New("client: attachment refused")
	// ErrNoRoom says that the node has no shared memory left for another program.
	ErrNoRoom = errors.New("client: no shared memory left on the node")
	// ErrClosed says that the Client was closed.
	ErrClosed = errors.New("client: closed")
	// ErrBackpressure says that a message was not sent because there was no room for it.
	ErrBackpressure = errors.New("client: no room to send")
	// ErrTooLarge says that a payload is larger than MessageBytesMax.
	ErrTooLarge = errors.New("client: payload too large")
	// ErrNoOwner says that no server is in service (FailWithoutOwner).
	ErrNoOwner = errors.New("client: no server in service")
	// ErrNotDelivered says that no server program has seen or will see the message.
	ErrNotDelivered = errors.New("client: not delivered")
	// ErrMaybeDelivered says that a server program may have seen the message, or still may.
	ErrMaybeDelivered = errors.New("client: maybe delivered")
	// ErrNotServer says that a Client that is not RoleServer cannot receive.
	ErrNotServer = errors.New("client: not attached as server program")
	// ErrNoReplyWanted says that Reply was called for a message that is no request.
	ErrNoReplyWanted = errors.New("client: the message wants no reply")
)
