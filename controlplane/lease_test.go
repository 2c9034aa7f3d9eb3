package controlplane

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/ring"
)

// TestOwnerLease proves that a server hears when no leader was heard for
// OWNERLEASE, and when one is heard again, the leader as well as the others; that
// nobody hears anything while there is a leader; and that the status says so.
func TestOwnerLease(t *testing.T) {
	story(t, 3, func(r *rig) {
		heard := make(map[string]chan bool)
		for _, m := range r.servers {
			heard[m.Name] = make(chan bool, 10)
			r.start(m.Name, func(c *Config) {
				c.OwnerLease, c.OnLease = 2*time.Second, func(lapsed bool) { heard[m.Name] <- lapsed }
			})
		}
		r.formed("a", "b", "c")
		begin := time.Now()
		r.await("a minute with a leader", 2*time.Minute, func() bool { return time.Since(begin) > time.Minute })
		for name, h := range heard {
			if len(h) > 0 {
				t.Errorf("%s heard that its lease has lapsed: %t", name, <-h)
			}
		}
		leader := r.leader().name
		begin = time.Now()
		for name := range heard {
			if name != leader {
				r.kill(name)
			}
		}
		if lapsed := <-heard[leader]; !lapsed || time.Since(begin) < time.Second || time.Since(begin) > 3*time.Second {
			t.Errorf("lapsed %t after %v", lapsed, time.Since(begin))
		}
		if w := strings.Join(r.nodes[leader].plane.Status().Warnings, "; "); !strings.Contains(w, "OWNERLEASE") {
			t.Errorf("warnings: %s", w)
		}
		for name := range heard {
			if name != leader {
				r.start(name, nil)
			}
		}
		if lapsed := <-heard[leader]; lapsed {
			t.Error("it lapsed again")
		}
		r.formed("a", "b", "c")
		if w := strings.Join(r.nodes[leader].plane.Status().Warnings, "; "); strings.Contains(w, "OWNERLEASE") {
			t.Errorf("warnings: %s", w)
		}
	})
}

// TestOwnerLeaseSwitched proves that the lease may be switched while a server runs: on,
// which no server with a leader notices, and off, which ends a lapse at once.
func TestOwnerLeaseSwitched(t *testing.T) {
	story(t, 3, func(r *rig) {
		heard := make(map[string]chan bool)
		for _, m := range r.servers {
			heard[m.Name] = make(chan bool, 10)
			r.start(m.Name, func(c *Config) { c.OnLease = func(lapsed bool) { heard[m.Name] <- lapsed } })
		}
		r.formed("a", "b", "c")
		waits := func(d time.Duration) {
			begin := time.Now()
			r.await("some time", 2*d, func() bool { return time.Since(begin) > d })
		}
		all := func(lease time.Duration) {
			for _, n := range r.nodes {
				n.plane.SetTimes(Times{OwnerLease: lease})
			}
		}
		for range 2 { // the second time it knows of contacts that are old
			all(2 * time.Second)
			waits(10 * time.Second)
			all(0)
			waits(10 * time.Second)
		}
		for name, h := range heard {
			if len(h) > 0 {
				t.Errorf("%s heard with a leader that its lease has lapsed: %t", name, <-h)
			}
		}
		leader := r.leader().name
		for name := range heard {
			if name != leader {
				r.kill(name)
			}
		}
		waits(10 * time.Second)
		if len(heard[leader]) > 0 {
			t.Errorf("%s heard without a lease that it has lapsed: %t", leader, <-heard[leader])
		}
		all(2 * time.Second)
		if lapsed := <-heard[leader]; !lapsed {
			t.Error("it ended before it lapsed")
		}
		begin := time.Now()
		all(0)
		if lapsed := <-heard[leader]; lapsed || time.Since(begin) > time.Second {
			t.Errorf("switched off after %v: lapsed %t", time.Since(begin), lapsed)
		}
		if w := strings.Join(r.nodes[leader].plane.Status().Warnings, "; "); strings.Contains(w, "OWNERLEASE") {
			t.Errorf("warnings: %s", w)
		}
	})
}

