// Package rig is a ring of real processes that can be broken: hosts with a
// node, its programs, a disk and a clock, and the network between them. It
// starts and ends processes and keeps a record of each for the judge; what to
// break, and when, is decided by others.
//
// A Rig and what belongs to it may be used by several goroutines at once.
package rig

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/internal/freeport"
	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/testcluster/netem"
)

// Options say what to build.
type Options struct {
	Bin     string // directory of the binaries, built with faults
	Self    string // program that knows the verbs of programs
	Servers int
	Slaves  int
	Replica int
	Seed    uint64
	Netns   bool   // each host in a network namespace of its own; needs root
	Bug     string // deliberate bug of all nodes, "" for none
	Rate    int    // messages per second of all senders together
	// StandInAfter is after how long servers stand in for each other, 0: never.
	StandInAfter time.Duration
}

// Network is what the faults of the network act on.
type Network interface {
	// Apply puts a condition on what travels from one host to another; undo may
	// be called again. ErrUnsupported: this network cannot be so.
	Apply(from, to string, c netem.Condition) (undo func() error, err error)
	// Link takes the link of a host down or up.
	Link(host string, up bool) error
	// Down says whether nobody listens on a host.
	Down(host string, down bool) error
	Close() error
}

// Rig is the ring.
type Rig struct {
	*testcluster.Cluster
	Hosts    []*Host // servers, then slaves
	Programs []*Program
	Net      Network
	opts     Options

	mu        sync.Mutex // guards what follows
	processes []*check.Process
	errs      []error
}

// keys are the keys of GLOBAL: waits that a round can see the end of.
var keys = map[string]string{"DOWNOUT": "10s", "DOWNAFTER": "2s"}

// undecided is for how long a server that is cut off has another one that stands in
// for it, and is not declared DOWN.
const undecided = 3 * time.Second

// New makes a ring of which no process runs yet. The caller must call Close.
func New(o Options) (_ *Rig, err error) {
	r := &Rig{opts: o}
	var spaces *netem.Namespaces
	co := testcluster.Options{Bin: o.Bin, Servers: o.Servers, Slaves: o.Slaves, Replica: o.Replica, Keys: maps.Clone(keys)}
	if o.StandInAfter > 0 {
		co.Keys["STANDINAFTER"] = o.StandInAfter.String()
		co.Keys["DOWNAFTER"] = (o.StandInAfter + undecided).String()
	}
	if o.Netns {
		if spaces, err = netem.NewNamespaces(hostNames(o)); err != nil {
			return nil, err
		}
		r.Net = spaces
		co.Host = spaces.Addr
		co.Keys["CTLALLOW"] = spaces.Outside() // where we ask and command from
	}
	if r.Cluster, err = testcluster.New(co); err != nil {
		return nil, errors.Join(err, r.closeNet())
	}
	for i, n := range r.Nodes() {
		h := &Host{rig: r, Name: n.Name, Node: n, dir: filepath.Join(r.Dir, "faults-"+n.Name), claims: map[string]bool{}}
		if spaces != nil {
			h.prefix = spaces.Prefix(i)
		}
		if err := os.Mkdir(h.dir, 0o750); err != nil {
			return nil, errors.Join(fmt.Errorf("make directory of faults: %w", err), r.Close())
		}
		r.Hosts = append(r.Hosts, h)
	}
	if r.Net == nil {
		if err := r.forward(); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	r.placePrograms()
	return r, nil
}

// hostNames returns the names that testcluster gives to nodes.
func hostNames(o Options) (names []string) {
	for i := range o.Servers {
		names = append(names, string(rune('a'+i)))
	}
	for i := range o.Slaves {
		names = append(names, fmt.Sprintf("s%d", i))
	}
	return names
}

// forward leads every connection between two hosts through a forwarder.
func (r *Rig) forward() error {
	net := netem.New(r.opts.Seed)
	r.Net = net
	ports, err := freeport.Take(len(r.Hosts) * len(r.Servers))
	if err != nil {
		return err
	}
	for i, from := range r.Hosts {
		var dial []byte
		for j, to := range r.Servers {
			if to == from.Node {
				continue
			}
			addr := fmt.Sprintf("127.0.0.1:%d", ports[i*len(r.Servers)+j])
			target := fmt.Sprintf("%s:%d", to.Host, to.Port)
			if err := net.Forward(from.Name, to.Name, addr, target); err != nil {
				return err
			}
			dial = fmt.Appendf(dial, "%s %s\n", target, addr)
		}
		if err := from.write(fault.FileDial, string(dial)); err != nil {
			return err
		}
	}
	return nil
}

// Host returns the host of that name, nil if there is none.
func (r *Rig) Host(name string) *Host {
	for _, h := range r.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// HostAt returns the host whose control port that is, nil if there is none.
func (r *Rig) HostAt(ctlPort uint16) *Host {
	for _, h := range r.Hosts {
		if h.Node.CtlPort == ctlPort {
			return h
		}
	}
	return nil
}

// Processes returns the records of all processes that have lived since then,
// and forgets those that had ended before.
func (r *Rig) Processes(sinceNs int64) (all []check.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes = slices.DeleteFunc(r.processes, func(p *check.Process) bool { return p.EndNs != 0 && p.EndNs < sinceNs })
	for _, p := range r.processes {
		all = append(all, *p)
	}
	return all
}

// record begins the record of a process, which ends by itself. What is known
// about it beforehand is in rec.
func (r *Rig) record(p *testcluster.Proc, known check.Process, ended func()) *check.Process {
	rec := &known
	rec.Name, rec.PID, rec.StartNs = p.Name, p.Pid(), check.Now()
	r.mu.Lock()
	r.processes = append(r.processes, rec)
	r.mu.Unlock()
	go func() { // ends with the process
		<-p.Ended()
		r.Forget(p)
		status, ok := p.State().Sys().(syscall.WaitStatus)
		r.mu.Lock()
		rec.EndNs, rec.Killed = check.Now(), ok && status.Signaled()
		// A node or program that was told to end and fails to does not end as wanted.
		if ok && status.Exited() && status.ExitStatus() != 0 {
			rec.Wanted = false
			r.errs = append(r.errs, fmt.Errorf("%s ended with exit code %d", p.Name, status.ExitStatus()))
		}
		r.mu.Unlock()
		ended()
	}()
	return rec
}

// want says that the end of a process that is about to come is wanted.
func (r *Rig) want(rec *check.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec != nil && rec.EndNs == 0 {
		rec.Wanted = true
	}
}

// Failures returns what went wrong with processes since the last call.
func (r *Rig) Failures() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.errs...)
	r.errs = nil
	return err
}

func (r *Rig) closeNet() error {
	if r.Net == nil {
		return nil
	}
	return r.Net.Close()
}

// End ends all processes and the network, and leaves the directory.
func (r *Rig) End() error {
	r.mu.Lock()
	for _, p := range r.processes {
		p.Wanted = true
	}
	r.mu.Unlock()
	r.KillAll()
	return r.closeNet()
}

// Close is End that removes the directory.
func (r *Rig) Close() error { return errors.Join(r.End(), r.Cluster.Close()) }
