package dataplane_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
)

// A server program that ends with more in its out-ring than the window takes,
// all of it for itself, leaves at once: the next program gets what it sent and
// what others send.
func TestEndedProgramLeavesAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	s := attach(t, w.nodes[0], client.RoleServer)
	for range 3000 {
		if err := s.Send(context.Background(), 0, []byte("to itself")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	echo(t, w.nodes[0])
	ask(t, attach(t, w.slave(), client.RoleClient), 0, "to the next program")
}

// story is a ring in which things happen while sessions send. Slots have one
// owner each; a server that goes down leaves its slots to the others at once.
type story struct {
	*world
	rng    *rand.Rand
	conns  [3]cuttable
	takers []*taker
	merges uint64
	gap    [2]ring.ID // between whom the cable is cut
	judge  storyJudge
}

// cuttable is a listener whose connections can be broken.
type cuttable struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns []*net.TCPConn
}

func (l *cuttable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn.(*net.TCPConn))
	return conn, nil
}

// cut resets all connections: what is in flight is lost.
func (l *cuttable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.SetLinger(0) // it may have ended by itself
		_ = conn.Close()
	}
	l.conns = nil
}

// taker is a server program; its client lives through restarts of its node.
type taker struct {
	c        *client.Client
	recorded atomic.Uint64 // messages that the judge knows
	gate     chan struct{} // holds one token; without it nothing is taken
}

const (
	storySlots    = 16
	storySessions = 4
	storyHashes   = 12
	storyMessages = 2500 // of each session
	storyTime     = 4 * time.Second
)

// storyJudge holds what is taken against the delivery contract.
type storyJudge struct {
	mu     sync.Mutex // guards all
	sent   [storySessions][storyHashes]uint64
	first  [storySessions][storyHashes]uint64 // highest number taken
	bad    []string
	repeat int
	change chan struct{} // capacity 1: something was taken
}

func (j *storyJudge) take(m *client.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, n := binary.LittleEndian.Uint64(m.Payload), binary.LittleEndian.Uint64(m.Payload[8:])
	first := &j.first[s][m.Hash]
	switch {
	case n > *first+1:
		j.bad = append(j.bad, fmt.Sprintf("session %d hash %d: %d is first taken after %d", s, m.Hash, n, *first))
		*first = n
	case n == *first+1:
		*first = n
	case !m.MaybeRepeat:
		j.bad = append(j.bad, fmt.Sprintf("session %d hash %d: %d is taken again or late, without mark", s, m.Hash, n))
	default:
		j.repeat++
	}
	select {
	case j.change <- struct{}{}:
	default:
	}
}

// done reports whether everything has been taken.
func (j *storyJudge) done() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.first == j.sent
}

func newStory(t *testing.T, seed uint64) *story {
	s := &story{rng: rand.New(rand.NewPCG(seed, 7)), world: &world{
		t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cables: newCables(),
	}}
	s.judge.change = make(chan struct{}, 1)
	for i := range s.conns {
		s.listen(i, "127.0.0.1:0")
		s.table.Servers = append(s.table.Servers, ring.Server{
			ID: ring.ID(0x100 + i), Number: uint16(i), Identity: ring.Identity{Name: fmt.Sprint("server-", i)},
			Addr: s.conns[i].Addr().String(), Status: serving, Incarnation: s.nextInc(),
		})
	}
	for _, srv := range s.table.Servers {
		s.cables.ids[srv.Addr] = srv.ID
	}
	s.table.Base = ring.Interleaved(storySlots, 1, []uint16{0, 1, 2})
	for i := range s.conns {
		srv := &s.table.Servers[i]
		s.start(&testNode{id: srv.ID, inc: srv.Incarnation, addr: srv.Addr}, &s.conns[i])
	}
	s.start(&testNode{id: 0x999, slave: true}, nil)
	s.publish(nil)
	return s
}

func (s *story) nextInc() ring.Incarnation { s.epoch++; return ring.Incarnation(s.epoch) }

// listen opens the port of a server, again if addr says which.
func (s *story) listen(i int, addr string) {
	stop, again := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			s.conns[i].Listener = ln
			return
		}
		select {
		case <-again.C:
		case <-stop:
			s.t.Fatal(err)
		}
	}
}