// TestSetTimes proves that DOWNOUT and UPBACKOFFMAX may change while a server runs.
func TestSetTimes(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.serve()
		last := r.servers[2]
		if r.leader().name == last.Name {
			last = r.servers[0]
		}
		leader := r.leader()
		for _, n := range r.nodes {
			n.plane.SetTimes(Times{DownOut: 10 * time.Minute, UpBackoffMax: 3 * time.Second})
		}
		now := time.Now()
		leader.plane.mu.Lock()
		leader.plane.downs = []time.Time{now.Add(-8 * time.Second), now.Add(-7 * time.Second), now.Add(-6 * time.Second), now.Add(-5 * time.Second), now.Add(-4 * time.Second)}
		leader.plane.mu.Unlock()
		if !leader.plane.want(leader.plane.view(), now).upAllowed {
			t.Error("5 times down: not up after 4 s, with UPBACKOFFMAX = 3s")
		}
		r.kill(last.Name)
		begin := time.Now()
		out := func() bool { return leader.plane.view().Server(last.ID).Status.Ring() == ring.ServiceOut }
		r.await("four minutes", 5*time.Minute, func() bool {
			if out() {
				t.Fatal("taken out in less than DOWNOUT = 10m")
			}
			return time.Since(begin) > 4*time.Minute
		})
		leader.plane.SetTimes(Times{DownOut: time.Second})
		r.await("it is taken out", 10*time.Second, out)
	})
}

// TestOwnerLeaseHungDisk proves that the lease of a leader whose disk hangs lapses
// when nobody follows it any more, which raft does not notice then.
func TestOwnerLeaseHungDisk(t *testing.T) {
	story(t, 3, func(r *rig) {
		disks := make(map[string]*hangingStore)
		r.prepare = func(p *Plane) {
			p.stores.Intercept(func(s raft.LogStore) raft.LogStore {
				d := &hangingStore{LogStore: s, turn: make(chan struct{}, 1)}
				disks[p.cfg.Self.Name] = d
				return d
			})
		}
		heard := make(map[string]chan bool)
		for _, m := range r.servers {
			heard[m.Name] = make(chan bool, 10)
			r.start(m.Name, func(c *Config) {
				c.OwnerLease, c.OnLease = 2*time.Second, func(lapsed bool) { heard[m.Name] <- lapsed }
			})
		}
		r.formed("a", "b", "c")
		leader := r.leader()
		free := disks[leader.name].hang()
		defer free()
		leader.plane.Programs(1) // something to write
		for name := range heard {
			if name != leader.name {
				r.kill(name)
			}
		}
		select {
		case lapsed := <-heard[leader.name]:
			if !lapsed {
				t.Error("it is said not to have lapsed")
			}
		case <-time.After(5 * time.Second):
			t.Errorf("not lapsed; raft says that it is %s", leader.plane.Status().Raft.Role)
		}
	})
}

// TestOwnerLeaseFollowersDisk proves that the lease of a follower ends in time whose disk
// hung as the leader was lost and goes on before the lease is over: raft takes the end of
// the write for a contact. While the disk hangs and the leader is there the lease holds.
func TestOwnerLeaseFollowersDisk(t *testing.T) {
	const limit = 2 * time.Second
	story(t, 3, func(r *rig) {
		disks := make(map[string]*hangingStore)
		r.prepare = func(p *Plane) {
			p.stores.Intercept(func(s raft.LogStore) raft.LogStore {
				d := &hangingStore{LogStore: s, turn: make(chan struct{}, 1)}
				disks[p.cfg.Self.Name] = d
				return d
			})
		}
		heard := make(map[string]chan bool)
		for _, m := range r.servers {
			heard[m.Name] = make(chan bool, 10)
			r.start(m.Name, func(c *Config) {
				c.OwnerLease, c.OnLease = limit, func(lapsed bool) { heard[m.Name] <- lapsed }
			})
		}
		r.formed("a", "b", "c")
		leader := r.leader()
		follower := r.nodes["a"]
		if follower == leader {
			follower = r.nodes["b"]
		}
		free := disks[follower.name].hang()
		defer func() { free() }()
		leader.plane.Programs(1) // something to write
		r.await("the disk hangs for longer than the lease", patience, func() bool { return follower.plane.stores.StalledFor() > 2*limit })
		if n := len(heard[follower.name]); n > 0 {
			t.Error("lapsed with a leader")
		}
		r.kill(leader.name)
		lost := time.Now()
		for name := range heard {
			if name != leader.name && name != follower.name {
				r.kill(name)
			}
		}
		time.AfterFunc(limit-200*time.Millisecond, free)
		free = func() {}
		if lapsed := <-heard[follower.name]; !lapsed {
			t.Error("it is said not to have lapsed")
		}
		if took := time.Since(lost); took > limit+2*judgeTick {
			t.Errorf("lapsed %v after the leader was lost, with OWNERLEASE %v", took, limit)
		}
	})
}

// slowStore is a log on a disk that takes its time.
type slowStore struct {
	raft.LogStore
	delay atomic.Int64 // ns
}

