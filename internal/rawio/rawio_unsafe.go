package rawio

import (
	"syscall"
	"unsafe"
)

// Read reads into b and returns the number of bytes, or a non-zero errno:
// EAGAIN when nothing is there, EINTR when a signal came first. n 0 and errno 0
// is the end of the stream, or an empty b.
func Read(fd uintptr, b []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// Write writes from b and returns how much the kernel took, or a non-zero
// errno: EAGAIN when there is no room, EINTR when a signal came first.
func Write(fd uintptr, b []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}
