package shm

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// CreateMemfd returns a sealed memfd of size bytes, all of it allocated, and
// its mapping, which children do not inherit. The caller closes fd and unmaps mem.
func CreateMemfd(size int) (fd int, mem []byte, err error) {
	if size <= 0 {
		return -1, nil, fmt.Errorf("%w: %d bytes", ErrSize, size)
	}
	fd, err = unix.MemfdCreate("chmpx", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, fmt.Errorf("create memfd: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	// Allocated up front: a full memory must show here, not as SIGBUS later.
	if err = allocate(fd, int64(size)); err != nil {
		return fd, nil, fmt.Errorf("allocate %d bytes of shared memory: %w", size, err)
	}
	if _, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fd, nil, fmt.Errorf("seal memfd: %w", err)
	}
	mem, err = mapShared(fd, size)
	return fd, mem, err
}

func allocate(fd int, size int64) error {
	for {
		if err := unix.Fallocate(fd, 0, 0, size); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// CheckMemfd checks that a descriptor that came from another process is a memfd
// of the size of a segment, which nobody can change, and returns the size.
func CheckMemfd(fd int) (size int, err error) {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if have&(unix.F_SEAL_SHRINK|unix.F_SEAL_GROW) != unix.F_SEAL_SHRINK|unix.F_SEAL_GROW {
		return 0, fmt.Errorf("%w: seals %#x", ErrSealed, have)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("read size of memfd: %w", err)
	}
	if !validSegmentBytes(st.Size) {
		return 0, fmt.Errorf("%w: memfd of %d bytes", ErrSize, st.Size)
	}
	return int(st.Size), nil
}

// MemfdID names the memory behind a descriptor, whatever is written in it: equal
// for all descriptors of it. The kernel may use a number again, after billions.
type MemfdID struct{ device, inode uint64 }

// IdentifyMemfd returns the name of the memory behind a descriptor.
func IdentifyMemfd(fd int) (MemfdID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return MemfdID{}, fmt.Errorf("identify memfd: %w", err)
	}
	return MemfdID{st.Dev, st.Ino}, nil
}

// MapMemfd maps the whole of a memfd that came from another process and passes
// CheckMemfd. The caller keeps fd.
func MapMemfd(fd int) (mem []byte, err error) {
	size, err := CheckMemfd(fd)
	if err != nil {
		return nil, err
	}
	return mapShared(fd, size)
}

// RemapMemfd is MapMemfd for a segment that a program hands back: holes that
// were punched into it are filled first, so that a full memory shows here.
func RemapMemfd(fd int) (mem []byte, err error) {
	size, err := CheckMemfd(fd)
	if err != nil {
		return nil, err
	}
	if err := allocate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("allocate %d bytes of shared memory: %w", size, err)
	}
	return mapShared(fd, size)
}

func mapShared(fd, size int) ([]byte, error) {
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memfd: %w", err)
	}
	// A forked child must not write into rings that have one producer.
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("keep mapping from children: %w", err)
	}
	return mem, nil
}

// Unmap gives back a mapping of CreateMemfd or MapMemfd. No Producer, Consumer
// or Segment over it may be used afterwards.
func Unmap(mem []byte) error {
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap segment: %w", err)
	}
	return nil
}

// SendFds writes data with descriptors attached, if any, in one message. data must not be empty.
func SendFds(conn *net.UnixConn, data []byte, fds ...int) error {
	if len(fds) == 0 {
		if _, err := conn.Write(data); err != nil {
			return fmt.Errorf("send message: %w", err)
		}
		return nil
	}
	n, _, err := conn.WriteMsgUnix(data, unix.UnixRights(fds...), nil)
	if err != nil {
		return fmt.Errorf("send descriptors: %w", err)
	}
	if n < len(data) {
		if _, err := conn.Write(data[n:]); err != nil {
			return fmt.Errorf("send descriptors: %w", err)
		}
	}
	return nil
}

// RecvFds reads into buf once and returns the descriptors that came with the
// bytes: exactly want of them, or none at all (a refusal carries none). Any
// other number is ErrDescriptors; then all are closed. They are close on exec.
// n may be less than the whole message; the rest follows without descriptors.
func RecvFds(conn *net.UnixConn, buf []byte, want int) (n int, fds []int, err error) {
	// Room for more than wanted, so that a surplus is seen and closed, not truncated by chance.
	oob := make([]byte, unix.CmsgSpace(4*(want+8)))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return 0, nil, fmt.Errorf("receive descriptors: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, nil, fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err == nil {
			fds = append(fds, got...)
		}
	}
	if flags&unix.MSG_CTRUNC == 0 && (len(fds) == want || len(fds) == 0) {
		return n, fds, nil
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return n, nil, fmt.Errorf("%w: %d came, %d expected", ErrDescriptors, len(fds), want)
}