// StoreLogs implements raft.LogStore.
func (s *slowStore) StoreLogs(l []*raft.Log) error {
	<-time.After(time.Duration(s.delay.Load()))
	return s.LogStore.StoreLogs(l)
}

// TestOwnerLeaseSlowDisk proves that the lease of a follower with a slow disk, which
// writes all the time, holds as long as it has a leader.
func TestOwnerLeaseSlowDisk(t *testing.T) {
	for _, delay := range []time.Duration{110 * time.Millisecond, 150 * time.Millisecond} {
		story(t, 3, func(r *rig) {
			disks, heard := make(map[string]*slowStore), make(map[string]chan bool)
			r.prepare = func(p *Plane) {
				p.stores.Intercept(func(s raft.LogStore) raft.LogStore {
					d := &slowStore{LogStore: s}
					disks[p.cfg.Self.Name] = d
					return d
				})
			}
			for _, m := range r.servers {
				heard[m.Name] = make(chan bool, 1000)
				r.start(m.Name, func(c *Config) {
					c.OwnerLease, c.OnLease = time.Second, func(lapsed bool) { heard[m.Name] <- lapsed }
				})
			}
			r.formed("a", "b", "c")
			leader, slow := r.leader(), "a"
			if leader.name == slow {
				slow = "b"
			}
			disks[slow].delay.Store(int64(delay))
			for begin := time.Now(); time.Since(begin) < 10*time.Second; <-time.After(30 * time.Millisecond) {
				if err := leader.plane.node.Load().Barrier(time.Second).Error(); err != nil {
					t.Fatal(err)
				}
			}
			if r.leader() != leader {
				t.Fatal("another leader: the test proves nothing")
			}
			if len(heard[slow]) > 0 {
				t.Errorf("with writes of %v: lapsed %t", delay, <-heard[slow])
			}
		})
	}
}

// TestContactAfterWrite proves that no contact counts which may be the end of a slow write,
// and that heartbeats count during one, however soon the next one follows.
func TestContactAfterWrite(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(ms) * time.Millisecond) }
	for _, tc := range []struct {
		what                 string
		heard, writing, slow time.Time
		counts               bool
	}{
		{"no write", at(0), time.Time{}, time.Time{}, true},
		{"before the end", at(-1), time.Time{}, at(0), false},
		{"the end", at(1), time.Time{}, at(0), false},
		{"what waited behind it", at(99), time.Time{}, at(0), false},
		{"later", at(101), time.Time{}, at(0), true},
		{"a heartbeat while the next one is written", at(20), at(10), at(0), true},
		{"the end, while the next one is written", at(5), at(10), at(0), false},
	} {
		if got := !contact(tc.heard, tc.writing, tc.slow).IsZero(); got != tc.counts {
			t.Errorf("%s: counts %t", tc.what, got)
		}
	}
}

// TestOwnerLeaseAfterPause proves that a server that has stood still, whether it led or not,
// counts no contact that raft notes as it runs again: what had waited in a buffer, and the end of
// its own lead. So its lease ends as if nothing had been noted, and later contacts count.
func TestOwnerLeaseAfterPause(t *testing.T) {
	const limit = 2 * time.Second
	for name, led := range map[string]bool{"led": true, "followed": false} {
		for _, pause := range []time.Duration{600 * time.Millisecond, 1900 * time.Millisecond, time.Minute} {
			now := time.Unix(1_000_000, 0)
			l := lease{contact: now}
			for range 100 {
				now = now.Add(judgeTick)
				if l.over(limit, now, led, now) {
					t.Fatalf("%s: over with a leader", name)
				}
			}
			last, again := now, now.Add(pause)
			noted := again.Add(judgeTick / 2)
			for now = again; !l.over(limit, now, led && now == again, noted); now = now.Add(judgeTick) {
				if now.Sub(last) > limit {
					t.Fatalf("%s: not over %v after the last contact before a pause of %v", name, now.Sub(last), pause)
				}
			}
			l.over(limit, now.Add(judgeTick), false, noted)
			if now = now.Add(2 * judgeTick); l.over(limit, now, false, now) {
				t.Errorf("%s: still over with a leader", name)
			}
		}
	}
}

// TestOwnerLeaseConfig proves that a lease without somebody to tell is refused.
func TestOwnerLeaseConfig(t *testing.T) {
	c := Config{Self: Member{ID: 1}, Servers: []Member{{ID: 1, Addr: "a:1"}}, Times: Times{OwnerLease: time.Second}}
	if _, err := c.withDefaults(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "OnLease") {
		t.Errorf("got %v", err)
	}
}
