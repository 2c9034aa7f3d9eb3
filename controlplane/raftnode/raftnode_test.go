package raftnode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLogLevels proves that what a dead peer explains is one warning in 30 s
// for each peer, that raft's chatter is debug, and that real errors stay errors,
// each once in 30 s.
func TestLogLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := NewLogger(slog.New(slog.NewTextHandler(&b, nil)))
		count := func(level string) int { return strings.Count(b.String(), "level="+level) }
		for range 100 {
			l.Error("failed to heartbeat to", "peer", "a", "error", io.EOF)
			l.Error("failed to heartbeat to", "peer", "b", "error", io.EOF)
			l.Info("pipelining replication")
		}
		if got := count("WARN"); got != 2 {
			t.Errorf("%d warnings, want one for each peer:\n%s", got, b.String())
		}
		<-time.After(repeatEvery)
		l.Error("failed to heartbeat to", "peer", "a", "error", io.EOF)
		if got := count("WARN"); got != 3 {
			t.Errorf("%d warnings after 30 s, want 3", got)
		}
		for range 100 {
			l.With("k", "v").Named("x").Error("failed to commit logs", "error", io.EOF)
		}
		if count("ERROR") != 1 || count("INFO") != 0 {
			t.Errorf("errors and infos:\n%s", b.String())
		}
	})
}

// TestDir proves that a data directory has one holder at a time, who is named,
// and that it remembers its raft id and whether raft has run.
func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("second holder: %v", err)
	}
	if id, err := d.RaftID(); id != "" || err != nil {
		t.Errorf("raft id of an empty directory: %q, %v", id, err)
	}
	if err := d.SetRaftID("1.0"); err != nil {
		t.Fatal(err)
	}
	s, err := d.OpenStores(NewLogger(slog.New(slog.DiscardHandler)), false)
	if err != nil {
		t.Fatal(err)
	}
	if has, err := s.HasState(); has || err != nil {
		t.Errorf("state of empty stores: %t, %v", has, err)
	}
	if err := s.log.StoreLogs([]*raft.Log{{Index: 1, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	if has, err := s.HasState(); !has || err != nil {
		t.Errorf("state after an entry: %t, %v", has, err)
	}
	if s.StalledFor() != 0 {
		t.Error("a write is under way")
	}
	if err := errors.Join(s.Close(), s.Close(), d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if id, err := again.RaftID(); id != "1.0" || err != nil {
		t.Errorf("raft id: %q, %v", id, err)
	}
}

// TestBegunBootstrap proves that a bootstrap that ended after its first write
// leaves a member that can be bootstrapped, and that any other term counts.
func TestBegunBootstrap(t *testing.T) {
	for term, want := range map[uint64]bool{1: false, 2: true} {
		s := MemoryStores()
		if err := s.stable.SetUint64([]byte(termKey), term); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if has, err := s.HasState(); has != want || err != nil {
				t.Errorf("state with term %d: %t, %v, want %t", term, has, err, want)
			}
		}
	}
}

// TestDamagedLog proves that a log that lost its end is refused with a reason:
// reading it would be a fault that ends the process.
func TestDamagedLog(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	log := NewLogger(slog.New(slog.DiscardHandler))
	fillLog(t, d)
	fillLog(t, d) // a sound log opens again
	name := filepath.Join(path, logFile)
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := st.Size() / 2; size >= 8192; size /= 2 {
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		if s, err := d.OpenStores(log, true); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("log of %d bytes: %v, %v", size, s, err)
		}
	}
}

// fillLog writes 50 entries and closes the log.
func fillLog(t *testing.T, d *Dir) {
	t.Helper()
	s, err := d.OpenStores(NewLogger(slog.New(slog.DiscardHandler)), true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(50) {
		if err := s.log.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.stable.SetUint64([]byte("CurrentTerm"), 1), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestGarbageLog proves that a log of the right length with garbage in it, be
// it a byte, a part of a page, a page or all of it, is opened as if nothing were wrong
// (what is not in use does not matter) or refused with the file and the way
// out, and never ends the process.
func TestGarbageLog(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fillLog(t, d)
	name := filepath.Join(path, logFile)
	sound, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	log := NewLogger(slog.New(slog.DiscardHandler))
	refused := 0
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := bytes.Clone(sound)
		n := []int{1, 16, 512, 4096, len(b)}[seed%5]
		at := rnd.IntN(len(b) - n + 1)
		for i := range b[at : at+n] {
			b[at+i] = byte(rnd.Uint32())
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := d.OpenStores(log, true)
		if err == nil {
			s.Close()
			continue
		}
		refused++
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "move the directory away") {
			t.Errorf("%d bytes of garbage at %d: %v", n, at, err)
		}
	}
	if refused < 60 {
		t.Errorf("only %d of 300 were refused", refused)
	}
}

// TestStalled proves that a write that does not end is seen.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := MemoryStores()
		block := make(chan struct{})
		s.log = s.writes
		s.Intercept(func(l raft.LogStore) raft.LogStore { return blockingStore{l, block} })
		done := make(chan error, 1)
		go func() { done <- s.log.StoreLog(&raft.Log{Index: 1, Term: 1}) }()
		<-time.After(7 * time.Second)
		if d := s.StalledFor(); d != 7*time.Second {
			t.Errorf("stalled for %v", d)
		}
		close(block)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if d := s.StalledFor(); d != 0 {
			t.Errorf("still stalled for %v", d)
		}
	})
}

