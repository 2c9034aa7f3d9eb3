package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chmpx/chmpx/controlplane"
)

// lineRing is two servers and a slave, each with its own DUMP, as CHMPX's nodes
// would have them, on addresses of the loopback interface.
type lineRing struct {
	t       *testing.T
	nodes   map[string]*scripted
	hide    *strings.Replacer // puts the addresses of the documentation in place of these
	standby *strings.Replacer
}

// lineHosts are the nodes: their places in the files of testdata and here.
var lineHosts = []struct{ name, doc, ctlPort, here string }{
	{"a", "192.0.2.2", "26100", "127.0.0.1"}, {"b", "192.0.2.3", "26101", "127.0.0.2"}, {"s", "192.0.2.9", "26190", "127.0.0.3"},
}

func newLineRing(t *testing.T) *lineRing {
	t.Helper()
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	r := &lineRing{t: t, nodes: map[string]*scripted{}}
	files := map[string]string{}
	for _, name := range []string{"dump_a.txt", "dump_b.txt", "dump_s.txt", "allstatus.txt", "selfstatus.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	var hide, here []string
	for _, h := range lineHosts {
		s := newScriptedAt(t, h.here, maps.Clone(files), controlplane.Status{}) // with them, so that they do not contain the port
		r.nodes[h.name] = s
		hide = append(hide, h.here+":"+s.port, h.doc+":"+h.ctlPort, h.here, h.doc, s.port, h.ctlPort)
		here = append(here, h.doc, h.here, h.ctlPort, s.port)
	}
	r.hide, r.standby = strings.NewReplacer(hide...), strings.NewReplacer(here...)
	for name, s := range r.nodes {
		for command, file := range map[string]string{"DUMP": "dump_" + name + ".txt", "ALLSTATUS": "allstatus.txt", "SELFSTATUS": "selfstatus.txt"} {
			s.answer(command, r.standby.Replace(files[file]))
		}
		s.answer("VERSION", "Version 1.0.113 (commit: c569e0e) with OpenSSL\n")
	}
	return r
}

// run runs the line tool with -host of node a, and lines that are typed.
func (r *lineRing) run(input string, args ...string) (code int, stdout, stderr string) {
	r.t.Helper()
	r.t.Setenv("CHMCONFFILE", "")
	r.t.Setenv("CHMJSONCONF", "")
	var out, errs strings.Builder
	tool := &lineTool{in: strings.NewReader(r.standby.Replace(input)), out: &out, errs: &errs}
	if len(args) == 0 {
		args = []string{"-host", "127.0.0.1", "-ctrlport", r.nodes["a"].port, "-server"}
	}
	code = runLineTool(r.t.Context(), args, tool)
	return code, r.hide.Replace(out.String()), r.hide.Replace(errs.String())
}

// What the commands print is what CHMPX's tool prints of such nodes.
func TestLineToolGolden(t *testing.T) {
	r := newLineRing(t)
	for name, input := range map[string]string{
		"line_nodes":   "nodes\nnodes nodyna\nnodes noupdate server\nnodes slave\nupdate\n",
		"line_status":  "status\nstatus all 192.0.2.3:26101\nstatus self\n",
		"line_check":   "check\ncheck 192.0.2.2:26100\n",
		"line_version": "version\nver nodyna\n",
		"line_dump":    "dump 192.0.2.9:26190\n",
		"line_help":    "help\n",
	} {
		code, out, errs := r.run(input)
		if code != 0 || errs != "" {
			t.Errorf("%s: code %d\n%s", name, code, errs)
		}
		_, out, _ = strings.Cut(out, "-------\nCLT> ") // the welcome
		golden(t, name, "CLT> "+out)
	}
	_, out, _ := r.run("")
	golden(t, "line_welcome", out)
	_, out, _ = r.run("", "-help")
	golden(t, "line_usage", out)
}

// check finds what the nodes see differently.
func TestLineToolCheckDiffers(t *testing.T) {
	r := newLineRing(t)
	b := r.nodes["b"]
	before := b.texts["DUMP"] // nothing was asked yet
	for name, change := range map[string]struct {
		old, new string
		want     []string
	}{
		"status": {"[SERVICE IN][UP][n/a][Nothing][NoSuspend]", "[SERVICE IN][DOWN][n/a][Nothing][NoSuspend]",
			[]string{"ERR  192.0.2.2:26100::: = {", "ERR  192.0.2.3:26101::: = {"}},
		"base":    {"base_hash        = 0x1", "base_hash        = 0x2", []string{"OK   192.0.2.2", "ERR  192.0.2.3", "hash(pending)     = 0x2(0x1)"}},
		"pending": {"pending_hash     = 0x1", "pending_hash     = 0x2", []string{"WARN 192.0.2.3", "hash(pending)     = 0x1(0x2)"}},
		"sockets": {"sock             = 12", "sock             = 12,13", []string{"ERR  192.0.2.3", "sockcount(in/out) = 3/0"}},
		"slave":   {"0xd46c0da68b602ca7", "0xd46c0da68b602ca8", nil},
	} {
		after := strings.ReplaceAll(before, change.old, change.new)
		if after == before {
			t.Fatalf("%s changes nothing", name)
		}
		b.answer("DUMP", after)
		_, out, _ := r.run("check\n")
		for _, want := range change.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, out)
			}
		}
	}
	b.answer("DUMP", "") // it does not answer
	if _, out, _ := r.run("check\n"); !strings.Contains(out, "ERR  192.0.2.3:26101::: = {\n    status            = [SERVICE IN] [UP]    [n/a]    [Nothing][NoSuspend]\n    hash(pending)     = 0x1(0x1)\n    sockcount(in/out) = 0/0\n    lastupdatetime    = 1970-01-01 00h 00m 00s 0ms 0us(0)\n}") {
		t.Errorf("no answer:\n%s", out)
	}
}

