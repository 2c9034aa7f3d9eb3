package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ring"
)

// dumpText is a DUMP with everything that is read out of one.
func dumpText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "dump_a.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the verbs print, for people and in JSON, whose fields are promised.
func TestViewGolden(t *testing.T) {
	s := newScripted(t, map[string]string{"DUMP": dumpText(t), "VERSION": "Version 1 (commit: 0123456) with crypto/tls\n"}, exampleRing())
	alone := exampleRing()
	alone.Servers, alone.Slaves = alone.Servers[:1], nil
	one := newScripted(t, s.texts, alone)
	for _, verb := range []string{"status", "nodes", "dump", "status -wait -live up"} {
		name := strings.ReplaceAll(strings.ReplaceAll(verb, " -", "_"), " ", "_")
		for _, form := range []string{"text", "json"} {
			words := strings.Fields(verb)
			out, err := s.run(t, words[0], append(words[1:], map[string][]string{"json": {"-json"}}[form]...)...)
			if err != nil {
				t.Errorf("%s, %s: %v", verb, form, err)
			}
			golden(t, name+"_"+form, out)
		}
	}
	for _, verb := range []string{"version", "check"} { // which ask every node
		for _, form := range []string{"text", "json"} {
			out, err := one.run(t, verb, map[string][]string{"json": {"-json"}}[form]...)
			if err != nil {
				t.Errorf("%s, %s: %v", verb, form, err)
			}
			golden(t, verb+"_"+form, out)
		}
	}
}

// version needs no node.
func TestVersionAlone(t *testing.T) {
	if out, err := runArgs(t, "version"); err != nil || out != "chmpxctl  "+version+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := runArgs(t, "version", "-json"); err != nil || out != `{"chmpxctl":"`+version+`","nodes":[]}`+"\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// Each way to fail has its exit code, and -json says why in the answer.
func TestExitCodes(t *testing.T) {
	ring := exampleRing()
	good := newScripted(t, map[string]string{"MERGE": "ERROR: Failed to start merging.\n", "DUMP": "ERROR: DUMP is not available.\n",
		"SUSPENDMERGE": "ERROR: no\nREASON: the change may have happened: no quorum\n"}, ring)
	silent := newScripted(t, nil, ring)
	for _, c := range []struct {
		name string
		at   []string
		args []string
		want int
	}{
		{"done", good.at(), []string{"status"}, exitDone},
		{"help", nil, []string{"status", "-h"}, exitDone},
		{"refused", good.at(), []string{"merge", "start"}, exitFailed},
		{"no DUMP", good.at(), []string{"dump"}, exitFailed},
		{"bad configuration", nil, []string{"conf", "check", "-json", "{}"}, exitFailed},
		{"unknown verb", nil, []string{"stats"}, exitUsage},
		{"unknown option", good.at(), []string{"status", "-nope"}, exitUsage},
		{"no node", nil, []string{"status"}, exitUsage},
		{"no file", nil, []string{"status", "-conf", "nofile.ini"}, exitUsage},
		{"not reached", []string{"-host", "127.0.0.1", "-ctlport", "1"}, []string{"status"}, exitNotReached},
		{"command not sent", []string{"-host", "127.0.0.1", "-ctlport", "1"}, []string{"merge", "start"}, exitNotReached},
		{"no answer", silent.at(), []string{"merge", "start"}, exitNoAnswer},
		{"uncertain", good.at(), []string{"suspend"}, exitNoAnswer},
		{"not in time", good.at(), []string{"status", "-wait", "-live", "down", "-timeout", "1ms"}, exitTimeout},
	} {
		out, err := runArgs(t, append(c.args, c.at...)...)
		if got := exitCode(err); got != c.want {
			t.Errorf("%s: code %d, want %d: %v\n%s", c.name, got, c.want, err, out)
		}
		if c.want == exitDone || c.want == exitUsage || c.args[0] == "conf" {
			continue
		}
		out, err = runArgs(t, append(append(c.args, c.at...), "-json")...)
		var fields struct{ Error, Reply string }
		if json.Unmarshal([]byte(out), &fields) != nil || fields.Error+fields.Reply == "" || !errors.Is(err, errPrinted) || exitCode(err) != c.want {
			t.Errorf("%s in JSON: code %d, want %d: %v\n%s", c.name, exitCode(err), c.want, err, out)
		}
	}
}

// A wait ends when all that was asked for is so, of the node or of another one.
func TestWait(t *testing.T) {
	before, after := exampleRing(), exampleRing()
	before.Servers[0].Suspended, before.Servers[0].Operate = true, "pending"
	before.Servers[1].Up = false
	s := newScripted(t, nil, before, before, after)
	if out, err := s.run(t, "status", "-wait", "-live", "up", "-ring", "servicein", "-nosuspend", "-settled"); err != nil || out != "127.0.0.1:PORT is up, servicein, nosuspend, merge nothing\n" {
		t.Errorf("%q, %v", out, err)
	}
	s = newScripted(t, nil, before, after)
	if out, err := s.run(t, "status", "-wait", "-of", "b:8021", "-live", "up"); err != nil || out != "b:8021 is up, servicein, nosuspend, merge nothing\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := s.run(t, "status", "-wait", "-of", "c:8021", "-live", "up", "-timeout", "3s"); err == nil || !strings.Contains(err.Error(), "c:8021 is not up but unknown (the ring has no server c:8021)") {
		t.Errorf("no such server: %v", err)
	}
	if out, err := runArgs(t, "status", "-host", "no.such.host.invalid", "-ctlport", "1", "-wait", "-live", "down", "-timeout", "300ms"); exitCode(err) != exitTimeout {
		t.Errorf("a host that there is not: %q, %v", out, err)
	}
	out, err := runArgs(t, "status", "-host", "127.0.0.1", "-ctlport", "1", "-wait", "-live", "down")
	if err != nil || out != "127.0.0.1:1 is down\n" {
		t.Errorf("not reached: %q, %v", out, err)
	}
}

