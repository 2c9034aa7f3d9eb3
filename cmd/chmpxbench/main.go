// Command chmpxbench measures a ring, and is a server and a client program to
// try one with. It has the options and the output of CHMPX's command of this
// name and adds windows, durations, percentiles and JSON.
//
// The process that is started runs children of itself, one per -proccnt: they
// attach, wait until all are ready, start together and report; the parent adds
// up and prints.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}
