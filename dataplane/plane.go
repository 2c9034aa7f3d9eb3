// Package dataplane moves messages: between the programs of this node and the
// nodes of the ring, over shared memory and data links, by the newest placement
// table. It never proposes a change, never waits for one, and goes on when the
// ring has no leader: it reads a table and reports what it sees (Reporter).
//
// One mutex serialises the delivery core (package flow), the rings of the
// attached programs and the send buffers of the links. Whoever has bytes — the
// goroutine of an attachment or of a link — takes it, forwards the whole batch
// inline, and does the system calls that follow (doorbells, writes) without it.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// Reporter takes what the data plane observes. Calls must not block; they may
// come from any goroutine, never with a lock of the data plane held.
type Reporter interface {
	// ProgramsChanged tells how many server programs are attached now.
	ProgramsChanged(n int)
	// Link tells that the state of this node's own link to a server changed.
	Link(e ring.Evidence)
	// TransferReady tells that this node, as receiver, has caught up.
	TransferReady(mergeID uint64, donor, receiver ring.ID)
	// TransferFinal tells that this node, as donor, has sealed the slots and
	// that every record handed out for them has been taken. seal names the
	// MergeSeal under which that is so.
	TransferFinal(mergeID, seal uint64, donor, receiver ring.ID)
}

// Server names a server of the configuration: whom to dial before there is a table.
type Server struct {
	ID   ring.ID
	Name string
	Addr string // host:port
}

// Config says what a Plane works with. All fields are fixed after New, but those
// that SetServers and SetLimits replace, which Plane.mu guards from then on.
type Config struct {
	Self     ring.ID
	Name     string
	Group    string
	Slave    bool     // a slave node: owns nothing, nobody dials it
	Servers  []Server // of the configuration, this node included if it is a server
	RunDirs  []string // where the attach socket may lie, the first possible one is taken and created 0750
	DataDir  string   // where the newest table is kept
	Reporter Reporter
	Logger   *slog.Logger
	// Dial opens a connection to a server's PORT, ready for data frames.
	Dial   func(ctx context.Context, addr string) (net.Conn, error)
	System shm.System // attaches programs; default shm.Kernel()
	// Admit says whether a node that introduces itself may have a link.
	Admit func(h *wire.Hello, from net.Addr) error

	Limits
	RingBytes   int           // per ring, a power of two; default 1 MiB
	HotWait     bool          // pumps look some times before they park; see hot
	PingEvery   time.Duration // of an idle link, at most; default 500 ms
	HelloWithin time.Duration // the exchange of hellos on a new link, else it ends; default 5 s
}

func (c *Config) setDefaults() {
	if c.System == nil {
		c.System = shm.Kernel()
	}
	if c.RingBytes == 0 {
		c.RingBytes = 1 << 20
	}
	if c.PingEvery == 0 {
		c.PingEvery = 500 * time.Millisecond
	}
	if c.HelloWithin == 0 {
		c.HelloWithin = 5 * time.Second
	}
	c.Limits.setDefaults()
}

