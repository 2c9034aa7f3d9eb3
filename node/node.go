// Package node puts one node together: configuration, control plane, data
// plane, ports. It joins the two planes — views go one way, evidence the other
// — and starts and stops the parts in order.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
)

// leaveTimeout bounds the orderly part of a stop: reporting down, handing the lead over.
const leaveTimeout = 3 * time.Second

// Options say which node to run.
type Options struct {
	Config    config.Source // where the configuration is
	CtlPort   int           // 0: SELFCTLPORT of the configuration
	CUK       string        // "": SELFCUK of the configuration
	Logger    *slog.Logger  // nil: discards
	Version   string        // shown by the command VERSION
	Bootstrap bool          // start a ring of one unless somebody answers with a ring of this group; servers only

	// What follows is for rings within one process; see testcluster/story.

	Listen func(port int) (net.Listener, error) // opens PORT and CTLPORT; nil: TCP on all addresses
	Dial   mux.Dialer                           // connects to other servers; nil: mux.DialTCP
	System shm.System                           // attaches programs; nil: shm.Kernel()
	NoSync bool                                 // raft's log is not forced to disk

	NoWatch bool // files of the configuration are not watched, only Reload reads them again

	Resolver  ctlport.Resolver             // looks up hosts that use the control port; nil: the system's
	Addresses func() ([]netip.Addr, error) // of this host, as the control port sees it; nil: those of its interfaces
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Listen == nil {
		o.Listen = func(port int) (net.Listener, error) { return net.Listen("tcp", ":"+strconv.Itoa(port)) }
	}
	if o.Dial == nil {
		o.Dial = mux.DialTCP
	}
}

// Info is what a node says of itself at its start.
type Info struct {
	Name     string
	Group    string
	Server   bool
	ID       ring.ID
	Port     int // -1 for a slave
	CtlPort  int
	Warnings []string // of the configuration
}

// Node is one chmpx node. Create it with New, then Run it once.
type Node struct {
	opts Options
	log  *slog.Logger
	cfg  atomic.Pointer[config.Config] // see conf
	self config.Self
	id   ring.ID
	info Info

	idType  ring.IDType
	reloads reloads

	ctlLn   net.Listener
	portLn  net.Listener // nil on a slave
	mux     *mux.Server  // nil on a slave
	data    *dataplane.Plane
	control *controlplane.Plane
	hosts   *gate // who may use ctl
	ctl     *ctlport.Server

	restart chan time.Duration // the ring wants this process to restart, within that time; 1

	crashing sync.Once
	crashed  chan struct{} // closed by Crash
}

// New reads the configuration and claims everything that the node needs:
// ports, data directory, run directory. On an error nothing stays claimed.
// The errors of config, controlplane (ErrLocked) and dataplane (ErrInUse) show through.
func New(o Options) (_ *Node, err error) {
	o.setDefaults()
	n := &Node{opts: o, log: o.Logger, crashed: make(chan struct{}), restart: make(chan time.Duration, 1)}
	if fault.Enabled {
		n.log.Warn("this binary is built for tests and has faults", "on", fault.Describe())
	}
	cfg, warnings, err := config.Load(o.Config)
	if err != nil {
		return nil, config.WithWarnings(err, warnings) // names its file, once a line
	}
	n.cfg.Store(cfg)
	if n.self, err = cfg.SelfNode(o.CtlPort, o.CUK); err != nil {
		return nil, config.WithWarnings(fmt.Errorf("find this node: %w", err), warnings)
	}
	if n.idType, err = ring.ParseIDType(cfg.IDType); err != nil {
		return nil, fmt.Errorf("read CHMPXIDTYPE: %w", err)
	}
	n.id = ring.NodeID(cfg.Group, n.idType, identity(n.self))
	n.reloads.since = fault.Now()
	n.info = Info{Name: n.self.Name, Group: cfg.Group, Server: n.self.Server, ID: n.id, Port: n.self.Port, CtlPort: n.self.CtlPort}
	if !n.self.Server {
		n.info.Port = -1
	}
	for _, w := range warnings {
		n.info.Warnings = append(n.info.Warnings, w.String())
	}
	dir, err := cfg.DataDir(n.self)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	defer func() {
		if err != nil {
			n.release()
		}
	}()
	if err = n.listen(); err != nil {
		return nil, err
	}
	if err = n.build(dir); err != nil {
		return nil, err
	}
	return n, nil
}

