package ringview

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/internal/freeport"
)

// A Post is taken by a real control port; what the node refuses is told apart
// from what did not reach it and from what was not answered.
func TestPost(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := ctlport.New(ln, ctlport.Config{Actions: map[string]ctlport.Action{
		"/v1/do":  func(context.Context, []byte) (any, error) { return map[string]int{"n": 7}, nil },
		"/v1/not": func(context.Context, []byte) (any, error) { return nil, errors.New("GROUP: no\nPORT: no") },
	}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	host, port := hostPort(t, ln.Addr().String())
	var got struct{ N int }
	if err := Post(t.Context(), host, port, "/v1/do", &got); err != nil || got.N != 7 {
		t.Errorf("done: %+v, %v", got, err)
	}
	if err := Post(t.Context(), host, port, "/v1/not", &got); !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), ": GROUP: no\nPORT: no") {
		t.Errorf("refused: %v", err)
	}
	if err := Post(t.Context(), host, port, "/v1/unknown", &got); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no such resource") {
		t.Errorf("unknown: %v", err)
	}
	mute, mutePort, _ := node(t, "")
	if err := Post(t.Context(), mute, mutePort, "/v1/do", &got); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("not answered: %v", err)
	}
	nobodys, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	nowhere, nowherePort := hostPort(t, fmt.Sprintf("127.0.0.1:%d", nobodys[0]))
	if err := Post(t.Context(), nowhere, nowherePort, "/v1/do", &got); !errors.Is(err, ErrNotSent) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("not reached: %v", err)
	}
}