type blockingStore struct {
	raft.LogStore
	block chan struct{}
}

func (b blockingStore) StoreLogs(l []*raft.Log) error {
	<-b.block
	return b.LogStore.StoreLogs(l)
}

// TestDialWaits proves that a dial to a peer that refuses succeeds soon after
// the peer is there, for all who wait, and that Interrupt ends the rest.
func TestDialWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := make(chan struct{})
		var tries atomic.Int64
		s := NewStream("1.0", "a:1", func(_ context.Context, id raft.ServerID, addr string) (net.Conn, error) {
			tries.Add(1)
			select {
			case <-up:
			default:
				return nil, syscall.ECONNREFUSED
			}
			if addr != "b:1" {
				return nil, syscall.ECONNREFUSED
			}
			near, far := net.Pipe()
			go func() {
				got, _, err := readTarget(far)
				if got != id || err != nil {
					t.Errorf("target %q, %v", got, err)
				}
				if err := writeWelcome(far); err != nil {
					t.Error(err)
				}
			}()
			return near, nil
		}, func() string { return "" }, slog.New(slog.DiscardHandler))
		defer s.Close()
		const waiters = 10
		done := make(chan error, waiters)
		for range waiters {
			go func() {
				_, err := s.Dial(Address("2.0", "b:1"), 0)
				done <- err
			}()
		}
		<-time.After(5 * time.Second)
		if n := tries.Load(); n > waiters+60 {
			t.Errorf("%d attempts in 5 s: only one dialler should try", n)
		}
		close(up)
		began := time.Now()
		for range waiters {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(began); d > 2*dialRetry {
			t.Errorf("connected %v after the peer came", d)
		}
		go func() {
			_, err := s.Dial(Address("3.0", "c:1"), 0)
			done <- err
		}()
		<-time.After(time.Second)
		s.Interrupt()
		if err := <-done; err == nil {
			t.Error("a dial succeeded after Interrupt")
		}
	})
}

// TestInterruptBesideMutePeer proves that the end of a member waits for no peer that
// takes its connection and says nothing, nor tries it again.
func TestInterruptBesideMutePeer(t *testing.T) {
	for range 20 { // what is over and what is due may come at once
		synctest.Test(t, func(t *testing.T) {
			mute := func(context.Context, raft.ServerID, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, far) }() // ended by near
				return near, nil
			}
			s := NewStream("1.a", "a:1", mute, func() string { return "" }, slog.New(slog.DiscardHandler))
			defer s.Close()
			ended := make(chan error, 1)
			go func() {
				_, err := s.Dial(Address("1.b", "b:1"), 0)
				ended <- err
			}()
			<-time.After(dialAttempt + dialAttempt/2) // it is in its second attempt
			began := time.Now()
			s.Interrupt()
			if err := <-ended; err == nil || time.Since(began) > 0 {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	}
}

// TestDeliver proves that a connection for another member is refused: a server
// that lost its disk is not who its peers think; and one from another group
// whose members go by the same ids.
func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		realm := ""
		s := NewStream("1.b", "a:1", nil, func() string { return realm }, slog.New(slog.DiscardHandler))
		defer s.Close()
		for _, tc := range []struct {
			id         raft.ServerID
			realm, own string
			want       bool
		}{
			{"1.0", "", "", false}, {"1.b", "", "", true},
			{"1.b", "r1", "r1", true}, {"1.b", "", "r1", true}, {"1.b", "r1", "", true}, {"1.b", "r2", "r1", false},
		} {
			realm = tc.own
			near, far := net.Pipe()
			go s.Deliver(far)
			if err := writeTarget(near, tc.id, tc.realm); err != nil && tc.want { // who is refused may see the end first
				t.Fatal(err)
			}
			if err := readWelcome(near); (err == nil) != tc.want {
				t.Errorf("connection %+v: welcome %v", tc, err)
			}
			synctest.Wait()
			if got := len(s.incoming) == 1; got != tc.want {
				t.Errorf("connection %+v: taken %t", tc, got)
			}
			if tc.want {
				(<-s.incoming).Close()
			}
			near.Close()
		}
	})
}

// FuzzReadTarget proves that no bytes make the reader of targets panic, and
// that it reads no more than the target.
func FuzzReadTarget(f *testing.F) {
	f.Add([]byte{5, 0, '1', '.', '0', '@', 'r', 'x'})
	f.Add([]byte{2, 0, '@', 'r'})
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &bytesConn{r: bytes.NewReader(in)}
		id, realm, err := readTarget(c)
		if read := len(in) - c.r.Len(); err == nil && (len(id) == 0 || len(id)+len(realm) > targetBytesMax || read > 2+len(id)+1+len(realm)) {
			t.Errorf("read %q of %q: %d bytes of %d", id, realm, read, len(in))
		}
	})
}

// bytesConn is a connection on which some bytes arrive.
type bytesConn struct {
	net.Conn
	r *bytes.Reader
}

func (c *bytesConn) Read(b []byte) (int, error)      { return c.r.Read(b) }
func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }
