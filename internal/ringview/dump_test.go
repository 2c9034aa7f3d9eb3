package ringview

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nodeDump is a DUMP of the tests of ctlport, which makes ours.
func nodeDump(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "controlplane", "ctlport", "testdata", "dump.golden"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Our own DUMP is taken apart: sections, lists, and the nodes in it.
func TestParseDump(t *testing.T) {
	dump, err := ParseDump(nodeDump(t))
	if err != nil {
		t.Fatal(err)
	}
	man := dump.Sub("chmpx_man")
	if got := man.Value("group"); got != "s30onon" {
		t.Errorf("group %q", got)
	}
	if pids := dump.Sub("client_pids").Items(); len(pids) != 2 || pids[1].Value("pid") != "14033" {
		t.Errorf("client_pids %+v", pids)
	}
	u, err := UnitsOf(dump)
	if err != nil || len(u.Servers) != 3 || len(u.Slaves) != 2 {
		t.Fatalf("%d servers, %d slaves, %v", len(u.Servers), len(u.Slaves), err)
	}
	want := Unit{
		ID: 0x419d0558b5691e2, Name: "192.0.2.3", CtlPort: 65535, CUK: "cuk", CustomSeed: "seed", CtlEndpoints: "a:3,b:4",
		BaseHash: "0xffffffffffffffff", PendingHash: "0xa", Sockets: 1, StatusTime: 30121869306762656, Status: "[SERVICE IN][UP][ADD][Pending][Suspend]",
	}
	if u.Servers[1] != want {
		t.Errorf("got  %+v\nwant %+v", u.Servers[1], want)
	}
	if u.Self.Sockets != 0 || u.Slaves[0].Sockets != 1 {
		t.Errorf("sockets %d, %d", u.Self.Sockets, u.Slaves[0].Sockets)
	}
}

// CHMPX prints ports above 32767 with a sign, and several sockets with commas.
func TestUnitOfCHMPX(t *testing.T) {
	text := strings.NewReplacer("ctlport          = 26100", "ctlport          = -32767", "sock             = 12", "sock             = 12,13,-1").Replace(nodeDump(t))
	dump, err := ParseDump(text)
	if err != nil {
		t.Fatal(err)
	}
	u, err := UnitsOf(dump)
	if err != nil || u.Self.CtlPort != 32769 || u.Servers[1].Sockets != 2 {
		t.Errorf("ctlport %d, %d sockets, %v", u.Self.CtlPort, u.Servers[1].Sockets, err)
	}
}

// What is no DUMP, or has no nodes, is an error.
func TestParseDumpErrors(t *testing.T) {
	for _, text := range []string{
		"", "ERROR: Failed to get all information.\n", "}\n", "chmpx_man{\n", "chmpx_man{\n}\n}\n", strings.Repeat("a{\n", dumpDepthMax+1),
	} {
		if _, err := ParseDump(text); !errors.Is(err, ErrDump) {
			t.Errorf("ParseDump(%.20q) = %v", text, err)
		}
	}
	for _, text := range []string{"chmpx_man{\n}\n", "chmpx_man{\nchmpx_self=1\n{\nchmpxid=x\n}\n}\n", "chmpx_man{\nchmpx_self=1\n{\nchmpxid=0x1\nctlport=x\n}\n}\n"} {
		dump, err := ParseDump(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := UnitsOf(dump); !errors.Is(err, ErrDump) {
			t.Errorf("UnitsOf(%q) = %v", text, err)
		}
	}
}

// Whatever a node answers, it is taken apart or refused, and what was taken apart is JSON.
func FuzzParseDump(f *testing.F) {
	f.Add(nodeDump(f))
	f.Add("chmpx_man{\nchmpx_base_srvs=0x1\n[1] {\n[0] = 0x1\n}\n}\n")
	f.Add("}\n{\n")
	f.Fuzz(func(t *testing.T, text string) {
		dump, err := ParseDump(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(dump); err != nil {
			t.Error(err)
		}
		_, _ = UnitsOf(dump) // has to return
	})
}
