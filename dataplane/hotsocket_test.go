package dataplane

import (
	"net"
	"os"
	"syscall"
	"testing"
)

// A connection for whose hot wait descriptors are missing is used without it, and
// none is lost in the attempt.
func TestSocketWithoutDescriptors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for spare := range 4 {
		theirs, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ours, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		before := descriptors(t)
		restore := limitDescriptors(t, spare)
		s, err := newSocket(ours, true)
		restore()
		if err != nil {
			t.Fatalf("with %d descriptors: %v", spare, err)
		}
		lost := descriptors(t) - before
		switch s.(type) {
		case *hotSocket:
			lost -= 2 // its gates
			if spare < 3 {
				t.Errorf("hot with %d descriptors", spare)
			}
		default:
			if spare == 3 {
				t.Errorf("%T with %d descriptors", s, spare)
			}
		}
		if lost != 0 {
			t.Errorf("with %d descriptors: %d are lost", spare, lost)
		}
		_ = theirs.Close()
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if hot, ok := s.(*hotSocket); ok && hot.descriptor() != -1 {
			t.Errorf("closed, and its descriptor is %d", hot.descriptor())
		}
		if left := descriptors(t) - before; left != -2 {
			t.Errorf("after the end %d descriptors are left", left+2)
		}
	}
}

// limitDescriptors lets this process open so many more.
func limitDescriptors(t *testing.T, more int) (restore func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	free, left := -1, []int(nil) // the lowest that are free
	for range more + 1 {
		fd, err := syscall.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		free, left = fd, append(left, fd)
	}
	for _, fd := range left {
		_ = syscall.Close(fd)
	}
	now := was
	now.Cur = uint64(free)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
