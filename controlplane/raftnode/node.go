// Package raftnode runs one raft member: its stores and lock, its transport
// over connections that others make, its configuration and its logging. It
// knows what hashicorp/raft needs to be run well, and nothing of the ring.
package raftnode

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Timings and sizes of raft, see DESIGN.md of package controlplane.
const (
	heartbeatTimeout  = 500 * time.Millisecond
	electionTimeout   = 500 * time.Millisecond
	leaseTimeout      = 250 * time.Millisecond
	commitTimeout     = 500 * time.Millisecond
	transportTimeout  = 10 * time.Second
	trailingLogs      = 10240 // a smaller tail can make an InstallSnapshot loop for ever
	snapshotThreshold = 256   // whatever is behind the snapshot is applied anew by each start
	snapshotInterval  = 2 * time.Second
	stopTimeout       = 10 * time.Second
	maxAppendEntries  = 64
	maxPool           = 3
	maxRPCsInFlight   = 2 // more costs latency
)

// Options says what a member is made of.
type Options struct {
	ID     raft.ServerID
	Stream *Stream // the member's own; closed by Stop
	Stores *Stores // closed by Stop
	FSM    raft.FSM
	// AddressOf returns the host:port of a member, "" for one that is reached
	// through its session; false: unknown, take what the log says. It is asked
	// at every dial.
	AddressOf func(id raft.ServerID) (string, bool)
	Log       *slog.Logger
}

// Node is a running raft member.
type Node struct {
	*raft.Raft
	stream *Stream
	stores *Stores
	trans  *steadyTransport
}

// Start starts a member. It takes part as soon as it has a configuration: from
// its stores, from Bootstrap, or from a leader that was told to add it.
func Start(o Options) (*Node, error) {
	log := NewLogger(o.Log)
	var member atomic.Pointer[raft.Raft] // nil until raft runs, and then nobody leads
	leads := func(term uint64, id raft.ServerID) bool {
		r := member.Load()
		return r != nil && r.State() == raft.Leader && r.CurrentTerm() == term && slices.ContainsFunc(
			r.GetConfiguration().Configuration().Servers, func(s raft.Server) bool { return s.ID == id })
	}
	trans := newSteadyTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: addressProvider(o.AddressOf),
		Logger:                log,
		Stream:                o.Stream,
		MaxPool:               maxPool,
		MaxRPCsInFlight:       maxRPCsInFlight,
		Timeout:               transportTimeout,
	}), o.Stream.dials.Done(), leads, o.Log)
	o.Stores.writes.patient.Store(true)
	r, err := raft.NewRaft(configOf(o.ID, log), o.FSM, o.Stores.log, o.Stores.stable, o.Stores.snaps, trans)
	if err != nil {
		trans.Close()
		return nil, fmt.Errorf("start raft: %w", err)
	}
	member.Store(r)
	return &Node{Raft: r, stream: o.Stream, stores: o.Stores, trans: trans}, nil
}

// configOf returns the configuration of raft for a member.
func configOf(id raft.ServerID, log hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = id
	c.Logger = log
	c.HeartbeatTimeout = heartbeatTimeout
	c.ElectionTimeout = electionTimeout
	c.LeaderLeaseTimeout = leaseTimeout
	c.CommitTimeout = commitTimeout
	c.TrailingLogs = trailingLogs
	c.SnapshotThreshold = snapshotThreshold
	c.SnapshotInterval = snapshotInterval
	c.MaxAppendEntries = maxAppendEntries
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	return c
}

// Bootstrap gives a member without state its first configuration. Members that
// do it with equal servers, at whatever time, hold the same log.
func (n *Node) Bootstrap(servers []raft.Server) error {
	n.stores.writes.patient.Store(false) // a start fails at once
	defer n.stores.writes.patient.Store(true)
	if err := n.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return fmt.Errorf("bootstrap raft: %w", err)
	}
	return nil
}

// Stop ends the member and closes its stream and stores. It waits for raft's
// goroutines, at most 10 s: a disk that hangs would hold them for ever. The
// stores stay open then (ErrNoStop).
func (n *Node) Stop() error {
	n.stream.Interrupt()   // raft waits for its dials
	n.stores.writes.stop() // and for a full disk
	done := make(chan error, 1)
	go func() { done <- n.Shutdown().Error() }() // ends with raft's goroutines
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	var err error
	select {
	case err = <-done:
	case <-t.C:
		return fmt.Errorf("stop raft: %w", ErrNoStop)
	}
	n.stream.Close()
	if cerr := n.stores.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

// ErrNoStop says that raft's goroutines did not end.
var ErrNoStop = errors.New("raftnode: raft did not stop in time, is the disk hanging?")

// Contacts returns when the other members of raft last answered this one as their
// leader; those that never did are missing.
func (n *Node) Contacts() map[raft.ServerID]time.Time {
	return n.trans.contacts(n.GetConfiguration().Configuration().Servers)
}

// Stores returns the member's stores.
func (n *Node) Stores() *Stores { return n.stores }

// addressProvider resolves ids at dial time: addresses in the log may be old.
type addressProvider func(id raft.ServerID) (string, bool)

// errUnknown makes raft fall back to the address in its log.
var errUnknown = errors.New("raftnode: address unknown")

// ServerAddr implements raft.ServerAddressProvider.
func (f addressProvider) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	hostport, ok := f(id)
	if !ok {
		return "", errUnknown
	}
	return Address(id, hostport), nil
}
