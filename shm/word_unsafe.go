package shm

import "unsafe"

// word64 returns the 8 bytes at b[off] as a word for sync/atomic. b must be
// 8-byte aligned at off, which Format and Open check once for the segment.
func word64(b []byte, off int) *uint64 { return (*uint64)(unsafe.Pointer(&b[off : off+8][0])) }

// word32 is word64 for 4 bytes.
func word32(b []byte, off int) *uint32 { return (*uint32)(unsafe.Pointer(&b[off : off+4][0])) }

// aligned reports whether b begins at a cache line's natural word boundary.
func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0 }
