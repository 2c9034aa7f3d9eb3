package testcluster

import (
	"fmt"
	"maps"
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