// Plane is the data plane of one node. Create it with New, start it with Run.
type Plane struct {
	cfg   Config
	log   *slog.Logger
	start time.Time
	self  ring.ID
	attch *attachServer
	store *tableStore
	tickC chan struct{} // wakes the ticker from idling, capacity 1
	owesC chan struct{} // wakes who gives reports, capacity 1
	seekC chan struct{} // wakes who opens tunnels, capacity 1
	work  sync.WaitGroup

	mu          sync.Mutex // guards everything below; no system call that can block under it
	core        *flow.Core
	view        ring.View        // newest applied
	raftView    ring.View        // newest from the control plane
	incarnation ring.Incarnation // of this process start, 0 until admitted
	links       map[*link]struct{}
	dialers     map[ring.ID]*dialer
	inbound     map[ring.ID]*link   // accepted link per peer
	tunnelsIn   map[ring.ID]*tunnel // tunnel that a peer opened; never beside an accepted link
	tunnelLast  uint32              // number of the last tunnel that this node opened
	greeting    int                 // openers of tunnels that are being looked at
	relays      map[relayID]*relay  // tunnels of others through this node
	relayStats  RelayStats
	attached    map[wire.SessionID]*attachment
	programs    int    // attached server programs
	suspending  bool   // see Hold
	lapsed      bool   // see Lapse
	attachments uint32 // ever; for the trace
	staleRound  int64  // for a deliberate bug
	shmBytes    int64
	history     history
	hot         hot
	standIns    standIns
	serving     int // distinct acting servers, as programs are told
	loopOut     loop
	loopIn      loop
	dirtyLinks  []*link
	dirtyLocal  []*attachment
	resumable   []*attachment
	ticking     bool  // the ticker looks again within a millisecond
	tickAtNs    int64 // when it looks again
	moved       bool  // since it last looked something was delivered or taken
	stillTicks  int   // how often it found that nothing had
	ticks       uint64
	merge       mergeWatch
	reports     []func(Reporter) // owed, oldest first
	ctx         context.Context  // of Run; nil before
	closed      bool
	refusedAt   time.Time            // when a refused link or program was last logged
	refusals    map[string]time.Time // when which of them was; see logRefusal
}

// ErrConfig is wrapped by errors of New about its Config.
var ErrConfig = errors.New("dataplane: bad configuration")

// New prepares a data plane: it claims the run directory, opens the attach
// socket and loads the table that was kept on disk. Close or Run must follow.
func New(cfg Config) (*Plane, error) {
	cfg.setDefaults()
	if cfg.Self == 0 || cfg.Reporter == nil || cfg.Logger == nil || cfg.Dial == nil {
		return nil, fmt.Errorf("%w: Self, Reporter, Logger and Dial are needed", ErrConfig)
	}
	p := &Plane{
		cfg: cfg, log: cfg.Logger, start: time.Now(), self: cfg.Self,
		tickC: make(chan struct{}, 1), owesC: make(chan struct{}, 1), seekC: make(chan struct{}, 1), links: map[*link]struct{}{},
		dialers: map[ring.ID]*dialer{}, inbound: map[ring.ID]*link{}, attached: map[wire.SessionID]*attachment{},
		tunnelsIn: map[ring.ID]*tunnel{}, relays: map[relayID]*relay{}, history: history{limit: cfg.HistoryMax},
	}
	p.core = flow.New(flow.Config{Self: cfg.Self, Slave: cfg.Slave}, (*ports)(p))
	p.loopOut.peer = p.core.Peer(cfg.Self)
	p.loopIn.peer = p.core.Peer(inboundID(cfg.Self))
	p.loopOut.peer.Handle, p.loopIn.peer.Handle = &p.loopOut, &p.loopIn
	var err error
	if p.store, err = openTableStore(filepath.Join(cfg.DataDir, "table"), cfg.Group); err != nil {
		return nil, err
	}
	p.store.log = cfg.Logger
	if p.standIns, err = loadStandIns(cfg.DataDir); err != nil {
		return nil, err
	}
	if p.attch, err = listenAttachIn(cfg.System, cfg.RunDirs, cfg.Self); err != nil {
		return nil, err
	}
	p.log.Info("listening for programs", "socket", p.attch.path)
	if t := p.store.loaded; t != nil {
		p.mu.Lock()
		p.applyView(ring.View{Table: t})
		p.mu.Unlock()
	}
	return p, nil
}

// inboundID is the core's name for the link that a peer opened to us. Our own
// link to the same server is another peer, under the server's id: each link
// comes and goes by itself. Messages go out on ours, replies and
// acknowledgements go back on theirs.
func inboundID(id ring.ID) ring.ID { return ^id }

// nowNs is the core's clock.
func (p *Plane) nowNs() int64 { return int64(time.Since(p.start)) }

