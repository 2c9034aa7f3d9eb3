package hotwait_test

import (
	"testing"

	"github.com/chmpx/chmpx/internal/hotwait"
)

const (
	us = int64(1_000)
	ms = 1_000 * us
)

// wait plays one hot wait from now on: look after look of which each takes the
// given time, the last finding something or not. It returns when it ended, and
// how many looks it took.
func wait(g *hotwait.Governor, now, each int64, found func(look int) bool) (end int64, looks int) {
	for goOn := true; goOn; looks++ {
		now += each
		f := found(looks)
		goOn = g.Looked(now, f)
		if f {
			g.Worked(now)
		}
	}
	return now, looks
}

func never(int) bool { return false }

// TestWaitEnds proves how long a wait in vain goes on: so many looks, and so
// long, but never more than 1,000 looks; and that a find starts all of it anew.
func TestWaitEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		each  int64
		found func(int) bool
		looks int
	}{
		{"looks that take time", 10 * us, never, hotwait.Looks},
		{"looks that take little", us, never, 100},
		{"looks that take none", 0, never, 1000},
		{"one find while the clock stands", 0, func(i int) bool { return i == 9 }, 10 + 1000},
		{"one find", 10 * us, func(i int) bool { return i == 9 }, 10 + hotwait.Looks},
		{"finds", 10 * us, func(i int) bool { return i < 100 }, 100 + hotwait.Looks},
		{"slow in vain", 201 * us, never, 1},
		{"slow with finds", 999 * us, func(i int) bool { return i < 5 }, 6},
		{"lost with a find", 1001 * us, func(int) bool { return true }, 1},
	} {
		var g hotwait.Governor
		if !g.Begin(0) {
			t.Fatalf("%s: the first wait is not hot", c.name)
		}
		if _, looks := wait(&g, 0, c.each, c.found); looks != c.looks {
			t.Errorf("%s: %d looks, want %d", c.name, looks, c.looks)
		}
	}
}

// TestSkips proves that waits that find too little are left out more and more,
// and none any more after enough finds.
func TestSkips(t *testing.T) {
	var g hotwait.Governor
	now := int64(0)
	skipped := func() (n int) {
		for ; !g.Begin(now); n++ {
		}
		return n
	}
	for i, want := range []int{0, 0, 0, 1, 3, 7, 15, 31, 63, 63} {
		if got := skipped(); got != want {
			t.Fatalf("before wait %d: %d skipped, want %d", i, got, want)
		}
		now, _ = wait(&g, now, us, never)
	}
	now, _ = wait(&g, now, us, func(i int) bool { return i < 3 })
	if got := skipped(); got != 63 {
		t.Fatalf("after too few finds: %d skipped, want 63", got)
	}
	now, _ = wait(&g, now, us, func(i int) bool { return i < 12 })
	for i := range 2 {
		if got := skipped(); got != 0 {
			t.Fatalf("%d waits after a find: %d skipped", i, got)
		}
		now, _ = wait(&g, now, us, never)
	}
	if got := skipped(); got != 1 {
		t.Fatalf("after three in vain: %d skipped, want 1", got)
	}
}

// TestPauses proves that lost time forbids hot waits for ten times as long, for
// longer when it is lost again soon, never for more than 200 ms, and that this
// is forgotten after a while.
func TestPauses(t *testing.T) {
	var g hotwait.Governor
	now := int64(0)
	for i, c := range []struct{ lost, rest, pause int64 }{
		{3 * ms, 0, 30 * ms},
		{3 * ms, 0, 60 * ms},
		{3 * ms, 236 * ms, 120 * ms},
		{3 * ms, 0, 200 * ms},
		{100 * ms, 0, 200 * ms},
		{300 * us, 800 * ms, 3 * ms},
		{300 * us, 0, 6 * ms},
	} {
		now += c.rest
		if !g.Begin(now) {
			t.Fatalf("%d: no hot wait", i)
		}
		now, _ = wait(&g, now, c.lost, never)
		if g.Begin(now + c.pause - 1) {
			t.Fatalf("%d: hot again before %d ms", i, c.pause/ms)
		}
		now += c.pause
	}
}
