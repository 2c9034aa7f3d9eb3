package raftnode

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// group is a few members of raft in one process, connected by pipes.
type group struct {
	t       *testing.T
	streams map[string]*Stream // by address
	nodes   []*Node

	mu   sync.Mutex // guards away
	away map[string]bool
}

// newGroup starts that many members, which have a leader when it returns.
func newGroup(t *testing.T, size int) *group {
	g := &group{t: t, streams: make(map[string]*Stream), away: make(map[string]bool)}
	log := slog.New(slog.DiscardHandler)
	var servers []raft.Server
	for i := range size {
		id, addr := raft.ServerID(string(rune('1'+i))+".0"), string(rune('a'+i))+":1"
		g.streams[addr] = NewStream(id, addr, g.dial, func() string { return "" }, log)
		servers = append(servers, raft.Server{ID: id, Address: Address(id, addr)})
	}
	for _, s := range servers {
		_, addr := splitAddress(s.Address)
		byLog := func(raft.ServerID) (string, bool) { return "", false }
		n, err := Start(Options{ID: s.ID, Stream: g.streams[addr], Stores: MemoryStores(), FSM: emptyFSM{}, AddressOf: byLog, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		g.nodes = append(g.nodes, n)
		if err := n.Bootstrap(servers); err != nil {
			t.Fatal(err)
		}
	}
	g.leader()
	return g
}

func (g *group) dial(_ context.Context, _ raft.ServerID, addr string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away[addr] {
		return nil, syscall.ECONNREFUSED
	}
	near, far := net.Pipe()
	go g.streams[addr].Deliver(far)
	return near, nil
}

// leader waits for a leader.
func (g *group) leader() *Node {
	for range 1000 {
		for _, n := range g.nodes {
			if n.State() == raft.Leader {
				return n
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	g.t.Fatal("no leader")
	return nil
}

func (g *group) stop() {
	for _, n := range g.nodes {
		if err := n.Stop(); err != nil {
			g.t.Error(err)
		}
	}
}

// leave makes a member unreachable, as one whose process has ended, or as one that is
// there and cut off; the result makes it reachable again.
func (g *group) leave(n *Node, held bool) (back func()) {
	addr := string(n.stream.addr.String())
	_, addr = splitAddress(raft.ServerAddress(addr))
	set := func(away bool) {
		g.mu.Lock()
		g.away[addr] = away
		g.mu.Unlock()
	}
	if !held {
		set(true)
	}
	n.stream.Hold(true)
	return func() {
		set(false)
		n.stream.Hold(false)
	}
}

// TestBackAfterLong proves that a member which comes back is sent entries at
// once, however long it was away, and although the leader has tried all the
// time: raft itself would wait for 10 s by then. So whether nobody answered at
// its address or the process there took no part, and with entries that it lacks
// as with those that are new.
func TestBackAfterLong(t *testing.T) {
	for name, held := range map[string]bool{"ended": false, "cut off": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, 3)
				defer g.stop()
				leader := g.leader()
				follower := g.nodes[0]
				if follower == leader {
					follower = g.nodes[1]
				}
				for _, away := range []time.Duration{time.Second, 7 * time.Minute} {
					back := g.leave(follower, held)
					<-time.After(away / 2)
					if err := leader.Apply([]byte("x"), time.Second).Error(); err != nil {
						t.Fatal(err)
					}
					<-time.After(away / 2)
					back()
					began := time.Now()
					for follower.AppliedIndex() < leader.AppliedIndex() {
						<-time.After(10 * time.Millisecond)
					}
					if took := time.Since(began); took > time.Second {
						t.Errorf("away for %v, and then without entries for %v", away, took)
					}
					if g.leader() != leader {
						t.Fatal("another leader: the test proves nothing")
					}
				}
			})
		})
	}
}

// TestEntriesAgain proves that entries which do not get to a follower are sent
// again until they have, without an error for raft to wait about; that this
// ends with the lead, and with the member; and that votes and heartbeats are
// not sent again.
func TestEntriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		var lead atomic.Bool
		lead.Store(true)
		fake := &failingTransport{fails: 50}
		st := newSteadyTransport(fake, ended, func(term uint64, id raft.ServerID) bool { return lead.Load() && term == 3 && id == "f" }, slog.New(slog.DiscardHandler))
		entries := func(term uint64) error {
			return st.AppendEntries("f", "", &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 7}, new(raft.AppendEntriesResponse))
		}
		expect := func(what string, err error, fails bool, tries int) {
			t.Helper()
			if (err != nil) != fails || fake.tries != tries {
				t.Errorf("%s: %v after %d attempts, want %d", what, err, fake.tries, tries)
			}
			fake.tries = 0
		}
		expect("entries", entries(3), false, 51)
		fake.fails = 50
		expect("entries of another term", entries(2), true, 1)
		expect("heartbeat", st.AppendEntries("f", "", &raft.AppendEntriesRequest{Term: 3}, new(raft.AppendEntriesResponse)), true, 1)
		time.AfterFunc(10*entriesRetry+entriesRetry/2, func() { lead.Store(false) })
		expect("entries until the lead is lost", entries(3), true, 11)
		lead.Store(true)
		time.AfterFunc(10*entriesRetry+entriesRetry/2, func() { close(ended) })
		expect("entries until the end", entries(3), true, 11)
	})
}

// failingTransport fails a number of times.
type failingTransport struct {
	transport
	fails, tries int
}

func (f *failingTransport) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, _ *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	f.tries++
	if f.fails > 0 {
		f.fails--
		return syscall.ECONNRESET
	}
	resp.Success = true
	return nil
}

// TestHeldWelcomesNobody proves that a member which is cut off does not welcome a
// connection and then close it: its peers would take it for one that is there.
func TestHeldWelcomesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("1.0", "a:1", nil, func() string { return "" }, slog.New(slog.DiscardHandler))
		defer s.Close()
		for _, held := range []bool{false, true, false} {
			s.Hold(held)
			near, far := net.Pipe()
			go s.Deliver(far)
			err := writeTarget(near, "1.0", "")
			if err == nil {
				err = readWelcome(near)
			}
			if (err != nil) != held {
				t.Errorf("held %t: welcome %v", held, err)
			}
			near.Close()
		}
	})
}