// Run moves messages until ctx ends, then closes every link and attachment and
// returns nil when all goroutines have ended.
func (p *Plane) Run(ctx context.Context) error {
	p.mu.Lock()
	p.ctx = ctx
	p.syncDialers()
	now := p.nowNs()
	p.core.PeerUp(now, p.loopOut.peer, p.incarnation)
	p.core.PeerUp(now, p.loopIn.peer, 0)
	p.finishUnlock(&batch{})

	p.work.Go(func() { p.store.run(ctx) })
	p.work.Go(func() { p.keepStandIns(ctx) })
	p.work.Go(func() { p.runTicker(ctx) })
	p.work.Go(func() { p.runReports(ctx) })
	p.work.Go(func() { p.runPinger(ctx) })
	p.work.Go(func() { p.runDetours(ctx) })
	p.work.Go(func() { p.attch.run(ctx, p) })
	<-ctx.Done()

	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.kill(errShutdown)
	}
	for _, a := range p.attached {
		a.kill(errShutdown)
	}
	p.mu.Unlock()
	p.attch.Close()
	p.work.Wait()
	p.mu.Lock()
	for _, a := range p.attached {
		a.free()
	}
	p.mu.Unlock()
	p.giveReports()
	return nil
}

// Close releases what New claimed, for a Plane that was never run. Idempotent.
func (p *Plane) Close() error { return p.attch.Close() }

var errShutdown = errors.New("the node stops")

// spawn starts fn unless the plane is closing. The caller holds mu.
func (p *Plane) spawn(fn func(ctx context.Context)) bool {
	if p.closed || p.ctx == nil {
		return false
	}
	ctx := p.ctx
	p.work.Go(func() { fn(ctx) })
	return true
}

// SetView installs what the control plane applied: table, merge, and the
// incarnation of this process (0 while it is not admitted). Views may arrive
// from any goroutine; an older table than the present one is ignored, its
// merge is not. After the end of Run nothing happens.
func (p *Plane) SetView(v ring.View, self ring.Incarnation) {
	p.mu.Lock()
	if p.closed { // segments are gone, or about to
		p.mu.Unlock()
		return
	}
	changed := self != p.incarnation
	p.incarnation = self
	p.raftView = v
	if !v.Table.Newer(p.view.Table) && !otherRing(v.Table, p.view.Table) && !fault.Bug(fault.ApplyOutOfOrder) {
		v.Table = p.view.Table
	}
	p.applyView(v)
	if changed {
		p.trace(fault.Event{What: fault.Admitted})
		p.announceIncarnation()
	}
	p.finishUnlock(&batch{})
}

// otherRing reports whether the log speaks of another ring than the table at
// hand, which then is a left-over on disk.
func otherRing(log, have *ring.Table) bool {
	return log != nil && have != nil && log.RingID != have.RingID
}

// tableFromPeer installs a table that came over a link; mu is held.
func (p *Plane) tableFromPeer(t *ring.Table) {
	if t.Group != p.cfg.Group || !t.Newer(p.view.Table) {
		return
	}
	if old := p.view.Table; old != nil && old.RingID != 0 && t.RingID != old.RingID && t.Epoch.Era <= old.Epoch.Era {
		if p.mayLog() {
			p.note(slog.LevelWarn, "ignored the table of another ring", "ring", t.RingID, "own", old.RingID)
		}
		return
	}
	p.applyView(ring.View{Table: t, Merge: p.raftView.Merge})
}

// applyView makes v the view of the node; mu is held.
func (p *Plane) applyView(v ring.View) {
	if fault.Bug(fault.StaleEpoch) && !p.takesTable() {
		v.Table = p.view.Table
	}
	if v.Table != p.view.Table {
		p.traceTable(v.Table)
		p.store.save(v.Table)
	}
	p.view = v
	p.setStandIn(v.Table)
	p.core.SetView(p.nowNs(), v.Table, p.incarnation, p.merge.seal(p.self, v))
	p.serving = countActing(v.Table)
	for _, a := range p.attached {
		a.tellServing(p.serving)
	}
	p.endDisplaced(errDisplaced)
	p.syncDialers()
	p.seek()
}

