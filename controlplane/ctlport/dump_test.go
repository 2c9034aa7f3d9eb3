package ctlport

import (
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// The layout of DUMP is CHMPX's, less its memory: what chmpxlinetool looks for is
// there in its order, and so are all facts of a node.
func TestDump(t *testing.T) {
	servers := nodes()
	at := servers[0].StatusTime
	asSlave := func(n Node) Node {
		return Node{Name: n.Name, Port: -1, CtlPort: n.CtlPort, Status: ring.Slave | ring.Up, StatusTime: at, BaseHash: -1, PendingHash: -1}
	}
	self := Self{
		Node: servers[0], ID: 0xc419cea28b5691e2, Group: "s30onon", PortSocket: 9, CtlSocket: 10,
		Servers: Traffic{Sent: 3, Received: 2}, Slaves: Traffic{Sent: 5, Received: 7},
	}
	server := Dump{
		Self: self, Operating: true, Revision: 1, Date: time.Unix(1609459200, 0), NodesMax: 16, Replica: 1, PID: 11846, Start: time.Unix(1795403316, 0),
		Servers: []Peer{{servers[0], self.ID, false, -1}, {servers[1], 0x0419d0558b5691e2, false, 12}, {servers[2], 0xc419cb3c8b5691e2, false, -1}},
		Slaves:  []Peer{{asSlave(servers[1]), 0x0419d0558b5691e2, true, 14}, {asSlave(Node{Name: "192.0.2.9", CtlPort: 26190}), 0xc419, true, 15}},
		Base:    []ring.ID{self.ID}, Pending: []ring.ID{self.ID, 0x0419d0558b5691e2},
		Options:  Options{Random: true, AutoMerge: true, SuspendMerge: true, DoMerge: true, MergeTimeout: 30 * time.Second, History: 100},
		Programs: []int{14032, 14033},
	}
	golden(t, "dump.golden", server.String())
	golden(t, "dump_slave.golden", Dump{
		Self: Self{Node: asSlave(Node{Name: "192.0.2.2", CtlPort: 25190}), ID: 0xec673ef237dcee3, Group: "s10", Slave: true, PortSocket: -1, CtlSocket: 11},
	}.String())

	text := server.String()
	for _, key := range []string{"chmpx_man{\n", "chmpx_self ", "chmpxid ", " name ", " base_hash ", " pending_hash ", " ctlport ", " cuk ",
		" custom_seed ", " ctlendpoints ", " sock ", " last_status_time ", " status ", "chmpx_servers ", "chmpx{\n", "chmpx_slaves "} {
		_, after, found := strings.Cut(text, key)
		if !found {
			t.Fatalf("%q is not there, or before another key", key)
		}
		text = after
	}
}