// Commands go to whom CHMPX's tool sends them, and the next one is asked when
// one refuses.
func TestLineToolCommands(t *testing.T) {
	const slave = "ERROR: The command can not be executed on the slave node.\n"
	for _, c := range []struct {
		input, a, b string // what a and b answer
		out, errs   string
		toA, toB    string // what they are sent beside DUMP
	}{
		{"merge start", "SUCCEED\n", "", "Succeed to send MERGE to 192.0.2.2:26100\n", "", "MERGE", ""},
		{"merge noupdate complete", "SUCCEED\n", "", "Failed to send COMPMERGE to all node, but no node is succeed.\n", "[CCT-ERR] No server is known\n", "", ""},
		{"update\nmerge noupdate comp", "SUCCEED\n", "", "Succeed to send COMPMERGE to 192.0.2.2:26100\n", "", "COMPMERGE", ""},
		{"merge stop", "ERROR: no\n", "SUCCEED\n", "Succeed to send ABORTMERGE to 192.0.2.3:26101\n", "", "ABORTMERGE", "ABORTMERGE"},
		{"merge fin", "ERROR: no\nREASON: because\n", "ERROR: b\n", "Failed to send COMPMERGE to all node, but no node is succeed.\n", "[CCT-ERR] 192.0.2.3:26101: ERROR: b\n", "COMPMERGE", "COMPMERGE"},
		{"merge up", "", "", "", "[CCT-ERR] Unknown parameter(up) for MERGE command\n", "", ""},
		{"merge noupdate", "", "", "", "[CCT-ERR] Merge: start, abort or complete is needed\n", "", ""},
		{"suspend", slave, "SUCCEED\n", "Succeed to send SUSPENDMERGE to 192.0.2.3:26101\n", "", "SUSPENDMERGE", "SUSPENDMERGE"},
		{"nosus", "SUCCEED\n", "", "Succeed to send NOSUSPENDMERGE to 192.0.2.2:26100\n", "", "NOSUSPENDMERGE", ""},
		{"suspend now", "", "", "", "[CCT-ERR] Unknown parameter(now) for suspend command\n", "", ""},
		{"servicein", "SUCCEED\n", "", "Succeed to send SERVICEIN to 192.0.2.2:26100\n", "", "SERVICEIN", ""},
		{"sin 192.0.2.3:26101", "", "ERROR: no\n", "Failed to send SERVICEIN to 192.0.2.3:26101, error is ERROR: no\n.\n", "", "", "SERVICEIN"},
		{"servicein 192.0.2.7:1", "", "", "Not found 192.0.2.7(:1) in dynamic host list which is included from configuration file.\n", "", "", ""},
		{"serviceout 192.0.2.2:26100 192.0.2.3:26101", "SUCCEED\n", "", "Succeed to send SERVICEOUT to 192.0.2.2:26100\n", "", "SERVICEOUT 192.0.2.3:26101", ""},
		{"sout 192.0.2.3:26101", "SUCCEED\n", "ERROR: no\n", "Succeed to send SERVICEOUT to 192.0.2.2:26100\n", "", "SERVICEOUT 192.0.2.3:26101", "SERVICEOUT 192.0.2.3:26101"},
		{"serviceout 192.0.2.2:26100 host:9:cuk", "SUCCEED\n", "", "Succeed to send SERVICEOUT to 192.0.2.2:26100\n", "", "SERVICEOUT host:9:cuk", ""},
		{"serviceout 192.0.2.2:26100 host:9:cuk:seed", "SUCCEED\n", "", "Succeed to send SERVICEOUT to 192.0.2.2:26100\n", "", "SERVICEOUT host:9:seed", ""},
		{"statusupdate", "SUCCEED\n", "ERROR: no\n", "Succeed to send UPDATESTATUS to 192.0.2.2:26100\nFailed to send UPDATESTATUS to 192.0.2.3:26101 by \"ERROR: no\".\n", "", "UPDATESTATUS", "UPDATESTATUS"},
		{"upsts 192.0.2.3:26101", "", "SUCCEED\n", "Succeed to send UPDATESTATUS to 192.0.2.3:26101\n", "", "", "UPDATESTATUS"},
		{"upsts 192.0.2.9:26190", "", "", "192.0.2.9:26190 host is slave node, thus could not send UPDATESTATUS.\n", "", "", ""},
		{"dchmpx on\ndchmpx on\ndchmpx\ndbglevel slt\ndbglevel x", "", "", "Enable chmpx debugging message.\n", "[CCT-ERR] Already dchmpx is enabled\n", "", ""},
		{"dbglevel loud", "", "", "", "[CCT-ERR] Unknown parameter(loud) for dbglevel command\n", "", ""},
		{"nodes nodyna noupdate", "", "", "", "[CCT-ERR] Could not specify both", "", ""},
		{"status self all", "", "", "", "[CCT-ERR] Both \"all\" and \"self\"", "", ""},
		{"status 192.0.2.7:1", "", "", "", "[CCT-ERR] Not found 192.0.2.7:1 in initial host list", "", ""},
	} {
		r := newLineRing(t)
		for name, answer := range map[string]string{"a": c.a, "b": c.b} {
			for _, command := range []string{"MERGE", "COMPMERGE", "ABORTMERGE", "SUSPENDMERGE", "NOSUSPENDMERGE", "SERVICEIN", "SERVICEOUT", "UPDATESTATUS"} {
				r.nodes[name].answer(command, answer)
			}
		}
		_, out, errs := r.run(c.input + "\n")
		if !strings.Contains(out, c.out) || !strings.HasPrefix(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("%q printed\n%s%s\nwant\n%s%s", c.input, out, errs, c.out, c.errs)
		}
		for name, want := range map[string]string{"a": c.toA, "b": c.toB} {
			sent := slices.DeleteFunc(r.nodes[name].sent(), func(s string) bool { return s == "DUMP" })
			if got := r.hide.Replace(strings.Join(sent, " + ")); got != want {
				t.Errorf("%q sent %q to %s, want %q", c.input, got, name, want)
			}
		}
	}
}

