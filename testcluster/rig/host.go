package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/check"
)

// Host is one host: a node, its programs, their disk and their clock.
type Host struct {
	Name string
	Node *testcluster.Node

	rig    *Rig
	dir    string   // of the files by which faults are switched
	prefix []string // of all commands on this host

	mu     sync.Mutex // guards what follows
	record *check.Process
	wiped  bool // and not started since
	claims map[string]bool
}

// Claim reserves a part of the host for one fault, so that no two of them undo
// each other. It returns false when another one has it; release may be called
// again.
func (h *Host) Claim(part string) (release func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.claims[part] {
		return nil, false
	}
	h.claims[part] = true
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.claims, part)
	}), true
}

// Slave reports whether the host has a slave node.
func (h *Host) Slave() bool { return h.Node.Slave() }

// TraceFile is where the node traces frames.
func (h *Host) TraceFile() string { return filepath.Join(h.rig.Dir, h.Name+".trace") }

// Start starts the node. It kills itself at the crash point if one is given.
func (h *Host) Start(crash string) error {
	env := append(h.env(crash), fault.EnvTrace+"="+h.TraceFile(), fault.EnvBug+"="+h.rig.opts.Bug)
	h.Node.SetLaunch(testcluster.Launch{Env: env, Prefix: h.prefix})
	h.mu.Lock()
	defer h.mu.Unlock()
	// Before: the node may be asked as soon as it listens.
	if err := h.rig.Net.Down(h.Name, false); err != nil {
		return err
	}
	if err := h.Node.Start(); err != nil {
		return err
	}
	p := h.Node.Proc()
	h.record = h.rig.record(p, check.Process{Wanted: crash != "", Empty: h.wiped}, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.Node.Proc() == p { // no other has been started
			if err := h.rig.Net.Down(h.Name, true); err != nil {
				h.rig.fail(err)
			}
		}
	})
	h.wiped = false
	return nil
}

func (h *Host) env(crash string) []string {
	return []string{fault.EnvDir + "=" + h.dir, fault.EnvCrash + "=" + crash}
}

func (r *Rig) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// want says that the node is about to be ended.
func (h *Host) want() {
	h.mu.Lock()
	record := h.record
	h.mu.Unlock()
	h.rig.want(record)
}

// Kill ends the node by SIGKILL.
func (h *Host) Kill() {
	h.want()
	h.Node.Kill()
}

// stopWait bounds an orderly end: 5 s to drain, 2 s to hand on the lead, and
// what a busy machine takes.
const stopWait = 30 * time.Second

// Stop ends the node in order.
func (h *Host) Stop(ctx context.Context) error {
	h.want()
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	err := h.Node.Stop(ctx)
	if state := h.Node.Proc().State(); err != nil && state != nil {
		if how, ok := state.Sys().(syscall.WaitStatus); ok && how.Signaled() && how.Signal() == syscall.SIGHUP {
			return nil // it had begun just then, and nothing was there yet to take the signal
		}
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", h.Name, err)
	}
	return nil
}

// Pause stops the node's process, Resume continues it.
func (h *Host) Pause() error { return h.Node.Proc().Signal(syscall.SIGSTOP) }

// Resume is the reverse of Pause.
func (h *Host) Resume() error { return h.Node.Proc().Signal(syscall.SIGCONT) }

// Wipe removes what the node keeps on disk. It must not run.
func (h *Host) Wipe() error {
	if err := os.RemoveAll(h.Node.DataDir()); err != nil {
		return fmt.Errorf("wipe %s: %w", h.Name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wiped = true
	return nil
}

// SetDisk says how the disk is: "ok", "slow <duration>", "hang" or "full".
func (h *Host) SetDisk(state string) error { return h.write(fault.FileDisk, state) }

// SetClock moves the wall clock of the host.
func (h *Host) SetClock(offset time.Duration) error {
	return h.write(fault.FileClock, offset.String())
}

// WriteStacks makes the node, and its programs, write what all their goroutines do
// to the file with their .PID, soon.
func (h *Host) WriteStacks(file string) error { return h.write(fault.FileStacks, file) }

// write replaces a file as a whole.
func (h *Host) write(name, text string) error {
	file := filepath.Join(h.dir, name)
	err := os.WriteFile(file+".new", []byte(text), 0o640)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("set %s of %s: %w", name, h.Name, err)
	}
	return nil
}