// take runs the program of a server until the test ends; that of the last one
// takes what it is done with.
func (s *story) take(n *testNode) {
	ctx, cancel := context.WithCancel(context.Background())
	c, err := client.Attach(ctx, client.Options{Socket: n.socket(), Role: client.RoleServer, AckOnDone: n == s.nodes[2]})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	tk := &taker{c: c, gate: make(chan struct{}, 1)}
	tk.gate <- struct{}{}
	s.takers = append(s.takers, tk)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-tk.gate:
				tk.gate <- struct{}{}
			case <-ctx.Done():
				return
			}
			m, err := tk.c.Receive(ctx)
			if err != nil {
				return
			}
			s.judge.take(m)
			tk.recorded.Add(1)
			c.Done(m)
		}
	})
	s.t.Cleanup(func() { cancel(); wg.Wait() })
}

// send sends the messages of one session, a few each millisecond.
func (s *story) send(session uint64, c *client.Client, rng *rand.Rand) error {
	t := time.NewTicker(storyTime / (storyMessages / 4))
	defer t.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range storyMessages {
		if i%4 == 0 {
			<-t.C
		}
		hash := rng.Uint64N(storyHashes)
		s.judge.mu.Lock()
		s.judge.sent[session][hash]++
		n := s.judge.sent[session][hash]
		s.judge.mu.Unlock()
		b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, session), n)
		if err := c.Send(ctx, hash, append(b, make([]byte, rng.IntN(300))...)); err != nil {
			return fmt.Errorf("session %d: %w", session, err)
		}
	}
	return nil
}

// until waits for cond, looked at each millisecond.
func (s *story) until(what string, cond func() bool) {
	s.t.Helper()
	stop, again := time.After(patience), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-again.C:
		case <-stop:
			s.t.Fatalf("%s did not happen", what)
		}
	}
}

// hold lets messages pile up untaken at a program for a moment, mostly; the
// returned func lets it go on.
func (s *story) hold(i int) (release func()) {
	if s.rng.IntN(4) == 0 {
		return func() {}
	}
	gate := s.takers[i].gate
	<-gate
	<-time.After(time.Duration(5+s.rng.IntN(20)) * time.Millisecond)
	return func() { gate <- struct{}{} }
}

// recorded waits until the judge knows what the program of a server has taken:
// else the next owner's program could come first.
func (s *story) recorded(i int) {
	tk := s.takers[i]
	s.until("the record of what was taken", func() bool { return tk.recorded.Load() == tk.c.Stats().Received })
}

// restart ends a server and starts it under a new incarnation. heirs says that
// the others take its slots over in between.
func (s *story) restart(i int, heirs bool) {
	srv, old := &s.table.Servers[i], s.nodes[i]
	release := s.hold(i)
	old.stop()
	s.conns[i].cut()
	tk := s.takers[i]
	s.until("the program sees its node gone", func() bool { return !tk.c.Stats().Attached })
	release()
	s.recorded(i)
	if heirs {
		srv.Status = ring.ServiceIn
		for slot, n := range s.table.Base.Owners {
			if n == uint16(i) {
				s.table.Base.Owners[slot] = uint16(i+1+s.rng.IntN(2)) % 3
			}
		}
		s.publish(nil)
	}
	s.listen(i, srv.Addr)
	srv.Status, srv.Incarnation = serving, s.nextInc()
	s.start(&testNode{id: srv.ID, inc: srv.Incarnation, addr: srv.Addr, dir: old.dir}, &s.conns[i])
	s.publish(nil)
}

// move hands some slots of a server to another: seal, drain, switch. The links
// may break meanwhile.
func (s *story) move(donor, receiver int) {
	slots := ring.NewSlotSet(storySlots)
	for slot, n := range s.table.Base.Owners {
		if n == uint16(donor) && s.rng.IntN(3) > 0 {
			slots.Add(slot)
		}
	}
	s.merges++
	n := s.nodes[donor]
	n.mu.Lock()
	was := n.final
	n.mu.Unlock()
	release := s.hold(donor)
	s.publish(&ring.Merge{ID: s.merges, Phase: ring.MergeSealed, Seal: s.merges, Transfers: []ring.Transfer{
		{Donor: n.id, Receiver: s.nodes[receiver].id, Slots: slots},
	}})
	if s.rng.IntN(2) == 0 {
		s.conns[donor].cut()
	}
	release()
	n.await("donor final", func() bool { return n.final > was })
	if s.rng.IntN(4) == 0 { // unsealed instead
		s.publish(nil)
		return
	}
	s.recorded(donor)
	for slot := range storySlots {
		if slots.Has(slot) {
			s.table.Base.Owners[slot] = uint16(receiver)
		}
	}
	s.publish(nil)
}

