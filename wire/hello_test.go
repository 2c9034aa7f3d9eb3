package wire

import (
	"errors"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/ring"
	"github.com/google/go-cmp/cmp"
)

// TestHelloRoundTrip proves that ids above 2^53 survive JSON and that a long refusal is cut, not lost.
func TestHelloRoundTrip(t *testing.T) {
	want := Hello{Version: HelloVersion, Group: "G", RingID: 1<<63 + 1, ID: 1<<63 + 3, Role: NodeSlave, Name: "host.example",
		Incarnation: 1<<62 + 1, Epoch: ring.Epoch{Era: 2, Index: 1<<62 + 5}, Refused: "no"}
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeHello(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, *got); d != "" {
		t.Error(d)
	}
	want.Refused = "a" + strings.Repeat("ü", 10000)
	if b, err = want.Encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeHello(b); err != nil {
		t.Error(err)
	}
}

// TestHelloRefuses proves that a hello without what every hello has is refused.
func TestHelloRefuses(t *testing.T) {
	for _, s := range []string{"", "null", "{}", "[]", `{"version":1,"id":"0","role":1}`, `{"version":1,"id":"5","role":9}`,
		`{"version":0,"id":"5","role":1}`, `{"version":99999999,"id":"5","role":1}`,
		`{"version":1,"id":"5","role":1,"name":"` + strings.Repeat("x", 600) + `"}`,
		`{"version":1,"id":"5","role":1}` + strings.Repeat(" ", HelloBytesMax)} {
		if _, err := DecodeHello([]byte(s)); !errors.Is(err, ErrHello) {
			t.Errorf("%.60s: %v, want ErrHello", s, err)
		}
	}
	if _, err := (&Hello{}).Encode(); !errors.Is(err, ErrHello) {
		t.Errorf("empty hello: %v, want ErrHello", err)
	}
}

// FuzzHello proves that whatever decodes can be encoded and decoded again to the same.
func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"version":1,"group":"G","ring_id":"7","id":"5","role":1,"name":"n","incarnation":3,"epoch":{"era":1,"index":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHello(b)
		if err != nil {
			return
		}
		again, err := h.Encode()
		if err != nil {
			t.Skip("control characters take more room in JSON than they did")
		}
		h2, err := DecodeHello(again)
		if err != nil || *h2 != *h {
			t.Errorf("%+v became %+v: %v", h, h2, err)
		}
	})
}
