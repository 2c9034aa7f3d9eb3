package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// buffer is a writer that one goroutine fills and another one reads.
type buffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// confTestRun runs chmpxconftest to its end.
func confTestRun(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	var out, errs buffer
	code = runConfTest(args, &out, &errs, make(chan os.Signal))
	return code, out.String(), errs.String()
}

// The output is CHMPX's, which its test scripts compare: of a file with
// nothing but what is required, whose DATE has a zone, and of one with all.
func TestConfTest(t *testing.T) {
	for _, name := range []string{"base.ini", "full.yaml"} {
		code, out, errs := confTestRun(t, "-conf", filepath.Join("testdata", name), "-no_check_update")
		if code != 0 || errs != "" {
			t.Errorf("%s: code %d, %s", name, code, errs)
		}
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, out, want)
		}
	}
}

const confJSON = `{"GLOBAL":{"FILEVERSION":1,"GROUP":"J","SELFCTLPORT":8021},"SVRNODE":[{"NAME":"localhost","PORT":8020,"CTLPORT":8021}]}`

// Options are read in any case, sources are found as everywhere, and whatever
// is bad is exit code 1 with the reason.
func TestConfTestOptions(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.ini")
	if err := os.WriteFile(bad, []byte("[GLOBAL]\nGROUP = a/b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join("testdata", "base.ini")
	elsewhere := strings.Replace(confJSON, "localhost", "192.0.2.77", 1)
	typo := strings.Replace(confJSON, `"SELFCTLPORT":8021`, `"SELFCTLPORT":8022`, 1)
	for _, tc := range []struct {
		name     string
		args     []string
		code     int
		out, err string
	}{
		{"JSON", []string{"-json", confJSON}, 0, "GROUP           = J\n", ""},
		{"another host's", []string{"-json", elsewhere}, 0, "MODE            = SERVER\n", ""},
		{"another host's, with warnings", []string{"-json", elsewhere, "-d", "wan"}, 0, "MODE            = SERVER\n", "[CHMPX-WAN] JSON text: no [SVRNODE]"},
		{"nobody's", []string{"-json", typo}, 1, "", "looked for CTLPORT 8022"},
		{"two dashes, case, alias, unknown", []string{"--F", base, "-NO_CHECK_UPDATE", "-foo", "x"}, 0, "GROUP           = CFG\n", ""},
		{"help", []string{"-help", "-d", "err"}, 0, "Usage: chmpxconftest", ""},
		{"defaults", []string{"-print_default"}, 0, "MAXCHMPX             1024\n", ""},
		{"warnings", []string{"-conf", base, "-no_check_update", "-g", "wan"}, 0, "configuration{", ""},
		{"no source", nil, 1, "", "[CHMPX-ERR] no configuration is named"},
		{"no file", []string{"-conf", "nofile.ini", "-no_check_update"}, 1, "", "nofile.ini"},
		{"extension", []string{"-conf", "base.txt", "-no_check_update"}, 1, "", ".txt"},
		{"bad", []string{"-conf", bad}, 1, "", `bad.ini:2: GROUP = "a/b"`},
		{"level", []string{"-conf", base, "-d", "foo"}, 1, "", `wrong parameter value "-d"("-g") foo`},
	} {
		code, out, errs := confTestRun(t, tc.args...)
		if code != tc.code || !strings.Contains(out, tc.out) || tc.out == "" && out != "" || !strings.Contains(errs, tc.err) || tc.err == "" && errs != "" {
			t.Errorf("%s: code %d\n%s\n%s", tc.name, code, out, errs)
		}
	}
}

// Without -no_check_update the configuration is printed at each change of the
// file, a bad one is complained about, and a signal ends it.
func TestConfTestWatch(t *testing.T) {
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	text, err := os.ReadFile(filepath.Join("testdata", "base.ini"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.ini")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(text))
	var out, errs buffer
	signals, code := make(chan os.Signal, 1), make(chan int, 1)
	go func() { code <- runConfTest([]string{"-conf", file}, &out, &errs, signals) }() // ended by the signal below
	await := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for late := time.After(20 * time.Second); !ok(); {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("no %s:\n%s\n%s", what, out.String(), errs.String())
			}
		}
	}
	await("first output", func() bool { return strings.Contains(out.String(), "REVISION        = 1\n") })
	write(strings.Replace(string(text), "FILEVERSION = 1", "FILEVERSION = 22", 1))
	await("second output", func() bool { return strings.Contains(out.String(), "REVISION        = 22\n") })
	write("nonsense")
	await("complaint", func() bool { return strings.Contains(errs.String(), "x.ini:1") })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	await("complaint about the missing file", func() bool { return strings.Contains(errs.String(), "no such file") })
	write(strings.Replace(string(text), "FILEVERSION = 1", "FILEVERSION = 333", 1))
	await("third output", func() bool { return strings.Contains(out.String(), "REVISION        = 333\n") })
	signals <- syscall.SIGHUP
	select {
	case c := <-code:
		if c != 0 || strings.Count(out.String(), "configuration{") != 3 {
			t.Errorf("code %d\n%s", c, out.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
}

// conf check says everything that is wrong at once, and what is there.
func TestConfCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	base, err := os.ReadFile(filepath.Join("testdata", "base.ini"))
	if err != nil {
		t.Fatal(err)
	}
	bad := write("bad.ini", "[GLOBAL]\nFILEVERSION = x\nGROUP = a/b\nDELIVERMODE = HASH\nGRUOP = c\n[SVRNODE]\nNAME = a\nPORT = 1\nCTLPORT = 2\n[SLVNODE]\nNAME = b\nCTLPORT = 2\n")
	elsewhere := write("elsewhere.ini", strings.Replace(string(base), "localhost", "192.0.2.77", 1))
	typo := write("typo.ini", strings.Replace(string(base), "SELFCTLPORT = 8021", "SELFCTLPORT = 8022", 1))
	nobody := write("nobody.ini", strings.Replace(string(base), "SELFCTLPORT = 8021", "", 1))
	for _, tc := range []struct {
		args string
		bad  bool
		want []string
	}{
		{"-conf testdata/base.ini", false, []string{"testdata/base.ini is good: group CFG, 1 server, 1 entry for slaves\n", "node is the server localhost:8021, chmpxid "}},
		{"-json " + confJSON, false, []string{"JSON text is good: group J, 1 server, 0 entries for slaves\n"}},
		{"-conf " + bad, true, []string{"error: " + bad + ":2: FILEVERSION", "error: " + bad + ":3: GROUP", "warning: " + bad + `:5: "GRUOP" is not a key`, "bad.ini is bad: 2 errors, 1 warning\n"}},
		{"-conf " + elsewhere, true, []string{"elsewhere.ini is bad: 1 error"}},
		{"-any-host -conf " + elsewhere, false, []string{"warning: ", "elsewhere.ini is good: ", "; 1 warning\n"}},
		{"-any-host -conf " + typo, true, []string{"looked for CTLPORT 8022"}},
		{"-conf " + typo, true, []string{"looked for CTLPORT 8022", "the file has server localhost:8021"}},
		{"-ctlport 8031 -conf " + typo, true, []string{"MODE = SERVER, but no [SVRNODE] is this node"}},
		{"-conf " + nobody, false, []string{"warning: " + nobody + ": SELFCTLPORT is missing"}},
		{"-conf " + nobody + " -ctlport 8021", false, []string{"server localhost:8021"}},
	} {
		out, err := runArgs(t, append([]string{"conf", "check"}, strings.Fields(tc.args)...)...)
		if (err != nil) != tc.bad {
			t.Errorf("%s: %v", tc.args, err)
		}
		for _, want := range tc.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: the output lacks %q:\n%s", tc.args, want, out)
			}
		}
	}
	for args, want := range map[string]string{
		"conf check":                    "which configuration?",
		"conf check x.ini":              `"x.ini" is no option`,
		"conf czech":                    `unknown command "conf czech"`,
		"conf check -ctlport 70000":     "70000",
		"conf check -conf testdata/a.b": "is bad",
	} {
		out, err := runArgs(t, strings.Fields(args)...)
		if err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("%s: %v, want %q:\n%s", args, err, want, out)
		}
	}
}
