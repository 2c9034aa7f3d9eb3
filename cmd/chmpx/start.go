package main

import (
	"fmt"
	"io"

	"github.com/chmpx/chmpx/node"
	"github.com/chmpx/chmpx/ring"
)

// noHash is the hash number of a node that has no place in the ring yet.
const noHash = ^uint64(0)

// printStart writes what a node says of itself at its start, as CHMPX does.
// Base hash and status are those of a process that the ring has not admitted
// yet, whatever it remembers of the node.
func printStart(w io.Writer, info node.Info) {
	mode, status := "SLAVE", ring.Slave|ring.Up
	if info.Server {
		mode, status = "SERVER", ring.ServiceOut|ring.Up|ring.Suspend
	}
	row := func(name string, value any) { fmt.Fprintf(w, "%-25s = %v\n", name, value) }
	row("CHMPX HOSTNAME", info.Name)
	row("MODE", mode)
	row("PORT", info.Port)
	row("CONTROL PORT", info.CtlPort)
	row("SSL", "NO")
	row("BASE HASH", fmt.Sprintf("%016x", noHash))
	row("STATUS", status)
	fmt.Fprintln(w)
}
