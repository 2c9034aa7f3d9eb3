package ctlport

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chmpx/chmpx/ring"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// nodes are a server in service, one that is being added and encrypts, and one
// that never was a member.
func nodes() []Node {
	at := time.Unix(1795403320, 221536e3).UTC()
	return []Node{
		{Name: "192.0.2.2", Port: 26000, CtlPort: 26100, Status: ring.ServiceIn | ring.Up, StatusTime: at},
		{
			Name: "192.0.2.3", Port: 40000, CtlPort: 65535, CUK: "cuk", CustomSeed: "seed", Endpoints: "a:1,b:2", CtlEndpoints: "a:3,b:4",
			ForwardPeers: "f1,f2", ReversePeers: "r1", Status: ring.ServiceIn | ring.Up | ring.Add | ring.Pending | ring.Suspend,
			StatusTime: at.Add(-216 * time.Millisecond), BaseHash: -1, PendingHash: 10,
			TLS: &TLS{VerifyPeer: true, CAPathIsDir: true, CAPath: "/ca", ServerCert: "/s.crt", ServerKey: "/s.key"},
		},
		{Name: "192.0.2.4", Port: 26002, CtlPort: 26102, Status: ring.ServiceOut, StatusTime: time.Time{}, BaseHash: -1, PendingHash: -1},
	}
}

// The layout of ALLSTATUS and SELFSTATUS is CHMPX's, which programs parse.
func TestLayout(t *testing.T) {
	all := nodes()
	golden(t, "allstatus.golden", All{Group: "s30onon", Servers: all}.String())
	golden(t, "selfstatus.golden", Self{
		Node: all[0], ID: 0xc419cea28b5691e2, Group: "s30onon", PortSocket: 9, CtlSocket: 10, ToServers: 3, FromSlaves: 2, OnControlPort: 1,
		Servers: Traffic{Sent: 3, Received: 2}, Slaves: Traffic{Sent: 5, Received: 7},
	}.String())
	golden(t, "selfstatus_slave.golden", Self{
		Node: Node{Name: "192.0.2.2", Port: -1, CtlPort: 25190, Status: ring.Slave | ring.Up, StatusTime: all[0].StatusTime, BaseHash: -1, PendingHash: -1},
		ID:   0xec673ef237dcee3, Group: "s10", Slave: true, PortSocket: -1, CtlSocket: 11, ToServers: 3, OnControlPort: 1,
	}.String())
}
