package dataplane_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// programMain is a program as a process of its own, whose child inherits the
// attach socket; it reports whether this process is to be one. It ends when it
// is killed; its child does so with its standard input.
func programMain() bool {
	path := os.Getenv("DATAPLANE_TEST_SOCKET")
	if path == "" {
		return false
	}
	if err := runProgram(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

func runProgram(path string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	b, err := (&wire.AttachRequest{Role: wire.RoleServer, Name: "parent"}).Encode()
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	if _, _, err := shm.RecvFds(conn, make([]byte, wire.AttachBytesMax), 3); err != nil {
		return err
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	child := exec.Command("cat")
	child.Stdin, child.ExtraFiles = os.Stdin, []*os.File{file}
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("attached")
	return child.Wait()
}

// A program that is killed is gone although a child has inherited its socket.
func TestProcessEndsSocketStays(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "DATAPLANE_TEST_SOCKET="+n.socket())
	stdin, err := cmd.StdinPipe() // held open: the child lives on
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "attached\n" {
		t.Fatalf("the program says %q, %v", line, err)
	}
	n.awaitStatus("one program", func(s *dataplane.Status) bool { return s.Programs == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n.awaitStatus("the program is gone", func(s *dataplane.Status) bool { return s.Programs == 0 && len(s.Attached) == 0 })
	_ = stdin.Close()
	_ = cmd.Wait() // it was killed
}