var errDisplaced = errors.New("what the program has not taken may be another server's now")

// announceIncarnation makes peers learn the incarnation by a new hello; mu is held.
func (p *Plane) announceIncarnation() {
	for _, l := range p.inbound {
		l.kill(errIncarnation)
	}
	for _, t := range p.tunnelsIn {
		t.end(errIncarnation)
	}
	if p.ctx != nil {
		p.core.PeerDown(p.loopOut.peer)
		p.core.PeerUp(p.nowNs(), p.loopOut.peer, p.incarnation)
	}
}

// notesMax bounds what waits to be logged; what comes beyond it is not.
const notesMax = 1024

// note logs later: a log may block, and mu is held.
func (p *Plane) note(level slog.Level, text string, args ...any) {
	if len(p.reports) < notesMax {
		p.report(func(Reporter) { p.log.Log(context.Background(), level, text, args...) })
	}
}

// report queues a report; mu is held.
func (p *Plane) report(r func(Reporter)) {
	p.reports = append(p.reports, r)
	select {
	case p.owesC <- struct{}{}:
	default:
	}
}

// runReports gives what is owed to the Reporter: one goroutine, so that the
// last report is the newest one.
func (p *Plane) runReports(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.owesC:
			p.giveReports()
		}
	}
}

func (p *Plane) giveReports() {
	p.mu.Lock()
	owed := p.reports
	p.reports = nil
	p.mu.Unlock()
	for _, r := range owed {
		r(p.cfg.Reporter)
	}
}

// mayLog says whether something that a stranger causes may be logged as a
// warning: at most once a second; mu is held.
func (p *Plane) mayLog() bool {
	if time.Since(p.refusedAt) < time.Second {
		return false
	}
	p.refusedAt = time.Now()
	return true
}

// refusedAgain and refusalsMax: who is refused tries again every second, so the
// same refusal is a warning once in refusedAgain, else for debugging. At most refusalsMax are told
// apart.
const (
	refusedAgain = time.Minute
	refusalsMax  = 64
)

// logRefusal logs that from, a stranger, was refused for err.
func (p *Plane) logRefusal(text, from string, err error) {
	level := slog.LevelDebug
	key, now := text+from+err.Error(), time.Now()
	p.mu.Lock()
	if last, told := p.refusals[key]; (!told || now.Sub(last) >= refusedAgain) && p.mayLog() {
		if p.refusals == nil || len(p.refusals) >= refusalsMax {
			p.refusals = make(map[string]time.Time)
		}
		p.refusals[key] = now
		level = slog.LevelWarn
	}
	p.mu.Unlock()
	p.log.Log(context.Background(), level, text, "from", from, "error", err)
}

var errIncarnation = errors.New("this node has a new incarnation")

// batch is what a goroutine owes the outside world after it has held the lock:
// doorbells to ring, links to write. Each pump reuses its own.
type batch struct {
	bells  []*attachment
	writes []*link
}

// finishUnlock ends a batch of events: it releases mu and does what the batch
// owes the outside world. The caller holds mu.
func (p *Plane) finishUnlock(b *batch) {
	for {
		wake := p.collect(b)
		p.mu.Unlock()
		if wake {
			select {
			case p.tickC <- struct{}{}:
			default:
			}
		}
		for _, a := range b.bells {
			a.ring()
		}
		done := b.writes[:0]
		for _, l := range b.writes {
			rest, err := l.sock.writeSome(l.spare)
			switch {
			case err != nil:
				p.killLink(l, err)
			case len(rest) > 0:
				l.blocked <- rest // empty: only the claimer puts, only once
			default:
				done = append(done, l)
			}
		}
		if len(done) == 0 {
			return
		}
		p.mu.Lock()
		for _, l := range done {
			l.written()
		}
	}
}