// conf returns the configuration that counts now. Any goroutine.
func (n *Node) conf() *config.Config { return n.cfg.Load() }

// listed returns the servers of a configuration as the planes know them.
func (n *Node) listed(c *config.Config) (members []controlplane.Member, servers []dataplane.Server) {
	for _, s := range c.Servers {
		m := member(c.Group, n.idType, s)
		members = append(members, m)
		servers = append(servers, dataplane.Server{ID: m.ID, Name: m.Name, Addr: m.Addr})
	}
	return members, servers
}

// listen claims the ports.
func (n *Node) listen() (err error) {
	if n.ctlLn, err = n.opts.Listen(n.self.CtlPort); err != nil {
		return fmt.Errorf("listen on CTLPORT %d (does this node run already?): %w", n.self.CtlPort, err)
	}
	if !n.self.Server {
		return nil
	}
	if n.portLn, err = n.opts.Listen(n.self.Port); err != nil {
		return fmt.Errorf("listen on PORT %d (does this node run already?): %w", n.self.Port, err)
	}
	n.mux = mux.New(n.portLn, n.log)
	return nil
}

// build makes the planes.
func (n *Node) build(dir string) (err error) {
	cfg := n.conf()
	members, servers := n.listed(cfg)
	rep := &reports{}
	n.data, err = dataplane.New(dataplane.Config{
		Self: n.id, Name: n.self.Name, Group: cfg.Group, Slave: !n.self.Server, Servers: servers,
		RunDirs: cfg.RunDirs(), DataDir: dir, Reporter: rep, Logger: n.log,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return mux.Dial(ctx, n.opts.Dial, addr, mux.KindData)
		},
		System: n.opts.System, Admit: n.admit, RingBytes: cfg.RingBytes, Limits: limitsOf(cfg),
		HotWait: cfg.HotWait,
	})
	if err != nil {
		return fmt.Errorf("prepare data plane: %w", err)
	}
	self := controlplane.Member{ID: n.id, Identity: identity(n.self)}
	for _, m := range members {
		if m.ID == n.id {
			self = m
		}
	}
	n.control, err = controlplane.New(controlplane.Config{
		Self: self, Group: cfg.Group, Servers: members, Slave: !n.self.Server, DataDir: dir, Mux: n.mux, Logger: n.log,
		Bootstrap: n.opts.Bootstrap, Dial: n.opts.Dial, NoSync: n.opts.NoSync,
		Params: ringParams(cfg, n.idType), SlaveMay: n.slaveMay,
		OnRestart: n.onRestart, OnLease: n.data.Lapse, Times: timesOf(cfg),
		OnView: func(v fsm.View, self ring.Incarnation) { n.data.SetView(v.Ring(), self) },
		Hold:   n.data.Hold, Release: n.data.Release,
		StandIns: n.notes, ForgetStandIn: n.data.ForgetStandIn,
	})
	if err != nil {
		return fmt.Errorf("prepare control plane: %w", err)
	}
	rep.Plane = n.control
	if n.mux != nil {
		n.mux.Handle(mux.KindData, n.data.HandleConn)
	}
	asked := n.newCommands()
	n.hosts = newGate(n.newHosts())
	n.ctl = ctlport.New(n.ctlLn, ctlport.Config{
		Rights:  n.hosts.Rights,
		Command: n.newStatusText().answers(n.opts.Version, asked.change).Answer, Logger: n.log,
		Status: func() any { return n.Status() }, Consistent: asked.consistent,
		Names: n.names, Actions: map[string]ctlport.Action{"/v1/reload": n.reloadNow},
		Owners: func(hash uint64) ctlport.Owners { return ctlport.OwnersOf(n.data.View().Table, hash) },
	})
	return nil
}

