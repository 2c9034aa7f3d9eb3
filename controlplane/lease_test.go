package controlplane

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
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
	c := Config{Self: Member{ID: 1}, Servers: []Member{{ID: 1, Addr: "a:1"}}, OwnerLease: time.Second}
	if _, err := c.withDefaults(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "OnLease") {
		t.Errorf("got %v", err)
	}
}
