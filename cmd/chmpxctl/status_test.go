package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
)

// runArgs runs the command and returns what it printed.
func runArgs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	var out strings.Builder
	app := newApp()
	app.Writer, app.ErrWriter = &out, &out
	err := app.RunContext(t.Context(), append([]string{"chmpxctl"}, args...))
	return out.String(), err
}

// newNode serves a status on a control port of this host and returns the port.
func newNode(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(controlplane.Status{
			Name: "a", Role: "server",
			Quorum: controlplane.QuorumStatus{Voters: 3, Have: 1, Need: 2, Missing: []string{"b", "c"}},
		})
	}))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// status shows the ring for people, or the node's own JSON.
func TestStatus(t *testing.T) {
	port := newNode(t)
	out, err := runArgs(t, "status", "-host", "127.0.0.1", "-ctlport", port)
	if err != nil || !strings.Contains(out, "no quorum: 1 of 3 voters (missing b, c)") {
		t.Errorf("status: %v\n%s", err, out)
	}
	out, err = runArgs(t, "status", "--json", "--host", "127.0.0.1", "--ctlport", port)
	var st controlplane.Status
	if err != nil || json.Unmarshal([]byte(out), &st) != nil || st.Name != "a" {
		t.Errorf("status --json: %v\n%s", err, out)
	}
}

// A configuration file names the node's control port.
func TestTargetOfConf(t *testing.T) {
	port := newNode(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "test_server.ini"))
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "test_server.ini")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(string(text), "8021", port)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := runArgs(t, "status", "-host", "127.0.0.1", "-conf", conf); err != nil || !strings.Contains(out, "node       a (server)") {
		t.Errorf("status: %v\n%s", err, out)
	}
}

// An IPv6 address may have brackets.
func TestUnbracketed(t *testing.T) {
	for host, want := range map[string]string{"[::1]": "::1", "::1": "::1", "a": "a", "[a": "[a", "a]": "a]", "[": "[", "]": "]", "": "", "[]": ""} {
		if got := unbracketed(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

// What is missing or wrong is named.
func TestTargetErrors(t *testing.T) {
	for args, want := range map[string]string{
		"status":                            "which node?",
		"status -ctlport 70000":             `"70000" for flag -ctlport: use a port from 1 to 65535`,
		"status -ctlport 0":                 `"0" for flag -ctlport: use a port from 1 to 65535`,
		"conf check -nope":                  "-nope; chmpxctl conf check -h lists the options",
		"status -conf nofile.ini":           "nofile.ini",
		"status -host 127.0.0.1 -ctlport 1": "no status of 127.0.0.1:1",
		"status -ctlport abc":               `"abc" for flag -ctlport: use a port from 1 to 65535; chmpxctl status -h lists the options`,
		"status extra -ctlport 8021":        `"extra" is no option`,
		"stats":                             `unknown command "stats"`,
	} {
		if out, err := runArgs(t, strings.Fields(args)...); err == nil || out != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q and nothing else\n%s", args, err, want, out)
		}
	}
}
