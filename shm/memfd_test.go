package shm

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func closeFd(fd int) error { return unix.Close(fd) }

// TestMemfd proves that a memfd keeps its size and that only such are mapped.
func TestMemfd(t *testing.T) {
	size := SegmentBytes(RingBytesMin)
	fd, mem, err := CreateMemfd(size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeFd(fd) }()
	if len(mem) != size {
		t.Errorf("%d bytes mapped, want %d", len(mem), size)
	}
	if err := unix.Ftruncate(fd, 0); err == nil {
		t.Error("a sealed memfd was truncated")
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %#x, %v", flags, err)
	}
	other, err := MapMemfd(fd)
	if err != nil {
		t.Fatal(err)
	}
	mem[size-1] = 7
	if other[size-1] != 7 {
		t.Error("the second mapping shows other memory")
	}
	if err := errors.Join(Unmap(mem), Unmap(other)); err != nil {
		t.Error(err)
	}
	if _, _, err := CreateMemfd(0); !errors.Is(err, ErrSize) {
		t.Errorf("memfd of no bytes: %v, want ErrSize", err)
	}

	loose, err := unix.MemfdCreate("loose", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeFd(loose) }()
	if err := unix.Ftruncate(loose, int64(size)); err != nil {
		t.Fatal(err)
	}
	if _, err := MapMemfd(loose); !errors.Is(err, ErrSealed) {
		t.Errorf("mapping of an unsealed memfd: %v, want ErrSealed", err)
	}
}

// TestRemapMemfd proves that a memfd that is handed back is mapped only if it
// has the size of a segment, and that its holes are filled.
func TestRemapMemfd(t *testing.T) {
	size := SegmentBytes(RingBytesMin)
	fd, mem, err := CreateMemfd(size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeFd(fd) }()
	mem[size-1] = 7
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 64<<10); err != nil {
		t.Fatal(err)
	}
	again, err := RemapMemfd(fd)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Blocks*512 < int64(size) {
		t.Errorf("%d of %d bytes are there, %v", st.Blocks*512, size, err)
	}
	if again[size-1] != 7 {
		t.Error("the content is gone")
	}
	if err := errors.Join(Unmap(mem), Unmap(again)); err != nil {
		t.Error(err)
	}
	for _, other := range []int{4096, size - 4096, size + 4096, 2 * size} {
		fd, mem, err := CreateMemfd(other)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := RemapMemfd(fd); !errors.Is(err, ErrSize) {
			t.Errorf("memfd of %d bytes: %v, want ErrSize", other, err)
		}
		if err := errors.Join(Unmap(mem), closeFd(fd)); err != nil {
			t.Error(err)
		}
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := RemapMemfd(int(file.Fd())); !errors.Is(err, ErrSealed) {
		t.Errorf("a file: %v, want ErrSealed", err)
	}
}

// TestGuard proves that a fault in a mapping is an error, that other panics go
// through, and that the setting of the goroutine is restored.
func TestGuard(t *testing.T) {
	fd, err := unix.MemfdCreate("short", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeFd(fd) }()
	if err := unix.Ftruncate(fd, 8192); err != nil {
		t.Fatal(err)
	}
	mem, err := mapShared(fd, 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = Unmap(mem) }()
	if err := unix.Ftruncate(fd, 0); err != nil {
		t.Fatal(err)
	}
	err = Guard(func() error {
		mem[5000]++
		return nil
	})
	if !errors.Is(err, ErrFault) {
		t.Errorf("got %v, want ErrFault", err)
	}
	own := errors.New("own")
	if err := Guard(func() error { return own }); !errors.Is(err, own) {
		t.Errorf("got %v, want the error of the function", err)
	}
	if before := Arm(); before {
		t.Error("Guard left the goroutine armed")
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic of another kind was swallowed")
		}
	}()
	_ = Guard(func() error { panic("other") })
}

// socketPair returns two connected unix sockets.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(a.Close(), b.Close()) })
	return a, b
}

