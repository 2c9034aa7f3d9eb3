package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/internal/testring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end at once when all is well.
const patience = time.Minute

// site is the configuration of a ring of one server, on free ports.
type site struct {
	dir, conf, data string
	port, ctlPort   int
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	s.data = filepath.Join(s.dir, "data")
	ports := testring.Ports(t, 2)
	s.port, s.ctlPort = ports[0], ports[1]
	s.conf = filepath.Join(s.dir, "server.ini")
	text := fmt.Sprintf(`[GLOBAL]
FILEVERSION = 1
GROUP = NODETEST
MODE = SERVER
SELFCTLPORT = %[2]d
DELIVERMODE = HASH
RUNDIR = %[3]s/run
DATADIR = %[4]s
[SVRNODE]
NAME = localhost
PORT = %[1]d
CTLPORT = %[2]d
[SLVNODE]
NAME = localhost
CTLPORT = 1
`, s.port, s.ctlPort, s.dir, s.data)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// dataDir returns the node's own directory below DATADIR.
func (s *site) dataDir() string {
	return filepath.Join(s.data, fmt.Sprintf("NODETEST-%d", s.ctlPort))
}

// comesUp proves that a node can be made, is admitted, and stops in order.
func (s *site) comesUp(t *testing.T) {
	t.Helper()
	n, err := New(Options{Config: config.Source{Path: s.conf}})
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	s.await(t, n)
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("does not stop")
	}
}

// TestRestart proves that a node which is asked to restart at its control port
// leaves in order, says that it is to be started again, and serves again after it; and
// that a signal which comes meanwhile counts.
func TestRestart(t *testing.T) {
	s := newSite(t)
	for i, command := range []string{fmt.Sprintf("NODERESTART localhost:%d 20s\n", s.ctlPort), "NODERESTART\n", ""} {
		stopped := i == 2
		n, err := New(Options{Config: config.Source{Path: s.conf}})
		if err != nil {
			t.Fatalf("new: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		s.await(t, n)
		if stopped {
			n.onRestart(time.Minute)
			stop()
		} else if got := sendFrom(t, s.ctlPort, command); got != "SUCCEED\n" {
			t.Errorf("%q: %q", command, got)
		}
		select {
		case err := <-ended:
			if errors.Is(err, ErrRestart) == stopped || stopped && err != nil {
				t.Errorf("stopped %t: run: %v", stopped, err)
			}
		case <-time.After(patience):
			t.Fatal("does not end")
		}
		stop()
	}
	s.comesUp(t)
}

// await waits until a node is admitted.
func (s *site) await(t *testing.T, n *Node) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for n.Status().Incarnation == 0 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not admitted: %+v", n.Status())
		}
	}
}

// TestNothingStaysClaimed proves that a node that cannot start says why and
// claims nothing: the next one starts as soon as the reason is gone. And that
// one that ran has given everything back.
func TestNothingStaysClaimed(t *testing.T) {
	occupy := func(port func(*site) int) func(*testing.T, *site) func() {
		return func(t *testing.T, s *site) func() {
			ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port(s)))
			if err != nil {
				t.Fatal(err)
			}
			return func() { ln.Close() }
		}
	}
	for _, tc := range []struct {
		name  string
		block func(*testing.T, *site) (unblock func())
		is    error
		says  string
	}{
		{name: "CTLPORT in use", block: occupy(func(s *site) int { return s.ctlPort }), says: "listen on CTLPORT"},
		{name: "PORT in use", block: occupy(func(s *site) int { return s.port }), says: "listen on PORT"},
		{name: "data directory in use", is: controlplane.ErrLocked, says: "is held by process", block: func(t *testing.T, s *site) func() {
			d, err := raftnode.OpenDir(s.dataDir())
			if err != nil {
				t.Fatal(err)
			}
			return func() { d.Close() }
		}},
		{name: "run directory is a file", says: "RUNDIR", block: func(t *testing.T, s *site) func() {
			name := filepath.Join(s.dir, "run")
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(name) }
		}},
		{name: "raft log damaged", says: "raft.db", block: func(t *testing.T, s *site) func() {
			name := filepath.Join(s.dataDir(), "raft.db")
			if err := errors.Join(os.MkdirAll(s.dataDir(), 0o700), os.WriteFile(name, make([]byte, 5000), 0o600)); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(name) }
		}},
		{name: "kept table damaged", says: "remove it", block: func(t *testing.T, s *site) func() {
			name := filepath.Join(s.dataDir(), "table")
			if err := errors.Join(os.MkdirAll(s.dataDir(), 0o700), os.WriteFile(name, bytes.Repeat([]byte{0xa5}, 500), 0o600)); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(name) }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			unblock := tc.block(t, s)
			n, err := New(Options{Config: config.Source{Path: s.conf}})
			if n != nil || err == nil || !strings.Contains(err.Error(), tc.says) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("new: %v, %v; want an error about %q", n, err, tc.says)
			}
			unblock()
			s.comesUp(t)
			s.comesUp(t)
		})
	}
}

// TestSecondNode proves that the socket of programs has one node, whatever else differs.
func TestSecondNode(t *testing.T) {
	s := newSite(t)
	n, err := New(Options{Config: config.Source{Path: s.conf}})
	if err != nil {
		t.Fatal(err)
	}
	n.ctlLn.Close()
	n.portLn.Close()
	if _, err := New(Options{Config: config.Source{Path: s.conf}}); !errors.Is(err, dataplane.ErrInUse) {
		t.Errorf("a second node: %v", err)
	}
	n.release()
	s.comesUp(t)
}
