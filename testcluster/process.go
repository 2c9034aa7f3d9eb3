package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
)

// Proc is one process. It dies with the process that started it.
type Proc struct {
	Name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has been waited for
	err   error         // how it ended; read it after ended
}

// Start runs a program with its output in <Dir>/<name>.log, or with standard
// output in stdout when that is not nil.
func (c *Cluster) Start(name string, stdout *os.File, program string, args ...string) (*Proc, error) {
	log, err := os.OpenFile(c.path(name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close() // the process has its own
	if stdout == nil {
		stdout = log
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, stdout, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Proc{Name: name, cmd: cmd, ended: make(chan struct{})}
	go func() { // ends with the process, which Close kills
		p.err = cmd.Wait()
		close(p.ended)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.procs = append(c.procs, p)
	return p, nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

// Pid returns the process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Running reports whether the process has not ended.
func (p *Proc) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Proc) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the process by SIGKILL and waits for its end.
func (p *Proc) Kill() {
	_ = p.Signal(syscall.SIGKILL) // a process of ours that has not ended can be killed
	<-p.ended
}

// Wait waits for the end of the process and returns its exit code, -1 when a
// signal ended it. When ctx ends first it returns ErrTimeout.
func (p *Proc) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%w for the end of %s", ErrTimeout, p.Name)
	}
}

// Stop sends SIGHUP and waits for the end; an exit code other than 0 is an error.
func (p *Proc) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%w: %s with exit code %d", ErrEnded, p.Name, code)
	}
	return err
}

// Node is one chmpx node.
type Node struct {
	Name    string // a, b, ... or s0, s1, ...
	Port    uint16 // 0 for a slave
	CtlPort uint16

	cluster *Cluster
	slave   bool
	mu      sync.Mutex // guards proc
	proc    *Proc      // the last one started, nil before
}

// Conf returns the path of the node's configuration file.
func (n *Node) Conf() string { return n.cluster.path(n.Name + ".ini") }

// Start starts the node's process, with further options if there are any; it
// does not wait until the node is ready.
func (n *Node) Start(options ...string) error {
	level := n.cluster.opts.Level
	if level == "" {
		level = "err"
	}
	p, err := n.cluster.Start(n.Name, nil, filepath.Join(n.cluster.opts.Bin, "chmpx"), append([]string{"-conf", n.Conf(), "-d", level}, options...)...)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc = p
	return nil
}

// Proc returns the node's present or last process, nil before the first.
func (n *Node) Proc() *Proc {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// Running reports whether the node's process runs.
func (n *Node) Running() bool {
	p := n.Proc()
	return p != nil && p.Running()
}

// Kill ends the node by SIGKILL.
func (n *Node) Kill() {
	if p := n.Proc(); p != nil {
		p.Kill()
	}
}

// Stop ends the node in order.
func (n *Node) Stop(ctx context.Context) error {
	if p := n.Proc(); p != nil {
		return p.Stop(ctx)
	}
	return nil
}

// Status asks the node for its status.
func (n *Node) Status(ctx context.Context) (controlplane.Status, error) {
	if !n.Running() {
		return controlplane.Status{}, fmt.Errorf("%w: node %s", ErrEnded, n.Name)
	}
	st, _, err := ringview.Fetch(ctx, "localhost", n.CtlPort)
	return st, err
}
