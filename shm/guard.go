package shm

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Guard runs fn so that a memory fault within it, on this goroutine, gives an
// error that wraps ErrFault instead of ending the process. Every goroutine
// that touches a mapping does so under a Guard; fn may be the goroutine's
// whole loop. Locks that fn holds at the fault must be released by defer.
func Guard(fn func() error) (err error) {
	defer Catch(Arm(), &err)
	return fn()
}

// Arm and Catch are Guard for functions that cannot spare a closure:
//
//	defer shm.Catch(shm.Arm(), &err)
//
// Arm makes faults on this goroutine panic and returns the former setting.
func Arm() (before bool) { return debug.SetPanicOnFault(true) }

// Catch restores the setting and turns the panic of a memory fault into *err;
// any other panic goes on. It must be deferred directly.
func Catch(before bool, err *error) {
	debug.SetPanicOnFault(before)
	switch r := recover().(type) {
	case nil:
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		*err = fmt.Errorf("%w at %#x", ErrFault, r.Addr())
	default:
		panic(r)
	}
}
