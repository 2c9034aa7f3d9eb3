package shm

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// systems runs a test on both implementations of System.
func systems(t *testing.T, test func(t *testing.T, sys System)) {
	t.Run("kernel", func(t *testing.T) { test(t, Kernel()) })
	t.Run("heap", func(t *testing.T) {
		h := &Heap{}
		test(t, h)
		if n := h.Open(); n != 0 {
			t.Errorf("%d descriptors are still open", n)
		}
	})
}

// connect returns both ends of a connection, which the test's end closes.
func connect(t *testing.T, sys System) (near, far Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := sys.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan Conn, 1)
	go func() {
		conn, _ := ln.Accept()
		accepted <- conn
	}()
	if near, err = sys.Dial(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if far = <-accepted; far == nil {
		t.Fatal("nothing accepted")
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if conn, err := sys.Dial(t.Context(), path); err == nil {
		conn.Close()
		t.Error("connected although nobody listens")
	}
	return near, far
}

// send sends in the background: a pipe has no buffer.
func send(conn Conn, data []byte, fds ...int) (sent chan error) {
	sent = make(chan error, 1)
	go func() { sent <- conn.Send(data, fds...) }()
	return sent
}

// TestSystemHandsOver proves that a descriptor that is sent stands for the same
// memory and the same doorbell, whatever becomes of the sender's own.
func TestSystemHandsOver(t *testing.T) {
	systems(t, func(t *testing.T, sys System) {
		near, far := connect(t, sys)
		defer near.Close()
		defer far.Close()
		memory, mem, err := sys.Create(SegmentBytes(RingBytesMin))
		if err != nil {
			t.Fatal(err)
		}
		bell, err := sys.NewBell()
		if err != nil {
			t.Fatal(err)
		}
		id, err := sys.Identify(memory)
		if err != nil {
			t.Fatal(err)
		}
		sent := send(near, []byte("both"), memory, bell)
		buf := make([]byte, 16)
		n, fds, err := far.Receive(buf, 2)
		if err = errors.Join(err, <-sent); err != nil || string(buf[:n]) != "both" || len(fds) != 2 {
			t.Fatalf("received %q with descriptors %v: %v", buf[:n], fds, err)
		}
		if err := sys.Close(memory); err != nil {
			t.Error(err)
		}
		theirs, err := sys.Remap(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		if their, err := sys.Identify(fds[0]); err != nil || their != id {
			t.Errorf("the memory is %v, and was %v: %v", their, id, err)
		}
		copy(mem[64:], "seen")
		if !bytes.Equal(theirs[64:68], []byte("seen")) {
			t.Error("the memory is not the same")
		}
		rings, waits := doorbells(t, sys, bell, fds[1])
		polls := 0
		if err := waits.Wait(func() bool {
			if polls++; polls == 2 {
				return true
			}
			if err := rings.Ring(); err != nil {
				t.Error(err)
			}
			return false
		}); err != nil {
			t.Error(err)
		}
		if err := rings.Close(); err != nil {
			t.Error(err)
		}
		if err := waits.Close(); err != nil {
			t.Error(err)
		}
		if err := waits.Wait(func() bool { return true }); !errors.Is(err, os.ErrClosed) {
			t.Errorf("wait after close: %v", err)
		}
		if err := errors.Join(sys.Close(fds[0]), sys.Unmap(mem), sys.Unmap(theirs)); err != nil {
			t.Error(err)
		}
	})
}

func doorbells(t *testing.T, sys System, fd1, fd2 int) (a, b Doorbell) {
	t.Helper()
	a, err := sys.Doorbell(fd1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = sys.Doorbell(fd2); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// TestSystemRefuses proves that a wrong number of descriptors is an error that
// closes them, that a connection that ends says so, and that what is no
// descriptor is refused.
func TestSystemRefuses(t *testing.T) {
	systems(t, func(t *testing.T, sys System) {
		near, far := connect(t, sys)
		bell, err := sys.NewBell()
		if err != nil {
			t.Fatal(err)
		}
		other, err := sys.Duplicate(bell)
		if err != nil {
			t.Fatal(err)
		}
		sent := send(near, []byte("x"), bell, other)
		if _, fds, err := far.Receive(make([]byte, 1), 3); !errors.Is(err, ErrDescriptors) || fds != nil {
			t.Errorf("2 descriptors instead of 3: %v, %v", fds, err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if _, err := sys.Map(bell); err == nil {
			t.Error("mapped a doorbell")
		}
		if err := errors.Join(sys.Close(bell), sys.Close(other)); err != nil {
			t.Error(err)
		}
		if _, err := sys.Duplicate(bell); err == nil {
			t.Error("duplicated what was closed")
		}
		if err := near.Close(); err != nil {
			t.Error(err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read from an ended connection: %v", err)
		}
		if err := far.Close(); err != nil {
			t.Error(err)
		}
	})
}