// collect settles a batch within the node — frames to oneself, rings that may
// be read on, cursors to publish — and gathers in b what is owed outside. It
// reports whether the ticker must be woken. The caller holds mu.
func (p *Plane) collect(b *batch) (wake bool) {
	b.bells, b.writes = b.bells[:0], b.writes[:0]
	if p.standIns.review {
		p.standIns.review = false
		p.endDisplaced(errStoodIn)
	}
	p.runLoops()
	for i := 0; i < len(p.resumable); i++ {
		a := p.resumable[i]
		a.resuming = false
		if a.drainRings(p.nowNs()) {
			a.resume()
		}
		p.runLoops()
	}
	p.resumable = p.resumable[:0]
	p.merge.look(p)
	for _, a := range p.dirtyLocal {
		wake, err := a.publish()
		if err != nil {
			a.corrupt(err)
		}
		if wake {
			b.bells = append(b.bells, a)
		}
	}
	p.dirtyLocal = p.dirtyLocal[:0]
	keep := p.dirtyLinks[:0]
	for _, l := range p.dirtyLinks {
		switch {
		case l.writing || len(l.pending) == 0: // whoever writes takes what is pending, too
			l.dirty = false
		case l.urgent:
			l.dirty = false
			l.claim()
			b.writes = append(b.writes, l)
		default:
			keep = append(keep, l)
		}
	}
	p.dirtyLinks = keep
	wake = !p.ticking && (len(keep) > 0 || p.moved || p.core.DueNs() < p.tickAtNs)
	p.ticking = p.ticking || wake
	return wake
}

// runLoops delivers frames that this node sends to itself; mu is held. It ends
// because a frame to oneself is answered at most once before something else
// has to happen (a program takes, a tick passes).
func (p *Plane) runLoops() {
	for {
		p.core.Flush()
		if p.loopOut.empty() && p.loopIn.empty() {
			return
		}
		// What was sent on our own link arrives as from the peer that opened it, and back.
		p.loopOut.deliver(p, p.loopIn.peer)
		p.loopIn.deliver(p, p.loopOut.peer)
	}
}

// Intervals of the ticker: while programs take or lazy frames wait, while
// programs have records that they do not take, and else. The core says itself
// when it wants to be called before.
const (
	tickBusy  = time.Millisecond
	tickStill = 20 * time.Millisecond
	tickIdle  = 250 * time.Millisecond
	// stillTicksMax is how many times in a row nothing was taken before
	// programs are asked to ring when they take.
	stillTicksMax = 20
)

// nextTick returns when the ticker must look again; mu is held.
func (p *Plane) nextTick(now int64) time.Duration {
	p.stillTicks++
	if p.moved {
		p.stillTicks = 0
	}
	p.moved = false
	next := tickIdle
	for _, a := range p.attached {
		switch {
		case !a.server || a.ended || !p.core.Delivered(a.session):
		case p.stillTicks < stillTicksMax:
			next = tickBusy
		default:
			next = min(next, tickStill)
			a.wantRoom() // and look once more
			a.lookTaken(now)
		}
	}
	if p.moved {
		next = tickBusy
	}
	if due := p.core.DueNs(); due < now+int64(next) {
		next = max(time.Duration(due-now), tickBusy)
	}
	p.ticks++
	p.ticking, p.tickAtNs = next == tickBusy, now+int64(next)
	return next
}

// runTicker passes time to the core when it wants it, looks at the heads of
// programs that have untaken records, and lets lazy frames go.
func (p *Plane) runTicker(ctx context.Context) {
	t := time.NewTimer(tickBusy)
	defer t.Stop()
	b := &batch{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.tickC:
			t.Reset(tickBusy)
			continue
		case <-t.C:
		}
		p.mu.Lock()
		now := p.nowNs()
		for _, a := range p.attached {
			a.lookTaken(now)
		}
		p.core.Tick(now)
		for _, l := range p.dirtyLinks {
			l.urgent = true
		}
		next := p.nextTick(now)
		p.finishUnlock(b)
		t.Reset(next)
	}
}
