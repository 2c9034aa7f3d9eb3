package client

import (
	"os"
	"strings"
	"testing"
)

// held returns how many descriptors and mappings of segments this process has.
func held(t *testing.T) (descriptors, segments int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds), strings.Count(string(maps), "memfd:chmpx")
}

// TestRestartsLeakNothing proves that restarts of the node, whether or not it
// takes segments back, leave no descriptor and no mapping behind.
func TestRestartsLeakNothing(t *testing.T) {
	n := newTestNode(t)
	server, c := attach(t, n, RoleServer), attach(t, n, RoleClient)
	descriptors, segments := held(t)
	for i := range 30 {
		n.do(func() { n.takeBack = i%5 != 4 })
		restart(t, n, server, c)
		until(t, "both are back", func() bool { return c.Stats().Attached && server.Stats().Attached })
	}
	until(t, "no more is held than before", func() bool {
		d, s := held(t)
		return d <= descriptors && s <= segments
	})
}
