package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A file gives the Config, the warnings and the errors in its golden file:
// every message names file and line, and all of a file come at once.
func TestLoadGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".golden") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, warnings, err := Load(Source{Path: file})
			var out strings.Builder
			for _, w := range warnings {
				fmt.Fprintf(&out, "warning %s\n", w)
			}
			if err != nil {
				fmt.Fprintf(&out, "%v\n", err)
				if !errors.Is(err, ErrConfig) {
					t.Errorf("error does not wrap ErrConfig: %v", err)
				}
			}
			if (c == nil) != (err != nil) {
				t.Errorf("got config %v with error %v", c, err)
			}
			if c != nil {
				text, err := json.MarshalIndent(c, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "%s\n", text)
			}
			golden := file + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
			}
		})
	}
}

// The examples load without a word, their nodes are found on any host, and
// those of one node are the same in every format.
func TestExamples(t *testing.T) {
	for name, server := range map[string]bool{"test_server": true, "test_slave": false} {
		var want *Config
		for _, extension := range []string{".ini", ".yaml", ".json"} {
			file := name + extension
			c, warnings, err := Load(Source{Path: filepath.Join("../examples", file)})
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%s: warnings %v, error %v", file, warnings, err)
			}
			self, err := c.SelfNode(0, "")
			if err != nil || self.Server != server || self.Name == "" {
				t.Errorf("%s: got %+v, %v; want server: %v", file, self, err, server)
			}
			if want == nil {
				want = c
			}
			if diff := cmp.Diff(want, c, sameRing); diff != "" {
				t.Errorf("%s differs from %s.ini:\n%s", file, name, diff)
			}
		}
	}
}

