package client

import (
	"testing"
	"time"

	"github.com/chmpx/chmpx/internal/hotwait"
	"github.com/chmpx/chmpx/shm"
)

const hotPatience = 30 * time.Second

// asleep waits until the only program of the node wants to be rung for the next
// answer, and leaves it so.
func (n *testNode) asleep(t *testing.T) {
	t.Helper()
	for stop := time.Now().Add(hotPatience); ; {
		var is bool
		n.do(func() {
			for _, p := range n.programs {
				if is = p.seg.WakeNeeded(shm.ProgramSide); is {
					p.seg.Sleep(shm.ProgramSide)
				}
			}
		})
		if is {
			return
		}
		if time.Now().After(stop) {
			t.Fatal("nobody sleeps")
		}
	}
}

// Proves that answers that come while the leader waits hot ring nobody and are
// handled by it: the test is the leader, and the node counts what it rings.
func TestHotWait(t *testing.T) {
	n := newTestNode(t)
	c := attach(t, n, RoleClient)
	c.in.lead.Lock()
	c.in.at.seg.Awake(shm.ProgramSide)
	n.do(func() { n.rung = 0 })
	for i := range 50 {
		answered := make(chan error, 1)
		err := c.RequestAsync(t.Context(), 1, []byte("hot"), func(_ []byte, err error) { answered <- err })
		if err != nil {
			t.Fatal(err)
		}
		for stop := time.Now().Add(hotPatience); len(answered) == 0; { // what is no answer may come, too
			if _, err := c.waitHot(c.in.at); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(stop) {
				t.Fatalf("no answer to request %d", i)
			}
		}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	n.do(func() {
		if n.rung != 0 {
			t.Errorf("the node rang %d times", n.rung)
		}
	})
	c.in.lead.Unlock()
}

// Proves that a program sleeps while it waits for an answer, and is rung for it,
// with and without ColdWait; and that only the one without waits hot before.
func TestColdWait(t *testing.T) {
	for _, cold := range []bool{true, false} {
		n := newTestNode(t)
		c, err := Attach(t.Context(), Options{Socket: n.path, Role: RoleClient, ColdWait: cold})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			n.do(func() { n.paused = true })
			answered := make(chan error, 1)
			go func() {
				_, err := c.Request(t.Context(), 1, []byte("cold"))
				answered <- err
			}()
			n.asleep(t)
			n.do(func() { n.rung, n.paused = 0, false })
			if err := <-answered; err != nil {
				t.Fatal(err)
			}
			n.do(func() {
				if n.rung == 0 {
					t.Errorf("ColdWait %v: answer %d came to one who sleeps, and nobody was rung", cold, i)
				}
			})
		}
		if err := c.Close(); err != nil { // its goroutines have ended
			t.Fatal(err)
		}
		if hot := c.in.hot != (hotwait.Governor{}); hot == cold {
			t.Errorf("ColdWait %v: waited hot: %v", cold, hot)
		}
	}
}
