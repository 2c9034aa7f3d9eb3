package config

import (
	"errors"
	"strings"
	"testing"
)

// What a running node may take over from a changed file: everything about other
// nodes, and the keys that are marked live. All else is refused, with the key
// and both values, one line each.
func TestCheckReload(t *testing.T) {
	const nodes = "[SVRNODE]\nNAME=a\nCUK=x\nPORT=1\n[SVRNODE]\nNAME=b\n[SLVNODE]\nNAME=^web\nCTLPORT=9\n"
	server := Self{Server: true, Name: "a", Port: 1, CtlPort: 8021, CUK: "x"}
	slave := Self{Name: "web1", CtlPort: 9}
	for _, tc := range []struct {
		name, global, nodes string // of the next file
		self                Self
		wants               []string // lines; none: it may be
	}{
		{"the same", "", nodes, server, nil},
		{"the same for a slave", "", nodes, slave, nil},
		{"a server more", "", nodes + "[SVRNODE]\nNAME=c[1-2]\n", server, nil},
		{"a server less", "", strings.Replace(nodes, "[SVRNODE]\nNAME=b\n", "", 1), server, nil},
		{"another port of another", "", strings.Replace(nodes, "NAME=b\n", "NAME=b\nPORT=2\n", 1), server, nil},
		{"slaves", "", strings.Replace(nodes, "^web", "^app", 1), server, nil},
		{"another pattern that fits", "", strings.Replace(nodes, "^web", "^web[0-9]$", 1), slave, nil},
		{"live keys", "MAXCHMPX=77\nCTLALLOW=10.0.0.0/8\nCTLSLAVES=none\nDATE=Mon, 02 Nov 2026 09:00:00 +0000\n", nodes, server, nil},
		{"times and limits", "DOWNOUT=5s\nSUSPENDGRACE=0s\nUPBACKOFFMAX=0s\nSHMBYTESMAX=64MiB\nMAXHISTLOG=1\nDOWNAFTER=1s\n", nodes, server, nil},
		{"a lease, where there was none", "DOWNAFTER=4s\nOWNERLEASE=3s\n", nodes, server, nil},
		{"a lease with less", "DOWNAFTER=2s\nOWNERLEASE=1s\n", nodes, server, []string{`DOWNAFTER = "2s" cannot change while the node runs; it has "3s", and may take a longer time, and with OWNERLEASE = 0s any`}},
		{"without effect", "RWTIMEOUT=7\nSOCKTHREADCNT=4\nMQACK=no\nK2HMASKBIT=3\n", nodes, server, nil},
		{"the same said otherwise", "DOWNAFTER=3000ms\nREPLICA=00\nPLACEMENT=slots\nDOMERGE=off\n", nodes, server, nil},

		{"the ring's values", "REPLICA=1\nDOMERGE=on\nAUTOMERGE=on\n", nodes, server, []string{
			`REPLICA = "1" cannot change while the node runs; it has "0"`, `DOMERGE = "yes" cannot`, `AUTOMERGE = "yes" cannot`}},
		{"the mode of delivery", "DELIVERMODE=random\n", nodes, server, []string{`DELIVERMODE = "RANDOM" cannot change while the node runs; it has "HASH"`, "AUTOMERGE"}},
		{"the group", "GROUP=H\n", nodes, server, []string{`GROUP = "H" cannot change while the node runs; it has "G"`}},
		{"the node's own", "RUNDIR=/x\nDATADIR=/y\nMODE=server\nSELFCTLPORT=8021\nSELFCUK=x\nRINGBYTES=64KiB\n", nodes, server, []string{
			`MODE = "SERVER" cannot change while the node runs; it has nothing`, "SELFCTLPORT", "SELFCUK", "RUNDIR", "DATADIR", "RINGBYTES"}},
		{"its entry is gone", "", "[SVRNODE]\nNAME=b\n", server, []string{"[SVRNODE] a:8021 is missing"}},
		{"its port", "", strings.Replace(nodes, "PORT=1\n", "PORT=2\n", 1), server, []string{`PORT = "2" cannot change while the node runs; it has "1"`}},
		{"its port is the default now", "", strings.Replace(nodes, "PORT=1\n", "", 1), server, []string{`PORT = "8020" cannot`}},
		{"its cuk", "", strings.Replace(nodes, "CUK=x", "CUK=y", 1), server, []string{`CUK = "y" cannot change while the node runs; it has "x"`}},
		{"its control port", "CTLPORT=7\n", nodes, server, []string{"[SVRNODE] a:8021 is missing"}},
		{"a slave's entry is gone", "", strings.Replace(nodes, "^web", "^app", 1), slave, []string{"no [SLVNODE] with CTLPORT 9 matches web1"}},
		{"a slave's control port", "", strings.Replace(nodes, "CTLPORT=9", "CTLPORT=10", 1), slave, []string{"no [SLVNODE] with CTLPORT 9 matches web1"}},
		{"a slave's cuk", "", strings.Replace(nodes, "CTLPORT=9\n", "CTLPORT=9\nCUK=q\n", 1), slave, []string{`CUK = "q" cannot change while the node runs; it has nothing`}},
		{"a slave becomes a server", "", nodes + "[SVRNODE]\nNAME=web1\nCTLPORT=9\n", slave, []string{"[SVRNODE] web1:9 is this node, which runs as a slave"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now, next := mustLoad(t, minimal(nodes)), mustLoad(t, minimal(tc.global+tc.nodes))
			err := now.CheckReload(next, tc.self)
			if len(tc.wants) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("got %v, want %q", err, tc.wants)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tc.wants) {
				t.Fatalf("%d lines, want %d:\n%v", len(lines), len(tc.wants), err)
			}
			for i, want := range tc.wants {
				if !strings.Contains(lines[i], want) || !strings.HasPrefix(lines[i], "test.ini: ") {
					t.Errorf("line %d: %s, want %s", i, lines[i], want)
				}
			}
		})
	}
}

// OWNERLEASE and DOWNAFTER may change in the direction in which the promise holds
// whichever of the servers has read its file already: a lease ends earlier, a server is
// taken for down later.
func TestCheckReloadOfLease(t *testing.T) {
	const nodes = "[SVRNODE]\nNAME=a\n[SLVNODE]\nNAME=b\n"
	self := Self{Server: true, Name: "a", Port: 8020, CtlPort: 8021}
	for _, tc := range []struct {
		name, now, next string
		want            string // in the error; "": it may be
	}{
		{"a shorter lease", "OWNERLEASE=2s", "OWNERLEASE=1s", ""},
		{"no lease", "OWNERLEASE=2s", "", ""},
		{"a longer one", "OWNERLEASE=1s", "OWNERLEASE=2s", `OWNERLEASE = "2s" cannot change while the node runs; it has "1s", and may take a shorter time, 0s, or any in the place of 0s`},
		{"down later", "OWNERLEASE=2s", "OWNERLEASE=2s\nDOWNAFTER=5s", ""},
		{"down earlier", "OWNERLEASE=1s", "OWNERLEASE=1s\nDOWNAFTER=2s", "DOWNAFTER"},
		{"down earlier, and no lease", "OWNERLEASE=1s", "DOWNAFTER=2s", "DOWNAFTER"},
		{"both longer", "OWNERLEASE=1s", "OWNERLEASE=3s\nDOWNAFTER=5s", "OWNERLEASE"},
		{"down earlier without any lease", "", "DOWNAFTER=1s", ""},
	} {
		err := mustLoad(t, minimal(tc.now+"\n"+nodes)).CheckReload(mustLoad(t, minimal(tc.next+"\n"+nodes)), self)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}
