//go:build faults

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/internal/freeport"
)

// nodeConf makes the process that TestFaultCrash starts a node with this configuration.
const nodeConf = "CHMPX_TEST_NODE_CONF"

// A node dies at each point, is started again, and everything that its program
// had sent is taken.
func TestFaultCrash(t *testing.T) {
	if conf := os.Getenv(nodeConf); conf != "" {
		d := daemon{args: []string{"-conf", conf}, stdout: os.Stdout, stderr: os.Stderr, signals: make(chan os.Signal)}
		os.Exit(d.run())
	}
	for _, p := range fault.Points() {
		switch {
		case !p.Node, strings.HasPrefix(string(p.Point), "raft-snapshot"): // those take 8,192 entries
		case p.Point == fault.NodeHandBackMarked, p.Point == fault.NodeControlPublished: // that takes an admission before the program is back
		default:
			t.Run(string(p.Point), func(t *testing.T) { crashAt(t, p.Point) })
		}
	}
}

// house is a ring of one node that can be started.
type house struct {
	t    *testing.T
	ctx  context.Context
	conf string
}

func newHouse(t *testing.T) *house {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	ports, err := freeport.Take(2)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, ctx: ctx, conf: filepath.Join(dir, "node.ini")}
	text := fmt.Sprintf(`[GLOBAL]
FILEVERSION = 1
DATE = Mon, 02 Nov 2026 09:00:00 +0000
GROUP = HOUSE
MODE = SERVER
DELIVERMODE = HASH
SELFCTLPORT = %[2]d
DOMERGE = on
AUTOMERGE = on
RUNDIR = %[3]s/run
DATADIR = %[3]s/data
[SVRNODE]
NAME = localhost
PORT = %[1]d
CTLPORT = %[2]d
[SLVNODE]
NAME = localhost
CTLPORT = 1
`, ports[0], ports[1], dir)
	if err := os.WriteFile(h.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// start starts the node, which dies at a point unless it is ""; any goroutine.
func (h *house) start(crash string) *exec.Cmd {
	cmd := exec.CommandContext(h.ctx, os.Args[0], "-test.run=^TestFaultCrash$")
	cmd.Env = append(os.Environ(), nodeConf+"="+h.conf, fault.EnvCrash+"="+crash)
	if err := cmd.Start(); err != nil {
		h.t.Errorf("start the node: %v", err)
	}
	return cmd
}

// died waits until the node has killed itself; any goroutine.
func (h *house) died(cmd *exec.Cmd) {
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || h.ctx.Err() != nil {
		h.t.Errorf("the node ended with %v (%v), want SIGKILL by itself", err, h.ctx.Err())
	}
}

// attach returns a program when there is a node for it.
func (h *house) attach(role client.Role) *client.Client {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := client.Attach(h.ctx, client.Options{Config: h.conf, Role: role})
		if err == nil {
			h.t.Cleanup(func() { _ = c.Close() })
			return c
		}
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("attach: %v", err)
		}
	}
}

func crashAt(t *testing.T, point fault.Point) {
	h := newHouse(t)
	handsBack := strings.HasPrefix(string(point), "node-hand-back")
	first := string(point)
	if handsBack {
		first = ""
	}
	node := h.start(first)
	var again sync.WaitGroup
	if !handsBack {
		again.Go(func() {
			h.died(node)
			node = h.start("")
		})
	}
	taker, sender := h.attach(client.RoleServer), h.attach(client.RoleClient)
	const messages, size = 60, 100 << 10 // several rounds of a ring
	var sending sync.WaitGroup
	send := func(from, to int) {
		for i := from; i < to; i++ {
			if err := sender.Send(h.ctx, 1, binary.LittleEndian.AppendUint64(make([]byte, size), uint64(i))); err != nil {
				t.Errorf("message %d: %v", i, err)
				return
			}
		}
	}
	taken := map[uint64]bool{}
	take := func() error {
		m, err := taker.Receive(h.ctx)
		if err == nil {
			taken[binary.LittleEndian.Uint64(m.Payload[size:])] = true
		}
		return err
	}
	if handsBack {
		send(0, 5)
		if err := take(); err != nil { // then the others lie in the in-ring, too
			t.Fatal(err)
		}
		_ = node.Process.Kill()
		_ = node.Wait()
		h.died(h.start(string(point)))
		node = h.start("")
		sending.Go(func() { send(5, messages) })
	} else {
		sending.Go(func() { send(0, messages) })
	}
	for len(taken) < messages {
		if err := take(); err != nil {
			t.Errorf("%d of %d messages were taken: %v", len(taken), messages, err)
			break
		}
	}
	again.Wait()
	sending.Wait()
	if !t.Failed() {
		_ = node.Process.Kill()
		_ = node.Wait()
	}
}
