// Package controlplane keeps the ring agreed: it runs raft, decides who is
// alive, drives merges, and answers operators. Every change of the ring is a
// command in the raft log, applied by package fsm on every node; the states
// that result leave through Config.OnView.
//
// It carries no messages and knows no data plane: evidence about links and
// programs comes in by methods of Plane, tables go out by OnView, and the data
// plane goes on without it.
//
// All methods of Plane may be called from any goroutine, at any time between
// New and the end of Run; none of them waits for a commit except Leave, Command,
// Consistent and Refresh.
package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

// Plane is the control plane of one node.
type Plane struct {
	cfg    Config
	log    *slog.Logger
	boot   uint64 // random, names this process start
	digest string // of the configuration, see digestOf

	dir       *raftnode.Dir // nil on a slave
	stores    *raftnode.Stores
	hadState  bool          // raft has run on these stores before
	lastEntry atomic.Uint64 // index of the last entry on disk, while raft does not run and --bootstrap is given
	alone     atomic.Bool   // this start has started a ring of one
	listed    bool          // by the log that this start found on its disk, committed or not
	realm     atomic.Uint64 // id of the ring whose log this node has, 0: none yet; servers keep it on disk
	sessions  *mux.Sessions
	client    *rpcClient
	server    *rpcServer
	servers   atomic.Pointer[[]Member] // of the configuration, sorted by id
	fsm       atomic.Pointer[fsm.RaftFSM]
	fatal     chan error // buffered; the state machine cannot go on

	node   atomic.Pointer[raftnode.Node]   // nil until raft runs
	stream atomic.Pointer[raftnode.Stream] // set just before node
	raftID atomic.Pointer[raft.ServerID]   // set with stream

	answeredBy atomic.Pointer[string] // address of who answered last what was brought to the leader, nil: nobody yet

	applied  signal // a new view, or a new leader
	reports  signal // something for the report loop
	evidence signal // something for the evidence loop
	judging  signal // something for the verdict
	commits  signal // an entry was committed here: followers should hear of it
	members  signal // something for the member loop
	merging  signal // a new view, for the merge driver
	looking  signal // a new leader, or none
	relisted signal // slave: the servers of the configuration are others
	outlived signal // slave: the ring that this node knows is no more, and there is another one
	doubts   signal // who answers at this server's address may be another process

	asked   atomic.Int64  // of raft by goroutines that it has not answered yet
	shown   atomic.Uint64 // index of the last view that OnView has had
	leading atomic.Bool   // this node leads and has applied everything committed before it did
	ledTerm atomic.Uint64 // the last term for which that is so

	own       proposer      // of what this node says of itself
	operators proposer      // of what its operators ask for
	applying  chan struct{} // tokens: bound of raft.Apply under way
	levelling chan struct{} // token: see inOrder

	mu         sync.Mutex // guards what follows; nothing blocks under it
	times      Times      // those of cfg count no more
	waits      string
	twin       string // why this process may not act as its server
	refused    string // why the ring does not admit this start, if it said so
	programs   int
	noneSince  time.Time // since when no program is attached
	overtaken  func()    // ends the report under way that there is none; nil: there is no such report
	links      map[ring.ID]ring.Evidence
	transfers  []transferReport
	leaving    bool
	downs      []time.Time // when this start was declared DOWN while it ran
	reach      map[ring.ID]bool
	observed   map[ring.ID]observer   // leader: evidence of the other servers
	outdated   map[ring.ID]bool       // leader: whose evidence in links is of before it led
	collecting map[ring.ID]collection // leader: whose start waits for the notes of others
	ranAt      time.Time              // when the watch loop last ran
	pausedAt   time.Time              // when it ran again after a pause
	alarm      string

	progress   progress // of the merge, as last applied
	progressAt time.Time
	diskFull   string    // says so while it is
	lapsed     string    // says so while OWNERLEASE has lapsed
	holds      string    // says so while programs wait for a majority, see noteHold
	foreign    bool      // there is no leader, and who answers is of another ring
	slaveJoin  time.Time // leader: when the next slave may be admitted

	closeOnce sync.Once
	closeErr  error
}

