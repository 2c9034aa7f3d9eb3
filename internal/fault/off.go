//go:build !faults

package fault

import "time"

// Enabled says whether this build has faults.
const Enabled = false

// Now is the wall clock as this process sees it. It is for times that other
// processes see; what measures durations here uses package time.
func Now() time.Time { return time.Now() }

// Wall turns a time of the true wall clock into one as this process sees it.
func Wall(t time.Time) time.Time { return t }

// Disk is called before each write to disk. It waits if the disk is slow or
// hangs, and returns an error that wraps syscall.ENOSPC if it is full.
func Disk() error { return nil }

// Dial returns the address to dial in place of another one.
func Dial(hostport string) string { return hostport }

// Crash ends the process if this is the point and the time for it.
func Crash(Point) {}

// Bug reports whether a deliberate bug is on.
func Bug(BugName) bool { return false }

// Every reports whether a deliberate bug is on, once in n calls of it.
func Every(BugName, int) bool { return false }

// Trace adds an event to the trace. It sets Number and, if it is 0, AtNs.
func Trace(*Event) {}

// Describe says what is switched on, "" for nothing.
func Describe() string { return "" }
