package ringview

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// node answers one connection per reply with it; a command is sent to got.
func node(t *testing.T, replies ...string) (host string, port uint16, got chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got = make(chan string, len(replies))
	ended := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-ended })
	go func() { // ended by the listener
		defer close(ended)
		for _, reply := range replies {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			got <- line
			_, _ = io.WriteString(conn, reply)
			conn.Close()
		}
	}()
	host, port = hostPort(t, ln.Addr().String())
	return host, port, got
}

// A command is one line, and its answer is taken apart.
func TestCommand(t *testing.T) {
	for reply, want := range map[string]Reply{
		"SUCCEED\n":                                                 {OK: true, Reply: "SUCCEED"},
		"SUCCEED: There no server on RING.\n":                       {OK: true, Reply: "SUCCEED: There no server on RING."},
		"ERROR: Failed.\nREASON: no quorum: b\n":                    {Reply: "ERROR: Failed.", Reason: "no quorum: b"},
		"ERROR: Failed.\nREASON: the change may have happened: x\n": {Reply: "ERROR: Failed.", Reason: "the change may have happened: x", Uncertain: true},
		"Unknown command(MERGE)\n":                                  {Reply: "Unknown command(MERGE)"},
		"ERROR: MERGE is not in this version.\r\n":                  {Reply: "ERROR: MERGE is not in this version."},
	} {
		host, port, got := node(t, reply)
		r, err := Command(t.Context(), host, port, "MERGE")
		if err != nil || r != want {
			t.Errorf("%q: %+v, %v, want %+v", reply, r, err, want)
		}
		if line := <-got; line != "MERGE\n" {
			t.Errorf("sent %q", line)
		}
	}
}

// Who was asked and did not answer may have done it; who was not reached has not.
func TestCommandErrors(t *testing.T) {
	host, port, _ := node(t, "")
	if _, err := Command(t.Context(), host, port, "MERGE"); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("no answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Command(ctx, host, port, "MERGE"); !errors.Is(err, ErrNotSent) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("not reached: %v", err)
	}
}

// A look that comes to nothing is a status that could not be had.
func TestLookErrors(t *testing.T) {
	host, port, _ := node(t, "")
	if _, err := Look(t.Context(), host, port, "DUMP"); !errors.Is(err, ErrStatus) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("no answer: %v", err)
	}
	if _, err := Look(t.Context(), "127.0.0.1", 1, "DUMP"); !errors.Is(err, ErrStatus) || !errors.Is(err, ErrNotReached) {
		t.Errorf("not reached: %v", err)
	}
}
