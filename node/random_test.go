package node

import (
	"context"
	"slices"
	"testing"

	"github.com/chmpx/chmpx/client"
)

// spreadEvenly sends 40 requests of one hash and checks that each of the
// servers in service answers as many as any other, give or take one. It counts from
// when each has had one in turn, while links stay: a server is passed over as long as there
// is no link to it, and until it has heard that it is in service.
func (h *house) spreadEvenly(c *client.Client, servers string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	request := func() string {
		h.t.Helper()
		reply, err := c.Request(ctx, 7, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		return string(reply.Payload)
	}
	links := func() (sockets []int) {
		for _, l := range h.nodes[len(h.nodes)-1].Status().Data.Links {
			sockets = append(sockets, l.Socket)
		}
		return sockets
	}
	var got map[string]int
	for steady := false; !steady; {
		for turn := ""; !sameServers(turn, servers); {
			turn += request()
			turn = turn[max(0, len(turn)-len(servers)):]
		}
		before := links()
		got = map[string]int{}
		for range 40 {
			got[request()]++
		}
		steady = slices.Equal(before, links())
	}
	least, most := 40, 0
	for _, s := range servers {
		least, most = min(least, got[string(s)]), max(most, got[string(s)])
	}
	if most-least > 1 || len(got) != len(servers) {
		h.t.Errorf("40 messages went to %v; %s are in service", got, servers)
	}
}

// sameServers reports whether the names of servers are the same, in whatever order.
func sameServers(a, b string) bool {
	x, y := []byte(a), []byte(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// TestRandomModeIsEven proves that DELIVERMODE = RANDOM spreads messages evenly
// over two servers, over four and over the three that remain: CHMPX gave all of them to one
// server whenever the number of servers was even.
func TestRandomModeIsEven(t *testing.T) {
	h := newHouse(t, 4, "DELIVERMODE = RANDOM\nDOWNOUT = 100ms")
	for i := range 5 {
		h.start(i)
	}
	h.serve(0)
	h.serve(1)
	h.inService("ab")
	asker := h.attach(4, client.RoleClient)
	defer asker.Close()
	h.spreadEvenly(asker, "ab")
	h.serve(2)
	h.serve(3)
	h.inService("abcd")
	h.spreadEvenly(asker, "abcd")
	h.stop(3)
	h.inService("abc")
	h.spreadEvenly(asker, "abc")
}
