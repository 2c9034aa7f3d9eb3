package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chmpx/chmpx/client"
)

// TestHotWaitKey proves that HOTWAIT reaches the data plane: with it links wait
// through gates, which are epolls of their own, and without it there are none but
// the scheduler's. Messages go either way.
func TestHotWaitKey(t *testing.T) {
	epolls := func() (n int) {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && to == "anon_inode:[eventpoll]" {
				n++
			}
		}
		return n
	}
	for value, want := range map[string]bool{"off": false, "on": true} {
		t.Run(value, func(t *testing.T) {
			before := epolls()
			h := newHouse(t, 1, "DELIVERMODE = RANDOM\nREPLICA = 0\nHOTWAIT = "+value)
			for i := range h.nodes {
				h.start(i)
			}
			h.serve(0)
			h.inService("a")
			c := h.attach(1, client.RoleClient)
			defer c.Close()
			if _, err := c.Request(t.Context(), 1, []byte("x")); err != nil {
				t.Fatal(err)
			}
			if got := epolls() - before; got > 0 != want {
				t.Errorf("HOTWAIT = %s: %d epolls more than before", value, got)
			}
		})
	}
}
