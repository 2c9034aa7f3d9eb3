package testcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSoak proves that the soak runs and holds: a few rounds of dying programs and
// garbage, a few kills of nodes. "make soak" runs many.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("runs real processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*testWithin)
	defer cancel()
	if err := Soak(ctx, SoakOptions{Bin: bin, Self: self(), Rounds: 20, Kills: 3, Seed: 7, Out: t.Output()}); err != nil {
		t.Error(err)
	}
}

// TestGarbage proves that a stranger who writes nonsense to any port of a node,
// or to its attach socket, is logged with one line and hung up on.
func TestGarbage(t *testing.T) {
	c, ctx := newCluster(t, Options{Servers: 1, Level: "info"})
	n := c.Servers[0]
	must(t, n.Start())
	_, err := c.StartServerPrograms(self())
	must(t, err)
	waitInService(t, ctx, c, 1)
	lines := func() (all []string) {
		text, err := os.ReadFile(c.path(n.Name + ".log"))
		must(t, err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	nonsense := []byte("\x01\x02nonsense\x00\xff\xfe that nobody understands and that is long enough for any header: " + strings.Repeat("x", 100))
	for _, target := range [][2]string{
		{"tcp", fmt.Sprintf("localhost:%d", n.Port)}, {"tcp", fmt.Sprintf("localhost:%d", n.CtlPort)}, {"unix", attachSocket(t, c)},
	} {
		before := len(lines())
		must(t, garbage(ctx, target[0], target[1], nonsense))
		waitFor(t, ctx, func() bool { return len(lines()) > before })
		if got := lines()[before:]; len(got) != 1 {
			t.Errorf("%s: %d lines, want 1:\n%s", target[1], len(got), strings.Join(got, "\n"))
		} else {
			t.Log(got[0])
		}
	}
	waitInService(t, ctx, c, 1)
}

// attachSocket returns the attach socket of the only node that runs.
func attachSocket(t *testing.T, c *Cluster) string {
	t.Helper()
	found, err := filepath.Glob(c.path("run/*.sock"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("attach sockets: %v", found)
	}
	return found[0]
}

func waitFor(t *testing.T, ctx context.Context, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("waited too long")
		}
	}
}
