package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/ring"
)

// Both hashes are CHMPX's, for all of its vectors.
func TestHashVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "ring", "testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Bytes []struct{ Hex, Hash1, Hash2 string }
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Bytes) < 40 {
		t.Fatalf("%d vectors, %v", len(vectors.Bytes), err)
	}
	for _, v := range vectors.Bytes {
		want := "hash1  " + v.Hash1 + "\nhash2  " + v.Hash2 + "\n"
		if out, err := runArgs(t, "hash", "-hex", v.Hex); err != nil || out != want {
			t.Errorf("%s: %q, %v, want %q", v.Hex, out, err, want)
		}
	}
	out, err := runArgs(t, "hash", "key")
	if err != nil || out != "hash1  0x3dc94a19365b10ec\nhash2  0x08be4307b5627d1d\n" {
		t.Errorf("key: %q, %v", out, err)
	}
}

// Without a node that answers the owners follow from the configuration, and
// the output says so.
func TestHashOfConf(t *testing.T) {
	dir := t.TempDir()
	for placement, want := range map[string]string{
		// 0x3dc94a19365b10ec mod 16384 = 4332, which is even; 4332 mod 2 = 0
		"SLOTS": "slot 4332 of 16384\n",
		"CHMPX": "slot 0 of 2\n",
	} {
		conf := filepath.Join(dir, placement+".ini")
		text := "[GLOBAL]\nFILEVERSION = 1\nGROUP = FH\nDELIVERMODE = HASH\nSELFCTLPORT = 5\nREPLICA = 1\nPLACEMENT = " + placement + "\n" +
			"[SVRNODE]\nNAME = 127.0.0.1\nPORT = 2\nCTLPORT = 3\n[SVRNODE]\nNAME = 127.0.0.1\nPORT = 4\nCTLPORT = 1\n[SLVNODE]\nNAME = .*\nCTLPORT = 5\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := runArgs(t, "hash", "-conf", conf, "key")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			ring.NodeID("FH", ring.IDByName, ring.Identity{Name: "127.0.0.1", CtlPort: 1}).String() + "  127.0.0.1:1\n",
			":5 (slave)\n", "by the configuration: no node of it answers", want,
			"127.0.0.1:1  0     [SERVICE IN][UP][n/a][Nothing][NoSuspend]  in sync  yes\n127.0.0.1:3  1     ",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: the output lacks %q:\n%s", placement, want, out)
			}
		}
	}
}

// A node that runs is asked for its table.
func TestHashOfNode(t *testing.T) {
	answer := ctlport.Owners{Group: "G", Slot: 3, Slots: 4, Owners: []ctlport.Owner{{Name: "a", CtlPort: 1, BaseHash: -1}}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/v1/owners?hash=0x3dc94a19365b10ec" {
			t.Errorf("asked for %s", r.URL)
		}
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	out, err := runArgs(t, "hash", "-host", "127.0.0.1", "-ctlport", u.Port(), "key")
	if err != nil || !strings.Contains(out, "slot 3 of 4\n") || !strings.Contains(out, "a:1    -     [SLAVE][DOWN][n/a][Nothing][NoSuspend]  not in sync  no\n") {
		t.Errorf("%v\n%s", err, out)
	}
	answer.Slot = -1
	if out, err = runArgs(t, "hash", "-host", "127.0.0.1", "-ctlport", u.Port(), "key"); err != nil || !strings.Contains(out, "nobody owns the key") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is wrong is named.
func TestHashErrors(t *testing.T) {
	for args, want := range map[string]string{
		"hash":                              "which key?",
		"hash a b":                          "not 2 words",
		"hash -hex abc":                     "even number",
		"hash -hex zz":                      "even number",
		"hash -conf nofile.ini a":           "nofile.ini",
		"hash -host 127.0.0.1 -ctlport 1 a": "no status of 127.0.0.1:1",
	} {
		if _, err := runArgs(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", args, err, want)
		}
	}
}
