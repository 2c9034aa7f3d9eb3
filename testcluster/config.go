package testcluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
)

// configuration returns the file of one node. All files name the same nodes.
func (c *Cluster) configuration(n *Node) string {
	mode := "SERVER"
	if n.slave {
		mode = "SLAVE"
	}
	keys := map[string]string{
		"FILEVERSION": "1", "DATE": "Mon, 02 Nov 2026 09:00:00 +0000", "GROUP": "RING", "MODE": mode, "DELIVERMODE": "HASH",
		"SELFCTLPORT": fmt.Sprint(n.CtlPort), "REPLICA": fmt.Sprint(c.opts.Replica), "DOMERGE": "on", "AUTOMERGE": "on",
		"RUNDIR": c.path("run"), "DATADIR": n.DataDir(),
	}
	maps.Copy(keys, c.opts.Keys)
	var b strings.Builder
	b.WriteString("[GLOBAL]\n")
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(&b, "%s = %s\n", k, keys[k])
	}
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "\n[SVRNODE]\nNAME = %s\nPORT = %d\nCTLPORT = %d\n", s.Host, s.Port, s.CtlPort)
	}
	for _, s := range c.Slaves {
		fmt.Fprintf(&b, "\n[SLVNODE]\nNAME = %s\nCTLPORT = %d\n", s.Host, s.CtlPort)
	}
	if len(c.Slaves) == 0 { // the section is required
		fmt.Fprintf(&b, "\n[SLVNODE]\nNAME = localhost\nCTLPORT = 1\n")
	}
	return b.String()
}

// Ports are taken below the range that the kernel gives to outgoing
// connections, so that none of those can take the port of a node that is down.
const (
	portLeast = 12000
	portMost  = 32000
)

// FreePorts returns n different ports that nobody listens on.
func FreePorts(n int) ([]uint16, error) {
	var ports []uint16
	for range 50 * (n + 1) {
		if len(ports) == n {
			return ports, nil
		}
		port := uint16(portLeast + rand.IntN(portMost-portLeast))
		if slices.Contains(ports, port) {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("testcluster: no %d free ports between %d and %d", n, portLeast, portMost)
}
