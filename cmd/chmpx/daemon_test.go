package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chmpx/chmpx/node"
)

// runArgs runs the command with arguments that do not start a node.
func runArgs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	for _, name := range []string{"CHMCONFFILE", "CHMJSONCONF", "CHMDBGMODE", "CHMDBGFILE"} {
		t.Setenv(name, "")
	}
	var out, errs strings.Builder
	d := daemon{args: args, stdout: &out, stderr: &errs, signals: make(chan os.Signal)}
	return d.run(), out.String(), errs.String()
}

// Help and version go to standard output with code 0; the help tells the exit codes.
func TestHelpAndVersion(t *testing.T) {
	for _, arg := range []string{"-h", "--help", "-HELP"} {
		if code, out, _ := runArgs(t, arg); code != exitStopped || !strings.Contains(out, "Exit codes") {
			t.Errorf("%s: code %d, output %q", arg, code, out)
		}
	}
	for _, arg := range []string{"-v", "--version", "-ver"} {
		if code, out, _ := runArgs(t, arg); code != exitStopped || !strings.Contains(out, version) {
			t.Errorf("%s: code %d, output %q", arg, code, out)
		}
	}
}

// Whatever keeps the node from starting is said on standard error, without -d, with code 1.
func TestStartErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.ini")
	if err := os.WriteFile(bad, []byte("[GLOBAL]\nFILEVERSION = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const highPorts = `{"GLOBAL": {"FILEVERSION": 1, "GROUP": "G"}, "SVRNODE": [{"NAME": "localhost", "PORT": 65533, "CTLPORT": 65535}]}`
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no configuration":  {nil, `must specify option "-conf"`},
		"no value":          {[]string{"-conf"}, "-conf"},
		"missing file":      {[]string{"-conf", "nofile.ini"}, "nofile.ini"},
		"bad configuration": {[]string{"-conf", bad}, "GROUP"},
		"warning":           {[]string{"-json", `{"GLOBAL": {"REPLCIA": 1}}`}, "did you mean REPLICA?"},
		"both":              {[]string{"-json", "{}", "-conf", "nofile.ini"}, "nofile.ini"},
		"bad port":          {[]string{"-conf", bad, "-ctlport", "abc"}, `invalid value "abc"`},
		"high port":         {[]string{"-json", highPorts, "-ctlport", "65534"}, "looked for CTLPORT 65534 on this host"},
		"port above":        {[]string{"-json", highPorts, "-ctlport", "65536"}, `invalid value "65536": use 1 to 65535`},
		"bad level":         {[]string{"-conf", bad, "-d", "loud"}, `"loud"`},
		"empty JSON":        {[]string{"-json", "{}"}, "JSON text: it is empty"},
		"bad JSON":          {[]string{"-json", "{\"GLOBAL\": {\"REPLICA\": true}}"}, "JSON text:1: REPLICA = \"true\""},
		"unknown option":    {[]string{"-foo", "bar"}, `"-foo"`},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, errs := runArgs(t, c.args...); code != exitStart || !strings.Contains(errs, c.want) {
				t.Errorf("code %d, standard error %q, want code 1 and %q", code, errs, c.want)
			}
		})
	}
}

// The first signal stops the node in order, the second one ends it at once, and
// a node that fails by itself is not waited for.
func TestAwait(t *testing.T) {
	failed := errors.New("failed")
	signals := make(chan os.Signal, 2)
	d := daemon{signals: signals}
	ended := make(chan error, 1)

	signals <- syscall.SIGHUP
	code := exitStopped
	if err := d.await(func() { ended <- nil }, ended, &code); err != nil || code != exitStopped {
		t.Errorf("after one signal: %v, code %d", err, code)
	}

	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	if err := d.await(func() {}, ended, &code); err == nil || code != exitSignal+15 {
		t.Errorf("after two signals: %v, code %d, want %d", err, code, exitSignal+15)
	}

	ended <- failed
	if err := d.await(func() { t.Error("stopped without a signal") }, ended, &code); !errors.Is(err, failed) {
		t.Errorf("after a failure: %v", err)
	}
}

// A node that is to be started again is no failure; a signal comes before it.
func TestAwaitRestart(t *testing.T) {
	signals := make(chan os.Signal, 1)
	ended := make(chan error, 1)
	code := exitStopped
	for _, signalled := range []bool{true, false} {
		d := daemon{signals: signals}
		if signalled {
			signals <- syscall.SIGTERM
		} else {
			ended <- node.ErrRestart
		}
		if err := d.await(func() { ended <- node.ErrRestart }, ended, &code); err != nil || code != exitStopped || d.again == signalled {
			t.Errorf("signalled %t: %v, code %d, again %t", signalled, err, code, d.again)
		}
	}
}

// A process that starts anew keeps its id and its arguments.
func TestStartAnew(t *testing.T) {
	const key = "CHMPX_TEST_STARTS"
	switch os.Getenv(key) {
	case "1":
		os.Setenv(key, "2")
		t.Fatal(startAnew())
	case "2":
		fmt.Printf("started anew: %d %s\n", os.Getpid(), os.Args[1])
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestStartAnew$")
	cmd.Env = append(os.Environ(), key+"=1")
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("started anew: %d -test.run=^TestStartAnew$\n", cmd.Process.Pid); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, want %q:\n%s", err, want, out)
	}
}

// Each mistake of a configuration, and each warning, is a line of its own that
// begins with ERROR or WARNING and then says file and line.
func TestStartErrorLines(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.ini")
	text := "[GLOBAL]\nFILEVERSION = x\nGROUP = a/b\nDELIVERMODE = hash\nREPLCIA = 1\n[SVRNODE]\nNAME = a\nPORT = 1\nCTLPORT = 2\n[SLVNODE]\nNAME = b\nCTLPORT = 2\n"
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, errs := runArgs(t, "-conf", bad)
	want := []string{"ERROR: " + bad + ":2: FILEVERSION", "ERROR: " + bad + ":3: GROUP", "WARNING: " + bad + ":5: \"REPLCIA\""}
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	for i, line := range lines {
		if len(lines) != len(want) || !strings.HasPrefix(line, want[i]) {
			t.Fatalf("got\n%s\nwant lines that begin with %q", errs, want)
		}
	}
	_, _, errs = runArgs(t, "-conf", filepath.Join(filepath.Dir(bad), "no.ini"))
	if want := "ERROR: " + filepath.Dir(bad) + "/no.ini cannot be read: no such file or directory\n"; errs != want {
		t.Errorf("got %q, want %q", errs, want)
	}
	// A node that is not in the file is often one whose key is mistyped.
	text = `{"GLOBAL": {"FILEVERSION": 1, "GROUP": "G", "CTLPORT": 1, "PORT": 2, "SELFCTLPRT": 1}, "SVRNODE": [{"NAME": "localhost"}]}`
	if _, _, errs = runArgs(t, "-json", text); !strings.Contains(errs, "which node is this one?") || !strings.Contains(errs, "did you mean SELFCTLPORT?") {
		t.Errorf("got %q", errs)
	}
}
