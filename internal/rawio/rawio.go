// Package rawio reads and writes non-blocking descriptors without telling the
// Go scheduler: no hand-over of the processor, no allocation. It must only be
// used where the kernel cannot block: sockets with O_NONBLOCK and eventfds.
// The caller keeps the descriptor open for the duration of the call.
package rawio

import "syscall"

// Yield lets other threads run that wait for this processor.
func Yield() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
