package rig

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/check"
)

// Program is a place for a program on a host. Its processes follow each other;
// each has a name and histories of its own.
type Program struct {
	Name      string
	Host      *Host
	Sender    bool
	AckOnDone bool

	rig  *Rig
	rate int

	mu     sync.Mutex // guards what follows
	starts int
	proc   *testcluster.Proc
	record *check.Process
}

// sessionsPerSender is how many attachments a sender has, so that all mixes
// are under way at any time.
const sessionsPerSender = 4

// placePrograms gives each server a receiver, every second a second one, and
// senders to all slaves and to every second server. Every second receiver
// takes with AckOnDone.
func (r *Rig) placePrograms() {
	add := func(p *Program) {
		p.rig = r
		r.Programs = append(r.Programs, p)
	}
	senders := 0
	for i, h := range r.Hosts {
		sends := h.Slave() || i%2 == 1 || r.opts.Slaves == 0
		if !h.Slave() {
			add(&Program{Name: "take-" + h.Name, Host: h, AckOnDone: i%2 == 1})
			if i%2 == 0 {
				add(&Program{Name: "take2-" + h.Name, Host: h, AckOnDone: i%4 == 2})
			}
		}
		if sends {
			senders++
			add(&Program{Name: "send-" + h.Name, Host: h, Sender: true})
		}
	}
	for _, p := range r.Programs {
		p.rate = max(1, r.opts.Rate/max(1, senders))
	}
}

// Patience is how long senders wait in the end for what is not settled. It is
// bounded by what a busy machine takes, not by what is promised.
const Patience = 25 * time.Second

// HistoryDir is where histories are written.
func (r *Rig) HistoryDir() string { return filepath.Join(r.Dir, "histories") }

// Start starts the next process of the program. It kills itself at the crash
// point if one is given.
func (p *Program) Start(crash string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starts++
	name := fmt.Sprintf("%s-%d", p.Name, p.starts)
	seed := p.rig.opts.Seed ^ uint64(p.starts)<<32 ^ uint64(len(p.Name))<<56
	for i, h := range p.rig.Hosts { // programs of one kind differ from host to host
		if h == p.Host {
			seed += uint64(i)
		}
	}
	args := []string{"-conf", p.Host.Node.Conf(), "-node", p.Host.Name, "-name", name, "-dir", p.rig.HistoryDir(), "-seed", strconv.FormatUint(seed, 10)}
	if p.Sender {
		args = append([]string{"_sender", "-sessions", strconv.Itoa(sessionsPerSender), "-rate", strconv.Itoa(p.rate), "-patience", Patience.String()}, args...)
	} else {
		args = append([]string{"_receiver", "-ack-on-done=" + strconv.FormatBool(p.AckOnDone)}, args...)
	}
	proc, err := p.rig.StartWith(name, testcluster.Launch{Env: p.Host.env(crash), Prefix: p.Host.prefix}, p.rig.opts.Self, args...)
	if err != nil {
		return err
	}
	p.proc = proc
	p.record = p.rig.record(proc, check.Process{Program: true, Wanted: crash != ""}, func() {})
	return nil
}

// Proc returns the present or last process, nil before the first.
func (p *Program) Proc() *testcluster.Proc {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc
}

// Running reports whether a process runs.
func (p *Program) Running() bool {
	proc := p.Proc()
	return proc != nil && proc.Running()
}

func (p *Program) want() {
	p.mu.Lock()
	record := p.record
	p.mu.Unlock()
	p.rig.want(record)
}

// Kill ends the program by SIGKILL.
func (p *Program) Kill() {
	p.want()
	if proc := p.Proc(); proc != nil {
		proc.Kill()
	}
}

// Hup tells the program to end in order.
func (p *Program) Hup() error {
	p.want()
	if proc := p.Proc(); proc != nil {
		return proc.Signal(syscall.SIGHUP)
	}
	return nil
}

// Await waits for the end of the program; when ctx ends first it is killed.
func (p *Program) Await(ctx context.Context) error {
	proc := p.Proc()
	if proc == nil {
		return nil
	}
	if _, err := proc.Wait(ctx); err != nil {
		proc.Kill()
		return err
	}
	return nil
}

// Signal sends a signal to the program.
func (p *Program) Signal(sig syscall.Signal) error {
	if proc := p.Proc(); proc != nil {
		return proc.Signal(sig)
	}
	return nil
}

// Attached reports whether the present process has attached: it has begun its history.
func (p *Program) Attached() bool {
	p.mu.Lock()
	name := fmt.Sprintf("%s-%d", p.Name, p.starts)
	p.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(p.rig.HistoryDir(), name+".*"))
	return err == nil && len(files) > 0
}