// step lets one thing happen.
func (s *story) step() (what string) {
	i := s.rng.IntN(3)
	switch r := s.rng.IntN(16); {
	case r >= 12:
		s.cables.mend(s.gap[0], s.gap[1])
		if r == 12 {
			return "mend"
		}
		s.gap = [2]ring.ID{s.nodes[i].id, s.nodes[(i+1+s.rng.IntN(3))%4].id}
		s.cables.cut(s.gap[0], s.gap[1])
		return fmt.Sprint("cut between ", s.gap)
	case r < 5:
		s.conns[i].cut()
		return fmt.Sprint("cut ", i)
	case r < 9:
		to := (i + 1 + s.rng.IntN(2)) % 3
		s.move(i, to)
		return fmt.Sprint("move ", i, to)
	case r < 11:
		heirs := s.rng.IntN(2) == 0
		s.restart(i, heirs)
		return fmt.Sprint("restart ", i, heirs)
	}
	old := s.slave()
	old.stop()
	s.start(&testNode{id: old.id, slave: true, dir: old.dir}, nil)
	s.publish(nil)
	return "restart slave"
}

// storySeed differs in each run of a process, so that -count plays other stories.
var storySeed atomic.Uint64

// Whatever happens to links, servers, the slave and the owners of slots, four
// sessions that send all the while lose nothing, see nothing taken twice
// without mark, and have first takes in order for each hash.
func TestStory(t *testing.T) {
	seed := storySeed.Add(1)
	s := newStory(t, seed)
	for _, n := range s.nodes[:3] {
		s.take(n)
	}
	var senders sync.WaitGroup
	errs := make([]error, storySessions)
	for i := range errs {
		from := s.slave()
		if i == 0 {
			from = s.nodes[0] // a server's own program
		}
		c, rng := attach(t, from, client.RoleClient), rand.New(rand.NewPCG(seed, uint64(i)))
		senders.Go(func() { errs[i] = s.send(uint64(i), c, rng) })
	}
	sent := make(chan struct{})
	go func() { senders.Wait(); close(sent) }()
	var events []string
	for begin := time.Now(); time.Since(begin) < storyTime; {
		events = append(events, s.step())
		select {
		case <-time.After(time.Duration(s.rng.IntN(60)) * time.Millisecond):
		case <-sent:
		}
	}
	<-sent
	s.cables.mend(s.gap[0], s.gap[1])
	for i, tk := range s.takers { // they live through restarts in the segments that they have
		if st := tk.c.Stats(); st.Resumed != st.Reattached {
			t.Errorf("the program of server %d attached again %d times, %d times in its segment", i, st.Reattached, st.Resumed)
		}
	}
	stop := time.After(patience)
	for waiting := true; waiting && !s.judge.done(); {
		select {
		case <-s.judge.change:
		case <-stop:
			waiting = false
		}
	}
	tunnels := uint64(0)
	for _, n := range s.nodes {
		tunnels += n.plane.Status().Relay.Opened
	}
	t.Logf("seed %d, %d marked repeats, %d tunnels: %v", seed, s.judge.repeat, tunnels, events)
	s.judge.mu.Lock()
	defer s.judge.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	for i := range s.judge.sent {
		if !slices.Equal(s.judge.first[i][:], s.judge.sent[i][:]) {
			t.Errorf("session %d: sent %v, taken %v", i, s.judge.sent[i], s.judge.first[i])
		}
	}
	for _, b := range s.judge.bad {
		t.Error(b)
	}
}

// A view that comes after the end of a plane does nothing: the segments, from
// which it would send what waited for an owner, are unmapped.
func TestViewAfterTheEnd(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	w.table.Servers[0].Status = ring.Up
	w.publish(nil)
	if err := attach(t, n, client.RoleClient).Send(context.Background(), 0, []byte("for nobody yet")); err != nil {
		t.Fatal(err)
	}
	w.slave().stop()
	n.stop()
	w.table.Servers[0].Status = serving
	w.publish(nil)
}
