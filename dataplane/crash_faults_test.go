//go:build faults

package dataplane_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/internal/fault"
)

// crashSocket makes the process that TestFaultCrash starts a program, attached there.
const crashSocket = "DATAPLANE_TEST_CRASH_SOCKET"

// A program dies at each point of the protocol, and its node goes on: it
// detaches it, and delivers to the next one.
func TestFaultCrash(t *testing.T) {
	if socket := os.Getenv(crashSocket); socket != "" {
		crashing(t, socket)
		return
	}
	for _, p := range fault.Points() {
		if !p.Program || p.Point == fault.CopyCommitted { // that takes a node which does not take a segment back
			continue
		}
		t.Run(string(p.Point), func(t *testing.T) {
			w := newWorld(t, 1)
			n := w.nodes[0]
			ctx := patiently(t)
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestFaultCrash$")
			cmd.Env = append(os.Environ(), crashSocket+"="+n.socket(), fault.EnvCrash+"="+string(p.Point))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if p.Point == fault.HandBackSent || p.Point == fault.HandBackDone {
				n.awaitStatus("the program has sent", func(s *dataplane.Status) bool { return s.Counters.Taken > 0 })
				n.stop()
				n = w.start(&testNode{id: n.id, inc: n.inc, dir: n.dir, addr: n.addr}, listenAgain(t, n.addr))
				w.publish(nil)
			}
			err := cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the program ended with %v, want SIGKILL", err)
			}
			n.awaitStatus("the program is gone", func(s *dataplane.Status) bool { return s.Programs == 0 })
			echo(t, n)
			if got := ask(t, attach(t, n, client.RoleClient), 1, "after"); got != n.id {
				t.Errorf("answered by %v, want %v", got, n.id)
			}
			n.awaitStatus("nothing of the program is left", gone(2))
		})
	}
}

// crashing is a program that uses all of the protocol until it dies.
func crashing(t *testing.T, socket string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Socket: socket, Role: client.RoleServer, AckOnDone: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_ = c.Serve(ctx, 1, func(_ context.Context, m *client.Message) ([]byte, error) { return m.Payload, nil })
	}()
	large := make([]byte, 100<<10) // the rings soon come to their end
	for ctx.Err() == nil {
		if err := c.SendWait(ctx, 7, large); err != nil {
			t.Log(err)
		}
		if _, err := c.Request(ctx, 7, large); err != nil {
			t.Log(err)
		}
	}
}
