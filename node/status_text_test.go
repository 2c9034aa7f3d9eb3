package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
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
	var cfg config.Config
	s.conf = func() *config.Config { return &cfg }
	for _, name := range []string{"c", "b", "a"} { // ring order is by name
		cfg.Servers = append(cfg.Servers, config.Server{Name: name, Port: 8020, CtlPort: 8021, Endpoints: "e:1", ForwardPeers: "f"})
	}
	s.id = member(s.group, s.idType, cfg.Servers[2]).ID
	if table {
		b := member(s.group, s.idType, cfg.Servers[1])
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

// ask sends a text command to a node of this host and returns the answer.
func ask(t *testing.T, ctlPort int, command string) string {
	t.Helper()
	answer, err := tell(ctlPort, command)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// tell is ask for any goroutine.
func tell(ctlPort int, command string) (string, error) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", ctlPort), patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// A real node answers the text commands while it waits for other servers and
// the ring has no leader, and shows what it knows.
func TestTextWithoutLeader(t *testing.T) {
	s := newSite(t)
	text, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	// Two more servers, where nobody listens.
	more := "[SVRNODE]\nNAME = 127.0.0.1\nPORT = 1\nCTLPORT = 2\n[SVRNODE]\nNAME = 127.0.0.1\nPORT = 3\nCTLPORT = 4\n"
	if err := os.WriteFile(s.conf, append(text, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{Config: config.Source{Path: s.conf}, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	for command, wants := range map[string][]string{
		"version": {"Version 1.2.3 (commit: "},
		"ALLSTATUS": {
			"RING Name              = NODETEST\nNo.1\n  Server Name          = 127.0.0.1\n    Port               = 1\n",
			"No.3\n  Server Name          = localhost\n",
			"= 0x10(SAFE -> [SERVICE OUT][DOWN][n/a][Nothing][NoSuspend])\n",
			"= 0x10011(SAFE -> [SERVICE OUT][UP][n/a][Nothing][Suspend])\n",
		},
		"SELFSTATUS": {
			fmt.Sprintf("Internal ID               = 0x%x\n", uint64(n.id)), "    To Servers            = 3\n", "    On Control port       = ",
			fmt.Sprintf("    Control Port(socket)  = %d(", s.ctlPort), fmt.Sprintf("    Port(socket)          = %d(", s.port),
		},
		"MERGE":                  {"ERROR: Failed to start merging.\nREASON: no leader: waiting for 2 of 3 servers: 127.0.0.1:"},
		"SERVICEOUT 127.0.0.1:9": {"ERROR: There is no such as server.\nREASON: no server of the ring or the configuration is called \"127.0.0.1\" with control port 9\n"},
	} {
		answer := ask(t, s.ctlPort, command)
		for _, want := range wants {
			if !strings.Contains(answer, want) {
				t.Errorf("%s: the answer lacks %q:\n%s", command, want, answer)
			}
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
	if got := text.answers("V", nil).Answer(t.Context(), ctlport.ParseCommand([]byte("servicein")), 1); !strings.Contains(got, "slave node") {
		t.Errorf("SERVICEIN: %q", got)
	}
}
