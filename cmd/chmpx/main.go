// Command chmpx is one node of a ring: a server node or a slave node,
// whichever its configuration says. It stays in the foreground until a signal
// ends it.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// version is what -v prints and the node tells others; the build may replace it.
var version = "0.1.0"

func main() {
	// Two places: the second signal must not be lost while the first is handled.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	d := daemon{args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr, signals: signals}
	os.Exit(d.run())
}
