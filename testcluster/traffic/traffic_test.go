package traffic

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// A payload is known by its checksum and its message, a reply by its request and
// its node.
func TestPayload(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for size := payloadHead; size < payloadHead+100; size++ {
		p := make([]byte, size)
		putPayload(p, 7, random)
		if err := checkPayload(p, 7); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if err := checkPayload(p, 8); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes, of another message: %v", size, err)
		}
		broken := slices.Clone(p)
		broken[random.IntN(size)] ^= 1 << random.IntN(8)
		if err := checkPayload(broken, 7); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes, one bit wrong: %v", size, err)
		}
		if err := checkPayload(p[:payloadHead-1], 7); !errors.Is(err, ErrCorrupt) {
			t.Errorf("too short: %v", err)
		}
	}
	reply := make([]byte, replyBytes)
	putReply(reply, 5, 7)
	if node, err := checkReply(reply, 7); node != 5 || err != nil {
		t.Errorf("reply: node %d, %v", node, err)
	}
	if _, err := checkReply(reply, 8); !errors.Is(err, ErrCorrupt) {
		t.Errorf("reply to another request: %v", err)
	}
	if _, err := checkReply(reply[1:], 7); !errors.Is(err, ErrCorrupt) {
		t.Errorf("reply cut off: %v", err)
	}
}