// What cannot be waited for is said at once.
func TestWaitErrors(t *testing.T) {
	for args, want := range map[string]string{
		"-wait":                           "-wait for what?",
		"-live up":                        "-live goes with -wait",
		"-timeout 1s":                     "-timeout goes with -wait",
		"-wait -live alive":               `-live "alive": use up or down`,
		"-wait -ring in":                  `-ring "in": use servicein`,
		"-wait -suspend -nosuspend":       "not both",
		"-wait -live up -timeout 0s":      "a time above 0",
		"-wait -live up -timeout minutes": `"minutes" for flag -timeout: use a time with its unit, for example 500ms`,
		"-wait -live up -of b":            `-of "b": HOST:CTLPORT is needed, with a port from 1 to 65535`,
		"-wait -live up -of 8021":         `-of "8021": HOST:CTLPORT is needed`,
		"-wait -live up -of b:none":       `-of "b:none": HOST:CTLPORT is needed`,
	} {
		_, err := runArgs(t, append([]string{"status", "-ctlport", "1"}, strings.Fields(args)...)...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a usage error with %q", args, err, want)
		}
	}
}

// States that are in no table of servers.
func TestStateOf(t *testing.T) {
	for name, c := range map[string]struct {
		st   controlplane.Status
		want state
	}{
		"slave":         {controlplane.Status{Role: "slave"}, state{"up", "slave", "nosuspend", "nothing"}},
		"no member":     {controlplane.Status{Role: "server"}, state{"up", "serviceout", "suspend", ""}},
		"with programs": {controlplane.Status{Role: "server", Programs: 1}, state{"up", "serviceout", "nosuspend", ""}},
	} {
		if got, err := stateOf(c.st, ""); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// check finds what is wrong, with the node and the level.
func TestCheckFindings(t *testing.T) {
	node := func(id int, change func(*controlplane.Status)) checkedNode {
		st := exampleRing()
		s := st.Servers[id]
		change(&st)
		return checkedNode{
			knownNode: knownNode{Role: "server", Name: s.Name, CtlPort: s.CtlPort, ID: ring.ID(s.ID), Up: true},
			Epoch:     st.Epoch, Index: st.Index, view: st,
		}
	}
	same := func(*controlplane.Status) {}
	for name, c := range map[string]struct {
		a, b func(*controlplane.Status) // what a and b show; a is newer
		want string                     // the problems
	}{
		"in order":    {same, same, ""},
		"older epoch": {same, func(st *controlplane.Status) { st.Epoch.Index = 30 }, "error b:8021 shows another ring: its epoch is 0.30, that of the newest node 0.38"},
		"other status": {same, func(st *controlplane.Status) { st.Servers[0].Status = "SAFE -> [SLAVE]" },
			"error b:8021 shows another ring: its status of a:8021 is SAFE -> [SLAVE]"},
		"missing server": {same, func(st *controlplane.Status) { st.Servers = st.Servers[1:] }, "it does not know a:8021"},
		"another ring":   {same, func(st *controlplane.Status) { st.RingID = 1 }, "error b:8021 shows another ring: its ring is 0000000000000001"},
		"merge": {same, func(st *controlplane.Status) { st.Merge = &controlplane.MergeStatus{ID: 4, Phase: "copying"} },
			"its merge is 4, copying, that of the newest node none"},
		"no quorum": {func(st *controlplane.Status) {
			st.Quorum = controlplane.QuorumStatus{Voters: 3, Have: 1, Need: 2, Missing: []string{"b", "c"}}
		}, same, "error a:8021 no change can be committed: no quorum: 1 of 3 voters (missing b, c)"},
		"link": {func(st *controlplane.Status) { st.Servers[1].Link = "refused" }, same, "error a:8021 does not reach b:8021 (refused)"},
		"waits": {func(st *controlplane.Status) { st.WaitsFor, st.Warnings = "2 of 3", []string{"full"} }, same,
			"warning a:8021 takes no part yet: 2 of 3\nwarning a:8021 full"},
		"suspended": {func(st *controlplane.Status) { st.Servers[0].Suspended, st.Servers[0].Operate = true, "pending" }, same,
			"warning a:8021 has no server program\nwarning a:8021 takes part in a merge: none pending"},
	} {
		a, b := node(0, c.a), node(1, c.b)
		a.Index++
		all := []checkedNode{a, b}
		ans := checkAnswer{}
		var got []string
		for i := range all {
			ans.judge(&all[i], reference(all))
		}
		for _, p := range ans.Problems {
			got = append(got, p.Level+" "+p.Node+" "+p.Text)
		}
		if text := strings.Join(got, "\n"); !strings.Contains(text, c.want) || (c.want == "") != (text == "") {
			t.Errorf("%s: got\n%s\nwant\n%s", name, text, c.want)
		}
	}
}

// A node that is up and does not answer is an error, a slave's a warning; one
// that is down is not asked.
func TestCheckUnreachable(t *testing.T) {
	st := exampleRing()
	st.Servers[1].Name, st.Servers[1].CtlPort = "127.0.0.1", 1
	st.Slaves[0].Name, st.Slaves[0].CtlPort, st.Slaves[0].Up = "127.0.0.1", 2, true
	s := newScripted(t, nil, st)
	out, err := s.run(t, "check")
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "check: 1 error") ||
		!strings.Contains(out, "error 127.0.0.1:1: is up and does not answer") || !strings.Contains(out, "warning 127.0.0.1:2: does not answer") {
		t.Errorf("%v\n%s", err, out)
	}
	st.Servers[1].Up = false
	s = newScripted(t, nil, st)
	if out, err := s.run(t, "check"); exitCode(err) != exitFailed || !strings.Contains(out, "error 127.0.0.1:1: is in service and down") {
		t.Errorf("%v\n%s", err, out)
	}
}

// With a configuration check also names the servers that are not in the ring.
func TestCheckMissing(t *testing.T) {
	st := exampleRing()
	st.Servers, st.Slaves = st.Servers[:1], nil
	s := newScripted(t, nil, st)
	out, err := runArgs(t, "check", "-conf", statusConf(t, s.port))
	if want := "warning localhost:" + s.port + ": is in the configuration and not in the ring\nthe ring is in order; 1 warning\n"; err != nil || !strings.Contains(out, want) {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
}

// A DUMP is taken apart whatever surrounds it; what is none is an error.
func TestDumpErrors(t *testing.T) {
	for _, text := range []string{"Unknown command(DUMP)\n", "}\n", "chmpx_man{\n", strings.Repeat("{\n", 1000)} {
		s := newScripted(t, map[string]string{"DUMP": text}, exampleRing())
		if _, err := s.run(t, "dump"); !errors.Is(err, ringview.ErrDump) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// The JSON of the verbs that need no node.
func TestOfflineGolden(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "base.ini"))
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "base.ini")
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"hash_json":      {"hash", "-json", "key"},
		"hash_conf_json": {"hash", "-json", "-conf", conf, "key"},
		"conf_json":      {"conf", "check", "-any-host", "-as-json", "-conf", conf},
		"conf_bad_json":  {"conf", "check", "-as-json", "-json", `{"GLOBAL": {"REPLICA": -1}}`},
	} {
		out, err := runArgs(t, args...)
		if want := map[bool]int{true: exitFailed, false: exitDone}[name == "conf_bad_json"]; exitCode(err) != want {
			t.Errorf("%s: code %d, want %d: %v\n%s", name, exitCode(err), want, err, out)
		}
		golden(t, name, strings.ReplaceAll(out, conf, "base.ini"))
	}
}
