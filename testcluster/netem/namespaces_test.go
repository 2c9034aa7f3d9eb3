package netem

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Between namespaces what is held hangs in one direction or both, what is
// refused has no route, and all of it is over when it is undone.
func TestNamespaces(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and the command ip")
	}
	n, err := NewNamespaces([]string{"a", "b"})
	if err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	answer(t, n, 1)
	reach := func(within time.Duration) error { return ask(n, 0, 1, within) }
	if err := reach(patience); err != nil {
		t.Fatalf("at first: %v", err)
	}
	for _, c := range []struct {
		name     string
		from, to string
		Condition
		hangs bool
	}{
		{"held there", "a", "b", Condition{Hold: true}, true},
		{"held back", "b", "a", Condition{Hold: true}, true},
		{"refused", "a", "b", Condition{Refuse: true}, false},
	} {
		undo, err := n.Apply(c.from, c.to, c.Condition)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := reach(10 * moment); err == nil || errors.Is(err, os.ErrDeadlineExceeded) != c.hangs {
			t.Errorf("%s: %v, hangs should be %v", c.name, err, c.hangs)
		}
		if err := undo(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := reach(patience); err != nil {
			t.Errorf("after %s: %v", c.name, err)
		}
	}
	if err := n.Link("b", false); err != nil {
		t.Fatal(err)
	}
	if err := reach(10 * moment); err == nil {
		t.Error("a host without link was reached")
	}
	if err := n.Link("b", true); err != nil {
		t.Fatal(err)
	}
	if err := reach(patience); err != nil {
		t.Errorf("after the link was down: %v", err)
	}
	if _, err := n.Apply("a", "b", Condition{Delay: time.Second}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("delay: %v", err)
	}
}

// The test binary is its own helper in other namespaces, in one of two roles.
const (
	roleEnv    = "NETEM_TEST_ROLE"
	answerPort = ":7007"
)

// answer starts a process on host i that answers with what it reads.
func answer(t *testing.T, n *Namespaces, i int) {
	t.Helper()
	cmd := helper(n, i, "answer")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("start: %q, %v", line, err)
	}
}

// ask lets a process on one host say a word to another one.
func ask(n *Namespaces, from, to int, within time.Duration) error {
	cmd := helper(n, from, "ask", n.Addr(to)+answerPort, within.String())
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitTimeout {
		return os.ErrDeadlineExceeded
	}
	return err
}

func helper(n *Namespaces, i int, role string, args ...string) *exec.Cmd {
	words := append(append(n.Prefix(i), os.Args[0]), args...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

const exitTimeout = 3

// playRole does what a helper is for and returns its exit code.
func playRole(role string, args []string) int {
	if role == "answer" {
		l, err := net.Listen("tcp", answerPort)
		if err != nil {
			return 1
		}
		_, _ = os.Stdout.WriteString("listening\n")
		for {
			c, err := l.Accept()
			if err != nil {
				return 1
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}
	within, err := time.ParseDuration(args[1])
	if err != nil {
		return 1
	}
	stop := time.Now().Add(within)
	c, err := net.DialTimeout("tcp", args[0], within)
	if err == nil {
		_, err = say(c, time.Until(stop))
	}
	var timeout net.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &timeout) && timeout.Timeout():
		return exitTimeout
	}
	return 1
}
