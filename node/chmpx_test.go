package node

import (
	"context"
	"testing"

	"github.com/chmpx/chmpx/client"
)

// hashesOfThreeAndFour is how many hashes show every owner in rings of three
// and of four servers.
const hashesOfThreeAndFour = 12

// answeredBy checks that the server at hash mod n of the ring answers for every hash.
func (h *house) answeredBy(c *client.Client, servers string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for hash := range uint64(hashesOfThreeAndFour) {
		reply, err := c.Request(ctx, hash, nil)
		if want := servers[hash%uint64(len(servers))]; err != nil || string(reply.Payload) != string(want) {
			h.t.Errorf("hash %d is answered by %q, %v; want %c of %s", hash, reply.Payload, err, want, servers)
		}
	}
}

// TestChmpxPlacement proves that a ring with PLACEMENT = chmpx that goes from
// three servers to four and back, while messages flow, answers every message,
// each hash by the server at hash mod n of the ring order.
func TestChmpxPlacement(t *testing.T) {
	h := newHouse(t, 4, "DELIVERMODE = HASH\nREPLICA = 1\nDOMERGE = on\nAUTOMERGE = on\nPLACEMENT = chmpx\nDOWNOUT = 100ms")
	for _, i := range []int{0, 1, 3, 4} { // c joins later, in the middle of the ring
		h.start(i)
	}
	for _, i := range []int{0, 1, 3} {
		h.serve(i)
	}
	h.inService("abd")
	asker := h.attach(4, client.RoleClient)
	defer asker.Close()
	h.answeredBy(asker, "abd")
	end := h.load(4)

	h.start(2)
	h.serve(2)
	h.inService("abcd")
	h.answeredBy(asker, "abcd")

	h.stop(1) // down for longer than DOWNOUT, so AUTOMERGE takes it out
	h.inService("acd")
	h.answeredBy(asker, "acd")
	if n := end(); n == 0 {
		t.Error("no message was answered meanwhile")
	}
}