// What is no file of a known kind and of reasonable size is refused with the reason.
func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.ini")
	if err := os.WriteFile(large, make([]byte, configBytesMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.ini"): "no such file",
		dir + "/":                      "is a directory",
		large:                          "larger than",
		"ring.conf":                    `the extension ".conf" is unknown`,
	} {
		_, _, err := Load(Source{Path: path})
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if _, _, err := Load(Source{Path: filepath.Join(dir, "none.ini")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reason is not in the chain of %v", err)
	}
}

// A file that is wrong in every line has an error that can be read: nodes log it
// and show it in their status.
func TestManyProblems(t *testing.T) {
	_, _, err := loadText("test.ini", strings.Repeat("x\n", configBytesMax/2))
	if err == nil || strings.Count(err.Error(), "\n") != notesMax || !strings.HasPrefix(err.Error(), "test.ini: [SVRNODE] is missing") ||
		!strings.HasSuffix(err.Error(), "test.ini:98: and here and below 524191 more of the like, which are not shown") {
		t.Errorf("%.300v", err)
	}
	_, warnings, err := loadText("test.ini", minimal(strings.Repeat("NOSUCHKEY = 1\n", 1000)))
	if err != nil || len(warnings) != notesMax+1 || !strings.Contains(warnings[notesMax].Text, "900 more") {
		t.Errorf("%d warnings, %v", len(warnings), err)
	}
}

// minimal is a file that loads; key lines for [GLOBAL] can be added.
func minimal(global string) string {
	return "[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=hash\nPORT=8020\nCTLPORT=8021\n" + global +
		"\n[SVRNODE]\nNAME=localhost\n[SLVNODE]\nNAME=localhost\nCTLPORT=8022\n"
}

func mustLoad(t *testing.T, text string) *Config {
	t.Helper()
	c, _, err := loadText("test.ini", text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The edges of every range of our own keys are where the documentation has them.
func TestEdges(t *testing.T) {
	for line, ok := range map[string]bool{
		"PORT=1": true, "PORT=65535": true, "PORT=0": false, "PORT=65536": false, "PORT=+5": true, "PORT=0x10": false, "PORT=1_0": false,
		"RINGBYTES=65536": true, "RINGBYTES=64KiB": true, "RINGBYTES=32KiB": false, "RINGBYTES=96KiB": false, "RINGBYTES=1MB": false,
		"RINGBYTES=128MiB": true, "RINGBYTES=512MiB": false, "RINGBYTES=MiB": false, "RINGBYTES=-1MiB": false,
		"SHMBYTESMAX=9223372036854775807GiB": false, "SHMBYTESMAX=1024GiB": true, "OWNERLEASE=0s": true, "OWNERLEASE=999ms": false, "OWNERLEASE=2s": true, "OWNERLEASE=2001ms": false,
		"STANDINAFTER=never": true, "STANDINAFTER=Never": true, "STANDINAFTER=0": true, "STANDINAFTER=1h": true, "STANDINAFTER=61m": false, "STANDINAFTER=-1s": false,
		"STANDINAFTER=10": false, "STANDINAFTER=": false, "STANDINAFTER=10s\nOWNERLEASE=2s": false, "STANDINAFTER=never\nOWNERLEASE=2s": true,
		"OWNERLEASE=3s\nDOWNAFTER=4s": true, "SHMBYTESMAX=4MiB": false, "SHMBYTESMAX=5MiB": true,
		"RAFTMAXVOTERS=1": true, "RAFTMAXVOTERS=63": true, "RAFTMAXVOTERS=2": false, "RAFTMAXVOTERS=65": false,
		"DOWNAFTER=100ms": true, "DOWNAFTER=99ms": false, "DOWNAFTER=1h": true, "DOWNAFTER=61m": false, "DOWNAFTER=": false,
		"SUSPENDGRACE=0": true, "SUSPENDGRACE=-1s": false,
		"CTLALLOW=10.0.0.0/8, 192.0.2.1 ,::1/128": true, "CTLALLOW=": true, "CTLALLOW=10.0.0.0/33": false, "CTLALLOW=10.0.0.1/8": false,
		"CTLALLOW=::ffff:10.0.0.1": false, "CTLALLOW=fe80::1%eth0": false, "CTLALLOW=a.example.com": false, "CTLALLOW=10.0.0.1,": false,
		"CTLALLOW=" + strings.Repeat("10.0.0.1,", networksMax-1) + "::1": true, "CTLALLOW=" + strings.Repeat("10.0.0.1,", networksMax) + "::1": false,
		"CTLSLAVES=full": true, "CTLSLAVES=ReadOnly": true, "CTLSLAVES=none": true, "CTLSLAVES=no": false, "CTLSLAVES=": false,
		"RUNDIR=/" + strings.Repeat("x", 84): true, "RUNDIR=/" + strings.Repeat("x", 85): false,
		"GROUP=" + strings.Repeat("x", 255): true, "GROUP=" + strings.Repeat("x", 256): false, "GROUP=": false, "GROUP=\"a\x01b\"": false,
		"REPLICA=0": true, "REPLICA=-1": false, "MERGETIMEOUT=-1": false, "MERGETIMEOUT=0": true, "SELFCUK=": true, "SERVER_CERT=": true,
	} {
		_, _, err := loadText("test.ini", minimal(line))
		if (err == nil) != ok {
			t.Errorf("%.60s: got error %v, want it allowed: %v", line, err, ok)
		}
	}
}

// Every key has one meaning per section, a default that is allowed, and a
// sentence; all of CHMPX's keys are known.
func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		at := k.Section + "." + k.Name
		if seen[at] || k.Type == "" || k.Effect == "" || !slices.Contains(sectionNames, k.Section) {
			t.Errorf("%+v is incomplete or listed twice", k)
		}
		seen[at] = true
		keys{section: k.Section}.get(k.Name) // panics at a wrong default
	}
	for section, names := range map[string]string{
		sectionGlobal: `FILEVERSION DATE GROUP MODE DELIVERMODE CHMPXIDTYPE MAXCHMPX REPLICA MAXMQSERVER MAXMQCLIENT MQPERATTACH
			MAXQPERSERVERMQ MAXQPERCLIENTMQ MAXMQPERCLIENT MAXHISTLOG PORT CTLPORT SELFCTLPORT SELFCUK RWTIMEOUT RETRYCNT CONTIMEOUT
			MQRWTIMEOUT MQRETRYCNT MQACK DOMERGE AUTOMERGE MERGETIMEOUT SOCKTHREADCNT MQTHREADCNT MAXSOCKPOOL SOCKPOOLTIMEOUT SSL
			SSL_VERIFY_PEER SSL_MIN_VER CAPATH SERVER_CERT SERVER_PRIKEY SLAVE_CERT SLAVE_PRIKEY NSSDB_DIR K2HFULLMAP K2HMASKBIT
			K2HCMASKBIT K2HMAXELE`,
		sectionServer: `NAME PORT CTLPORT CUK ENDPOINTS CTLENDPOINTS FORWARD_PEERS REVERSE_PEERS CUSTOM_ID_SEED SSL SSL_VERIFY_PEER
			CAPATH SERVER_CERT SERVER_PRIKEY SLAVE_CERT SLAVE_PRIKEY`,
		sectionSlave: `NAME CTLPORT CUK CTLENDPOINTS FORWARD_PEERS REVERSE_PEERS CUSTOM_ID_SEED CAPATH SLAVE_CERT SLAVE_PRIKEY`,
	} {
		for _, name := range strings.Fields(names) {
			if !seen[section+"."+name] {
				t.Errorf("[%s] %s is not known", section, name)
			}
		}
	}
}