func openFds(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestFds proves that exactly the wanted descriptors arrive, closed on exec,
// and that a wrong number leaves none open.
func TestFds(t *testing.T) {
	a, b := socketPair(t)
	fd, err := NewEventfd()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeFd(fd) }()
	for _, send := range []int{0, 1, 2, 3, 4, 20} {
		t.Run(strconv.Itoa(send), func(t *testing.T) {
			before := openFds(t)
			fds := make([]int, send)
			for i := range fds {
				fds[i] = fd
			}
			if err := SendFds(a, []byte("hello"), fds...); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			n, got, err := RecvFds(b, buf, 3)
			if string(buf[:n]) != "hello" {
				t.Errorf("got data %q", buf[:n])
			}
			switch send {
			case 0:
				if err != nil || len(got) != 0 {
					t.Errorf("got %v, %v; want none", got, err)
				}
			case 3:
				if err != nil || len(got) != 3 {
					t.Errorf("got %v, %v; want three", got, err)
				}
			default:
				if !errors.Is(err, ErrDescriptors) || got != nil {
					t.Errorf("got %v, %v; want ErrDescriptors", got, err)
				}
			}
			for _, g := range got {
				if flags, err := unix.FcntlInt(uintptr(g), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("not close-on-exec: %#x, %v", flags, err)
				}
				_ = closeFd(g)
			}
			if after := openFds(t); after != before {
				t.Errorf("%d descriptors open, before %d", after, before)
			}
		})
	}
}

const childEnv = "SHM_TEST_CHILD_ROUNDS"

// TestTwoProcesses proves that rings and doorbells work between processes:
// the test binary, started again, answers as the node.
func TestTwoProcesses(t *testing.T) {
	const rounds = 2000
	mem, fds := makeSegment(t)
	a, b := socketPair(t)
	file, err := b.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(rounds))
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := SendFds(a, []byte("segment"), fds...); err != nil {
		t.Fatal(err)
	}
	program, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	own, other := bellOf(t, fds[2]), bellOf(t, fds[1])
	if err := ping(program, own, other, rounds); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func bellOf(t *testing.T, fd int) Doorbell {
	t.Helper()
	d, err := NewEventfdDoorbell(fd)
	if err != nil {
		t.Fatal(err)
	}
	return closeAtEnd(t, d)
}

// makeSegment returns a formatted mapping, and memfd, node's and program's eventfd.
func makeSegment(t *testing.T) (mem []byte, fds []int) {
	t.Helper()
	fd, mem, err := CreateMemfd(SegmentBytes(RingBytesMin))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(Unmap(mem), closeFd(fd)) })
	fds = []int{fd}
	for range 2 {
		e, err := NewEventfd()
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, e)
	}
	if _, err := Format(mem, [16]byte{9}, RingBytesMin); err != nil {
		t.Fatal(err)
	}
	return mem, fds
}

// childMain is the other process of TestTwoProcesses; it reports whether this is it.
func childMain() bool {
	rounds, err := strconv.Atoi(os.Getenv(childEnv))
	if err != nil {
		return false
	}
	if err := runChild(rounds); err != nil {
		_, _ = os.Stderr.WriteString("child: " + err.Error() + "\n")
		os.Exit(1)
	}
	return true
}

func runChild(rounds int) error {
	c, err := net.FileConn(os.NewFile(3, "parent"))
	if err != nil {
		return err
	}
	_, fds, err := RecvFds(c.(*net.UnixConn), make([]byte, 100), 3)
	if err != nil {
		return err
	}
	mem, err := MapMemfd(fds[0])
	if err != nil {
		return err
	}
	s, err := Open(mem)
	if err != nil {
		return err
	}
	own, err := NewEventfdDoorbell(fds[1])
	if err != nil {
		return err
	}
	other, err := NewEventfdDoorbell(fds[2])
	if err != nil {
		return err
	}
	return Guard(func() error { return echo(s, own, other, rounds) })
}
