package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane/ctlport"
)

// reload says what the node says, with the exit code of what became of it.
func TestReload(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan any, 1)
	s := ctlport.New(ln, ctlport.Config{Actions: map[string]ctlport.Action{"/v1/reload": func(context.Context, []byte) (any, error) {
		a := <-answers
		if err, bad := a.(error); bad {
			return nil, err
		}
		return a, nil
	}}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	run := func(answer any, options ...string) (string, error) {
		answers <- answer
		return runArgs(t, append([]string{"reload", "-host", "127.0.0.1", "-ctlport", port}, options...)...)
	}
	done := map[string]string{"reply": "new servers: c:8021"}
	refused := errors.New(`server.ini: GROUP = "B" cannot change while the node runs; it has "A"`)

	if out, err := run(done); err != nil || out != "new servers: c:8021\n" {
		t.Errorf("done: %q, %v", out, err)
	}
	if out, err := run(done, "-json"); err != nil || out != `{"command":"reload","ok":true,"reply":"new servers: c:8021"}`+"\n" {
		t.Errorf("done, JSON: %q, %v", out, err)
	}
	if out, err := run(refused); exitCode(err) != exitFailed || out != "" || err.Error() != "the node refused: "+refused.Error() {
		t.Errorf("refused: %q, %v", out, err)
	}
	out, err := run(refused, "-json")
	if exitCode(err) != exitFailed || !strings.HasPrefix(out, `{"command":"reload","ok":false,"reply":"the node refused","reason":"server.ini: GROUP = \"B\"`) {
		t.Errorf("refused, JSON: %q, %v", out, err)
	}
}
