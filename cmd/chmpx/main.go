// Command chmpx is one node of a ring: a server node or a slave node,
// whichever its configuration says. It stays in the foreground until a signal
// ends it.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// version is what -v prints and the node tells others; the build may replace it.
var version = "0.1.0"

func main() {
	// Two places: the second signal must not be lost while the first is handled.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	d := daemon{args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr, signals: signals}
	code := d.run()
	if d.again && len(signals) == 0 { // one that came since counts
		if err := startAnew(); err != nil {
			fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
			code = exitFailed
		}
	}
	os.Exit(code)
}

// startAnew puts the program that is installed now in the place of this process:
// the same pid, options and environment. It returns only with an error.
func startAnew() error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program to start it anew: %w", err)
	}
	// Of a file that was replaced Linux says so behind its old name.
	path = strings.TrimSuffix(path, " (deleted)")
	if err := syscall.Exec(path, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("start %s anew: %w", path, err)
	}
	return nil
}