// New checks cfg and opens the data directory (ErrLocked when another
// process holds it; ErrConfig for mistakes). A Plane that is not Run must be
// Closed.
func New(cfg Config) (*Plane, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Plane{
		cfg: cfg, log: cfg.Logger, boot: randomUint64(),
		digest:  digestOf(cfg.Group, cfg.Servers, cfg.Params),
		client:  newRPCClient(cfg.Dial),
		fatal:   make(chan error, 1),
		applied: newSignal(), reports: newSignal(), evidence: newSignal(), judging: newSignal(), commits: newSignal(), members: newSignal(), merging: newSignal(), looking: newSignal(), doubts: newSignal(), outlived: newSignal(), relisted: newSignal(),
		applying:   make(chan struct{}, appliesMax),
		levelling:  make(chan struct{}, 1),
		noneSince:  time.Now(),
		ranAt:      time.Now(),
		links:      make(map[ring.ID]ring.Evidence),
		reach:      make(map[ring.ID]bool),
		observed:   make(map[ring.ID]observer),
		outdated:   make(map[ring.ID]bool),
		collecting: make(map[ring.ID]collection),
	}
	p.times = cfg.Times
	p.servers.Store(&cfg.Servers)
	p.own, p.operators = newProposer(p.boot), newProposer(fsm.Operator(p.boot))
	p.fsm.Store(fsm.NewRaftFSMOf(cfg.Build, p.onApply, p.onFatal))
	p.server = newRPCServer(p.handle)
	p.sessions = mux.NewSessions(p.log, p.admitSession)
	if cfg.Slave {
		p.stores = raftnode.MemoryStores()
		return p, nil
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	cfg.Mux.Handle(mux.KindRPC, p.server.serve)
	cfg.Mux.Handle(mux.KindRaft, p.serveRaft)
	cfg.Mux.Handle(mux.KindSession, p.sessions.Serve)
	return p, nil
}

// open opens the data directory of a server.
func (p *Plane) open() error {
	dir, err := raftnode.OpenDir(p.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	p.dir = dir
	p.stores, err = dir.OpenStores(raftnode.NewLogger(p.log), p.cfg.NoSync)
	if err == nil {
		p.hadState, err = p.stores.HasState()
	}
	if err == nil && p.hadState {
		err = p.loadRealm()
	}
	if err != nil {
		return errors.Join(err, p.Close())
	}
	return nil
}

// Close gives the data directory back. Run does it; idempotent.
func (p *Plane) Close() error {
	p.closeOnce.Do(func() {
		p.client.close()
		p.sessions.Close()
		if n := p.node.Load(); n != nil {
			p.closeErr = n.Stop()
		} else if p.stores != nil {
			p.closeErr = p.stores.Close()
		}
		p.server.close() // after raft, whose answers its handlers wait for
		if p.dir != nil {
			p.closeErr = errors.Join(p.closeErr, p.dir.Close())
		}
	})
	return p.closeErr
}

// Programs tells how many server programs are attached to this server now. The
// first one is reported to the ring at once; that there is none, after
// SuspendGrace, if it is still so. It does not block.
func (p *Plane) Programs(n int) {
	p.mu.Lock()
	if p.programs > 0 && n == 0 {
		p.noneSince = time.Now()
	}
	p.programs = n
	if n > 0 && p.overtaken != nil {
		p.overtaken()
	}
	p.mu.Unlock()
	p.reports.raise()
}

// Link tells what this node observes of another server. Only the newest
// observation of each peer counts. It does not block.
func (p *Plane) Link(e ring.Evidence) {
	p.mu.Lock()
	p.links[e.Peer] = e
	delete(p.outdated, e.Peer)
	p.mu.Unlock()
	p.evidence.raise()
	p.judging.raise()
}

// TransferReady tells that this node, as receiver, has caught up with the
// donor. It is reported until the state shows it or the merge is another. It
// does not block.
func (p *Plane) TransferReady(mergeID uint64, donor, receiver ring.ID) {
	p.addTransfer(transferReport{mergeID: mergeID, donor: donor, receiver: receiver})
}

// TransferFinal tells that a transfer is complete under the given seal
// (Merge.Seal of the view in which the donor stopped): the receiver has
// everything and the donor serves those slots no more. As TransferReady.
func (p *Plane) TransferFinal(mergeID, seal uint64, donor, receiver ring.ID) {
	p.addTransfer(transferReport{mergeID: mergeID, seal: seal, donor: donor, receiver: receiver})
}

func (p *Plane) addTransfer(t transferReport) {
	p.mu.Lock()
	if len(p.transfers) >= transferReportsMax {
		p.transfers = p.transfers[1:] // the oldest are of merges long over
	}
	p.transfers = append(p.transfers, t)
	p.mu.Unlock()
	p.reports.raise()
}

// startRaft starts the raft member id, with servers as first configuration if
// there are any.
func (p *Plane) startRaft(id raft.ServerID, servers []raft.Server) error {
	stream := raftnode.NewStream(id, p.cfg.Self.Addr, p.dialRaft, p.realmName, p.log)
	n, err := raftnode.Start(raftnode.Options{
		ID: id, Stream: stream, Stores: p.stores, FSM: p.fsm.Load(), AddressOf: p.raftAddress, Log: p.log,
	})
	if err != nil {
		return p.inDataDir(readBy(p.fsm.Load(), err))
	}
	p.raftID.Store(&id)
	p.stream.Store(stream)
	p.node.Store(n)
	if len(servers) > 0 {
		if err := n.Bootstrap(servers); err != nil {
			return err
		}
	}
	p.setWaiting("", slog.LevelInfo)
	p.applied.raise()
	return nil
}

// readBy returns an error of raft, with why the state machine that it gave the log
// to could not follow: raft keeps the text at most.
func readBy(f *fsm.RaftFSM, err error) error {
	if why := f.Failed(); err != nil && why != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// inDataDir says with an error about what was read from disk where it lies,
// and the way out.
func (p *Plane) inDataDir(err error) error {
	const tooOld = "the ring has used what this build does not know: upgrade this node and start it again"
	unknown := errors.Is(err, fsm.ErrUnknownCommand)
	switch {
	case unknown && p.dir != nil: // entries have no checksum: a name that is damaged looks like a new one
		return fmt.Errorf("%w (%s; its data directory %s is fine, unless no node of the ring has a newer version: then it is damaged)", err, tooOld, p.dir.Path())
	case unknown, errors.Is(err, fsm.ErrLevel):
		return fmt.Errorf("%w (%s; its data directory is fine)", err, tooOld)
	case p.dir == nil:
		return err
	}
	return fmt.Errorf("%w (the log is in %s; if it is damaged, move that directory away and start again: the server joins its ring anew)", err, p.dir.Path())
}

// onApply is called by raft's goroutine: it must not block.
func (p *Plane) onApply(v fsm.View) {
	p.mu.Lock()
	if is := progressOf(v.Merge); is != p.progress {
		p.progress, p.progressAt = is, time.Now()
	}
	p.mu.Unlock()
	p.applied.raise()
	p.reports.raise()
	p.merging.raise()
}

func (p *Plane) onFatal(err error) {
	select {
	case p.fatal <- err:
	default:
	}
}

// view returns the newest applied state.
func (p *Plane) view() fsm.View { return p.fsm.Load().View() }

// incarnation returns under what v admits this process start, 0 if it does not.
func (p *Plane) incarnation(v fsm.View) ring.Incarnation {
	s := v.Server(p.cfg.Self.ID)
	if s == nil || s.Status.Live() != ring.Up || v.Boot(p.cfg.Self.ID) != p.boot {
		return 0
	}
	return s.Incarnation
}

// viewLoop hands applied states to OnView, the newest one each time. It warns
// once when the ring has other values than this node's configuration.
func (p *Plane) viewLoop(ctx context.Context) {
	last, warned, restarting := uint64(0), false, false
	var before *ring.Table // for a deliberate bug
	for p.applied.wait(ctx) {
		v := p.view()
		if v.Table == nil || v.Index == last || !p.keepRealm(v.RingID) {
			continue
		}
		last = v.Index
		if text := differingParams(v.Params, p.cfg.Params); text != "" && !warned {
			p.log.Warn(text)
			warned = true
		}
		hold := v.Member(p.cfg.Self.ID).HoldUs
		if hold > 0 && !restarting && p.cfg.OnRestart != nil && p.incarnation(v) != 0 {
			p.cfg.OnRestart(time.Duration(hold) * time.Microsecond)
		}
		restarting = hold > 0
		if p.cfg.OnView == nil {
			continue
		}
		p.cfg.OnView(v, p.incarnation(v))
		p.shown.Store(v.Index)
		p.forgetStandIns(v)
		p.reports.raise() // which may wait for that
		if fault.Every(fault.ApplyOutOfOrder, 5) && before != nil {
			older := v
			older.Table = before
			p.cfg.OnView(older, p.incarnation(v))
		}
		before = v.Table
	}
}

// signal wakes one goroutine; several raises before it looks count as one.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// wait waits for a raise; it returns false when ctx ends first.
func (s signal) wait(ctx context.Context) bool {
	select {
	case <-s:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return max(1, binary.LittleEndian.Uint64(b[:]))
}

func parseID(s string) (ring.ID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	return ring.ID(n), err
}
