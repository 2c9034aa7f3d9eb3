// Package fault is how tests break the product from within: disks that are
// slow, hang or are full, a wall clock that is wrong, dials that lead
// elsewhere, the end of a process at a chosen point, deliberate bugs, and a
// trace of the frames that a node handles.
//
// Only binaries that are built with the tag faults have any of it: without the
// tag Enabled is false and every function is empty, so that the compiler leaves
// nothing of the calls. With the tag the environment of the process switches
// it: see the names that begin with Env. Two parts exist in every build, for
// those who start such binaries and judge them: what points and bugs there are,
// and the format of the trace.
//
// All functions may be called from any goroutine and under any lock.
package fault

// The environment of a process that is built with the tag.
const (
	// EnvDir names a directory whose files say what is wrong at present. The
	// process looks at them every 20 ms, at dial whenever it dials. A file that
	// is missing or empty stands for nothing wrong; write them by renaming, so
	// that they are read as a whole.
	//
	//	disk   ok | slow <duration> | hang | full
	//	clock  a duration that is added to the wall clock: -3h, 250ms
	//	dial   lines "<host:port> <host:port>": the second is dialled in place of the first
	EnvDir = "CHMPX_FAULT_DIR"
	// EnvCrash is "<point>" or "<point>:<n>": the process ends itself by SIGKILL
	// when it passes that point for the n-th time (1).
	EnvCrash = "CHMPX_FAULT_CRASH"
	// EnvBug names the deliberate bug that is on.
	EnvBug = "CHMPX_FAULT_BUG"
	// EnvTrace names the file that a node traces frames into. One that is there
	// is continued.
	EnvTrace = "CHMPX_FAULT_TRACE"
	// EnvTraceBytes is the size of a new trace file; default TraceBytes.
	EnvTraceBytes = "CHMPX_FAULT_TRACE_BYTES"
)

// The files in the directory that EnvDir names.
const (
	FileDisk   = "disk"
	FileClock  = "clock"
	FileDial   = "dial"
	FileStacks = "stacks" // where to write what all goroutines do, once for each change; the process adds its .PID
)