// standIn returns STANDINAFTER as the data plane wants it: 0 for never, and
// whether that is so where the ring keeps data.
func standIn(cfg *config.Config) (after time.Duration, noMerge bool) {
	switch cfg.StandInAfter {
	case config.Never:
		return 0, false
	case config.Auto:
		return dataplane.StandInMin, true
	}
	return max(cfg.StandInAfter, dataplane.StandInMin), false
}

// notes returns this server's notes of stand-ins.
func (n *Node) notes(collect bool) []ring.StandIn {
	if collect {
		return n.data.CollectStandIns(controlplane.CollectHold)
	}
	return n.data.StandIns()
}

// reports hands the data plane's observations to the control plane.
type reports struct{ *controlplane.Plane }

// ProgramsChanged implements dataplane.Reporter.
func (r *reports) ProgramsChanged(count int) { r.Programs(count) }

// release gives back what New claimed.
func (n *Node) release() {
	if n.ctlLn != nil {
		_ = n.ctlLn.Close()
	}
	if n.portLn != nil {
		_ = n.portLn.Close()
	}
	if n.control != nil {
		_ = n.control.Close()
	}
	if n.data != nil {
		_ = n.data.Close()
	}
}

// Info returns what the node says of itself at its start.
func (n *Node) Info() Info { return n.info }

// ErrRestart says that Run has ended in order because an operator wants the
// process to be started again, at once: the ring waits for it.
var ErrRestart = errors.New("node: to be started again")

// onRestart tells Run that the ring wants a restart.
func (n *Node) onRestart(hold time.Duration) {
	select {
	case n.restart <- hold:
	default:
	}
}

// Run serves until ctx ends, then stops in order: the node leaves the ring and
// hands its lead over, then links, programs and ports close. It returns nil
// after an orderly stop, ErrRestart after one that the ring wants to be followed
// by another start, or the error that ended the node.
func (n *Node) Run(ctx context.Context) error {
	// Each part gets a context of its own, so that they end in order.
	dataCtx, stopData := context.WithCancel(context.WithoutCancel(ctx))
	controlCtx, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopData()
	defer stopControl()
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	var control, data sync.WaitGroup
	start := func(wg *sync.WaitGroup, what string, run func() error) {
		wg.Go(func() {
			if err := run(); err != nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start(&data, "data plane", func() error { return n.data.Run(dataCtx) })
	start(&control, "control plane", func() error { return n.control.Run(controlCtx) })
	start(&control, "hosts of the control port", func() error { return n.hosts.run(controlCtx) })
	start(&control, "files of the configuration", func() error { return n.watchConfig(controlCtx) })
	start(&control, "control port", func() error { return n.ctl.Run(controlCtx) })
	if n.mux != nil {
		start(&control, "port", func() error { return n.mux.Run(controlCtx) })
	}
	var err error
	select {
	case <-failed.Done():
	case <-n.crashed:
	case hold := <-n.restart:
		n.log.Info("this node restarts, as an operator wants it", "hold", hold.String())
		err = ErrRestart
	}
	switch cause := context.Cause(failed); {
	case n.hasCrashed():
		err = nil
	case errors.Is(err, ErrRestart):
		if n.leave(ctx); ctx.Err() != nil {
			err = nil // to be stopped comes before to be restarted
		}
	case ctx.Err() == nil:
		err = cause
	default:
		n.leave(ctx)
	}
	stopData()
	data.Wait()
	stopControl()
	control.Wait()
	return err
}

// Crash ends Run as the end of the process would, for tests within one
// process: nobody is told, the newest table is not written any more, and no segment is
// touched after Crash has returned. Whoever gave the node its connections has cut them
// before. Idempotent, any goroutine.
func (n *Node) Crash() {
	n.crashing.Do(func() {
		close(n.crashed)
		n.data.Crash()
	})
}

func (n *Node) hasCrashed() bool {
	select {
	case <-n.crashed:
		return true
	default:
		return false
	}
}

// leave tells the ring that this node goes.
func (n *Node) leave(ctx context.Context) {
	lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := n.control.Leave(lctx); err != nil && !errors.Is(err, controlplane.ErrNoLeader) {
		n.log.Warn("left without telling the ring", "error", err)
	}
}
