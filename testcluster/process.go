package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
}

// Start runs a program with its output in <Dir>/<name>.log, or with standard
// output in stdout when that is not nil.
func (c *Cluster) Start(name string, stdout *os.File, program string, args ...string) (*Proc, error) {
	return c.StartWith(name, Launch{Stdout: stdout}, program, args...)
}

// Launch says how a program is started, besides its arguments.
type Launch struct {
	Stdout *os.File // nil: the log
	Env    []string // further variables
	Prefix []string // words before the program, as of a program that runs others
}

// StartWith is Start with more to choose.
func (c *Cluster) StartWith(name string, l Launch, program string, args ...string) (*Proc, error) {
	log, err := os.OpenFile(c.path(name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close() // the process has its own
	if l.Stdout == nil {
		l.Stdout = log
	}
	words := slices.Concat(l.Prefix, []string{program}, args)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, l.Stdout, log
	cmd.Env = append(os.Environ(), l.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Proc{Name: name, cmd: cmd, ended: make(chan struct{})}
	go func() { // ends with the process, which Close kills
		_ = cmd.Wait() // State has it
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

// Ended returns a channel that is closed when the process has ended.
func (p *Proc) Ended() <-chan struct{} { return p.ended }

// State says how the process ended; nil while it runs.
func (p *Proc) State() *os.ProcessState {
	if p.Running() {
		return nil
	}
	return p.cmd.ProcessState
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
	Host    string // host name or address
	Port    uint16 // 0 for a slave
	CtlPort uint16

	cluster *Cluster
	slave   bool
	mu      sync.Mutex // guards what follows
	proc    *Proc      // the last one started, nil before
	launch  Launch
}

// Slave reports whether it is a slave node.
func (n *Node) Slave() bool { return n.slave }

// SetLaunch says how the node's next processes are started, and its programs.
func (n *Node) SetLaunch(l Launch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.launch = l
}

// Launch returns what SetLaunch was given.
func (n *Node) Launch() Launch {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.launch
}

// DataDir is where the node keeps what must survive its process.
func (n *Node) DataDir() string { return n.cluster.path("data-" + n.Name) }

// Conf returns the path of the node's configuration file.
func (n *Node) Conf() string { return n.cluster.path(n.Name + ".ini") }

// Start starts the node's process, with further options if there are any; it
// does not wait until the node is ready.
func (n *Node) Start(options ...string) error {
	level := n.cluster.opts.Level
	if level == "" {
		level = "err"
	}
	p, err := n.cluster.StartWith(n.Name, n.Launch(), filepath.Join(n.cluster.opts.Bin, "chmpx"), append([]string{"-conf", n.Conf(), "-d", level}, options...)...)
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
	st, _, err := ringview.Fetch(ctx, n.Host, n.CtlPort)
	return st, err
}
