package node

import (
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/ring"
)

// exampleText is the text of a node of the ring a, b and c, of which b is the
// member of the table and a this node.
func exampleText(t *testing.T, table bool) *statusText {
	t.Helper()
	s := &statusText{
		group: "G", self: config.Self{Server: true, Name: "a", Port: 8020, CtlPort: 8021}, start: time.UnixMicro(5e6).UTC(),
		portSocket: 7, ctlSocket: 8,
		table: func() *ring.Table { return nil },
		data: func() dataplane.Status {
			return dataplane.Status{
				Links:    []dataplane.LinkStatus{{Name: "b"}, {Name: "b", Accepted: true}, {Name: "s", Accepted: true}},
				Counters: flow.Stats{Transmitted: 1, RepliesDelivered: 2, RepliesSent: 3, Accepted: 4},
			}
		},
	}
	for _, name := range []string{"c", "b", "a"} { // ring order is by name
		s.servers = append(s.servers, config.Server{Name: name, Port: 8020, CtlPort: 8021, Endpoints: "e:1", ForwardPeers: "f"})
	}
	s.id = member(s.group, s.idType, s.servers[2]).ID
	if table {
		b := member(s.group, s.idType, s.servers[1])
		tab, err := ring.NewTable(ring.Table{Group: "G", Servers: []ring.Server{{
			ID: b.ID, Number: 1, Identity: b.Identity, Addr: "b:8020", Status: ring.ServiceIn | ring.Up,
			BaseHash: 0, PendingHash: -1, StatusTime: 7000001,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		s.table = func() *ring.Table { return tab }
	}
	return s
}

// ALLSTATUS shows the members as the table has them and servers that are only
// configured as out of service, in ring order.
func TestShowAll(t *testing.T) {
	all := exampleText(t, true).showAll()
	if len(all.Servers) != 3 {
		t.Fatalf("%d servers: %+v", len(all.Servers), all.Servers)
	}
	for i, want := range []struct {
		name   string
		status ring.Status
		base   int32
		us     int64
	}{
		{"a", ring.ServiceOut | ring.Up | ring.Suspend, -1, 5000000},
		{"b", ring.ServiceIn | ring.Up, 0, 7000001},
		{"c", ring.ServiceOut | ring.Down, -1, time.Time{}.UnixMicro()},
	} {
		n := all.Servers[i]
		if n.Name != want.name || n.Status != want.status || n.BaseHash != want.base || n.StatusTime.UnixMicro() != want.us ||
			n.Port != 8020 || n.CtlPort != 8021 || n.Endpoints != "e:1" || n.ForwardPeers != "f" || n.PendingHash != -1 {
			t.Errorf("%d: %+v", i, n)
		}
	}
}

// SELFSTATUS works without any table, and counts servers, links and messages.
func TestShowSelf(t *testing.T) {
	for _, table := range []bool{false, true} {
		s := exampleText(t, table).showSelf()
		if s.Name != "a" || s.Slave || s.Port != 8020 || s.Status != ring.ServiceOut|ring.Up|ring.Suspend ||
			s.PortSocket != 7 || s.CtlSocket != 8 || s.ToServers != 3 || s.FromSlaves != 2 || s.Servers.Sent != 1 || s.Slaves.Received != 4 {
			t.Errorf("table %t: %+v", table, s)
		}
	}
}

// A slave shows itself as one; it is no server of the list.
func TestShowSlave(t *testing.T) {
	text := exampleText(t, true)
	text.self, text.id = config.Self{Name: "s", CtlPort: 9}, 77
	s := text.showSelf()
	if s.Name != "s" || !s.Slave || s.Port != -1 || s.Status != ring.Slave|ring.Up || s.ToServers != 3 {
		t.Errorf("%+v", s)
	}
	if got := text.answers("V").Answer(ctlport.ParseCommand([]byte("servicein")), 1); !strings.Contains(got, "slave node") {
		t.Errorf("SERVICEIN: %q", got)
	}
}