// A file of commands and its loops, as CHMPX's tool runs them; what is typed
// comes after it.
func TestLineToolRun(t *testing.T) {
	r := newLineRing(t)
	file := filepath.Join(t.TempDir(), "run.txt")
	if err := os.WriteFile(file, []byte("loop 0 2\nloopcmd echo round\nquit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"-host", "127.0.0.1", "-ctrlport", r.nodes["a"].port}
	code, out, errs := r.run("", append(at, "-run", file, "-nocolor")...)
	if want := "CLT> loop 0 2\nCLT> echo round\nround\nCLT> echo round\nround\nCLT> quit\nQuit.\n"; code != 0 || out != want || errs != "" {
		t.Errorf("code %d\n%s%s\nwant\n%s", code, out, errs, want)
	}
	if err := os.WriteFile(file, []byte("echo from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ = r.run("echo typed\nquit\n", append(at, "-run", file)...)
	if want := "CLT> echo from the file\nfrom the file\nCLT> echo typed\ntyped\nCLT> quit\nQuit.\n"; code != 0 || out != want {
		t.Errorf("code %d\n%s\nwant\n%s", code, out, want)
	}
}

// In -conf mode the nodes come from this host's node, or from the configuration
// when that does not run.
func TestLineToolConf(t *testing.T) {
	r := newLineRing(t)
	port := r.nodes["a"].port
	conf := filepath.Join(t.TempDir(), "a.ini")
	text := "[GLOBAL]\nFILEVERSION = 1\nGROUP = TEST\nMODE = SERVER\nDELIVERMODE = hash\nSELFCTLPORT = " + port + "\n" +
		"[SVRNODE]\nNAME = 127.0.0.1\nPORT = 9\nCTLPORT = " + port + "\n[SVRNODE]\nNAME = 127.0.0.2\nPORT = 9\nCTLPORT = " + r.nodes["b"].port + "\n[SLVNODE]\nNAME = 127.0.0.3\nCTLPORT = 9\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := r.run("nodes nodyna\ncheck\nstatus\ndump\n", "-conf", conf, "-nocolor")
	for _, want := range []string{
		" Chmpx server nodes             : 2\n {\n    [0] = {\n        Chmpxid                 : 0xc419cea28b5691e2\n", " Chmpx slave nodes              : 1\n",
		"OK   192.0.2.2:26100::: = {", "OK   192.0.2.9:26190::: = {", "Not found (:-1) in dynamic host list which is included from configuration file.\n",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("code %d, %q is missing in\n%s", code, want, out)
		}
	}
	if !strings.HasPrefix(errs, "[CCT-ERR] In order to use the \"all\" parameter") {
		t.Errorf("errors\n%s", errs)
	}
	r.nodes["a"].answer("DUMP", "")
	r.nodes["b"].answer("DUMP", "")
	if _, out, _ := r.run("nodes nodyna\nnodes\n", "-conf", conf); !strings.Contains(out, "        Hostname                : 192.0.2.3\n") || !strings.Contains(out, "CLT> nodes\n Chmpx server nodes             : 0\n") {
		t.Errorf("no node answers:\n%s", out)
	}
}

// Wrong options end it with 1, and say what is wrong.
func TestLineToolOptions(t *testing.T) {
	r := newLineRing(t)
	for args, want := range map[string]string{
		"-nope":                               "Unknown option(-nope)",
		"-host h":                             "No control port",
		"-host h -ctrlport 0":                 "use a port from 1 to 65535",
		"-host h -ctrlport 1 -type x":         "Unknown parameter(x) value for \"-type\"",
		"-host h -ctrlport 1 -conf x":         "cannot be specified at the same time",
		"-host h -ctrlport 1 -server -slave":  "\"-server\" and \"-slave\"",
		"-host h -ctrlport 1 -run a -check 1": "exclusive",
		"-host h -ctrlport 1 -d loud":         "Unknown parameter(loud)",
		"-host h -ctrlport 1 -run nofile":     "nofile",
		"-conf nofile.ini":                    "nofile.ini",
		"-conf x -json y":                     "both option",
		"-conf x -server":                     "must be specified with",
		"":                                    "no configuration is named",
		"-host":                               "a value is missing",
	} {
		code, out, errs := r.run("", append(strings.Fields(args), []string{}...)...)
		if args == "" {
			code, out, errs = r.run("", "-nocolor")
		}
		if code != exitFailed || out != "" || !strings.HasPrefix(errs, "[CCT-ERR] ") || !strings.Contains(strings.ToLower(errs), strings.ToLower(want)) {
			t.Errorf("%s: code %d, %s%s, want %q", args, code, out, errs, want)
		}
	}
}

// Colours are CHMPX's.
func TestLineToolColours(t *testing.T) {
	tool := &lineTool{colour: true}
	got := tool.statusWords("[SERVICE IN][DOWN][ADD][Doing]", []bool{false, true}, "[DELETE] ")
	want := "[\x1b[38;5;2mSERVICE IN\x1b[0m] [\x1b[1m\x1b[5m\x1b[38;5;7m\x1b[48;5;1mDOWN\x1b[0m]  [\x1b[38;5;3mADD\x1b[0m]    [\x1b[38;5;3mDoing\x1b[0m]  [\x1b[38;5;7m\x1b[48;5;1mUNKNOWN\x1b[0m]"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if colours(&strings.Builder{}) {
		t.Error("colours outside a terminal")
	}
}

// Whatever a node answers to ALLSTATUS, and whatever is typed as a host, it is
// taken apart or refused.
func FuzzLineToolInput(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "allstatus.txt"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("[::1]:8021:cuk:seed:a:1,b:2")
	f.Add("RING Name=x\nNo.1\nServer Status=0x(")
	f.Fuzz(func(t *testing.T, text string) {
		if out, err := (&lineTool{}).allStatus(text); err == nil && !strings.HasSuffix(out, " }\n") {
			t.Errorf("%q", out)
		}
		parseHost(text)
	})
}

// A signal ends the tool at once while it looks for its nodes, as it ends any
// process, even though none of them answers.
func TestLineToolSignalledAtStart(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, lineToolName)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conf := filepath.Join(dir, "node.ini")
	text := fmt.Sprintf("[GLOBAL]\nFILEVERSION = 1\nGROUP = G\nDELIVERMODE = hash\nMODE = SERVER\nPORT = 8020\nCTLPORT = %[1]d\nSELFCTLPORT = %[1]d\n[SVRNODE]\nNAME = localhost\n[SLVNODE]\nNAME = [.]*\n", ln.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT) // one that is ignored, as in the background of a script, would stay so in a child
	defer signal.Stop(caught)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.Command(link, "-conf", conf)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience / 2))
		conn, err := ln.Accept() // and says nothing
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if how := cmd.ProcessState.Sys().(syscall.WaitStatus); !how.Signaled() || how.Signal() != sig {
			t.Errorf("%v: %v", sig, cmd.ProcessState)
		}
		conn.Close()
	}
}
