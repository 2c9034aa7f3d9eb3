package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shellRun runs the shell with lines that are typed, and options.
func shellRun(t *testing.T, input string, options ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	var out, errs strings.Builder
	app := newApp()
	app.Reader, app.Writer, app.ErrWriter = strings.NewReader(input), &out, &errs
	err = app.RunContext(t.Context(), append([]string{"chmpxctl", "shell"}, options...))
	return out.String(), errs.String(), err
}

// The options of the shell hold for its verbs, except where they have their own.
func TestShell(t *testing.T) {
	s := newScripted(t, map[string]string{"MERGE": "SUCCEED\n", "SERVICEOUT": "SUCCEED\n"}, exampleRing())
	other := newScripted(t, nil, merged())
	out, errs, err := shellRun(t, "status -wait -live up\nserviceout b:8021\nmerge start -json\nhash key\nnodes -host 127.0.0.1 -ctlport "+other.port+
		"\nversion -nope\nshell -h\nhelp\nhelp merge start\nnope\nquit\n", s.at()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"chmpx> status -wait -live up\n127.0.0.1:" + s.port + " is up", "chmpx> serviceout b:8021\nSUCCEED\n",
		`{"command":"MERGE","ok":true,"reply":"SUCCEED"}`, "chmpx> nodes -host", "NODE ", "status, nodes, check, dump, version, hash, conf, ",
		"-ctlport port", "Quit.\n", "hash1  0x3dc94a19365b10ec\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	for _, want := range []string{"-nope", `unknown command "nope"; help lists them`} {
		if !strings.Contains(errs, "chmpxctl: ") || !strings.Contains(errs, want) {
			t.Errorf("%q is missing in\n%s", want, errs)
		}
	}
	if sent, want := s.sent(), []string{"SERVICEOUT b:8021", "MERGE"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
}

// A file of commands runs to its end; the exit code is that of the first failure.
func TestShellRun(t *testing.T) {
	s := newScripted(t, map[string]string{"MERGE": "SUCCEED\n", "SUSPENDMERGE": "ERROR: no\n"}, exampleRing())
	file := filepath.Join(t.TempDir(), "commands")
	for text, want := range map[string]int{
		"loop 0 2\nloopcmd merge start\necho done\n":                          exitDone,
		"suspend\nstatus -wait -live down -timeout 1ms\nmerge start\n":        exitFailed,
		"status -wait -live down -timeout 1ms\nsuspend\nmerge start\nquit\n":  exitTimeout,
		"status -ctlport 1 -host 127.0.0.1\nsuspend\nmerge start\nquit\nnope": exitNotReached,
		"": exitDone,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, err := shellRun(t, "", append(s.at(), "-run", file)...)
		if exitCode(err) != want || err != nil && !said(err) {
			t.Errorf("%q: code %d, want %d: %v\n%s%s", text, exitCode(err), want, err, out, errs)
		}
		if sent := s.sent(); text != "" && (len(sent) == 0 || sent[len(sent)-1] != "MERGE") {
			t.Errorf("%q: sent %q", text, sent)
		}
	}
	if _, _, err := shellRun(t, "", "-run", "nofile"); err == nil || !strings.Contains(err.Error(), "nofile") {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := shellRun(t, "", "word"); exitCode(err) != exitUsage {
		t.Errorf("a word: %v", err)
	}
}

// Tab knows the verbs, those below them and their options.
func TestVerbNames(t *testing.T) {
	for words, want := range map[string]string{
		"": "status", "merge": "complete", "merge complete": "-no-wait", "status": "-live", "status -live": "-ring", "conf": "check", "conf check": "-any-host",
	} {
		if got := verbNames(strings.Fields(words)); !slices.Contains(got, want) {
			t.Errorf("%q: %q, want %q among them", words, got, want)
		}
	}
	if got := verbNames(nil); slices.Contains(got, "shell") {
		t.Errorf("a shell in the shell: %q", got)
	}
}
