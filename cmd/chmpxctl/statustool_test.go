package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// statusConf writes the configuration of a server with a control port of this host.
func statusConf(t *testing.T, ctlPort string) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "a.ini")
	text := "[GLOBAL]\nFILEVERSION = 1\nGROUP = TEST\nDELIVERMODE = hash\nSELFCTLPORT = " + ctlPort +
		"\n[SVRNODE]\nNAME = localhost\nPORT = 9\nCTLPORT = " + ctlPort + "\n[SLVNODE]\nNAME = localhost\nCTLPORT = 2\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

func statusToolRun(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	var out, errs strings.Builder
	code = runStatusTool(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// The layout is that of CHMPX's tool.
func TestStatusToolGolden(t *testing.T) {
	s := newScripted(t, map[string]string{"DUMP": dumpText(t)}, exampleRing())
	conf := statusConf(t, s.port)
	for name, args := range map[string][]string{"chmpxstatus": {"-conf", conf}, "chmpxstatus_self": {"-CONF", conf, "--self", "-unknown", "x"}, "chmpxstatus_help": {"-h"}} {
		code, out, errs := statusToolRun(t, args...)
		if code != 0 || errs != "" {
			t.Errorf("%s: code %d\n%s", name, code, errs)
		}
		golden(t, name, out)
	}
	tls := strings.ReplaceAll(dumpText(t), "is_ssl           = false", "is_ssl           = true")
	s.answer("DUMP", strings.ReplaceAll(tls, "capath           = ", "capath           = /ca"))
	_, out, _ := statusToolRun(t, "-conf", conf, "-self")
	if !strings.Contains(out, "  CA path is                                 = directory\n  CA path                                    = /ca\n") {
		t.Errorf("with TLS:\n%s", out)
	}
}

// -wait prints SUCCEED or FAILED, with the exit code that goes with it.
func TestStatusToolWait(t *testing.T) {
	out := exampleRing()
	out.Servers[0].Service, out.Servers[0].Suspended = "out", true
	s := newScripted(t, nil, out, exampleRing())
	conf := statusConf(t, s.port)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"-live up -ring servicein -nosuspend", "SUCCEED\n", 0}, // the second answer
		{"-live UP -ring serviceout -suspend -timeout 1", "FAILED\n", 1},
		{"-live down -ring servicein -nosuspend -timeout 1", "FAILED\n", 1},
	} {
		code, got, errs := statusToolRun(t, append([]string{"-conf", conf, "-wait"}, strings.Fields(c.args)...)...)
		if code != c.code || got != c.want || errs != "" {
			t.Errorf("%s: code %d, %q, %q", c.args, code, got, errs)
		}
	}
	if code, got, _ := statusToolRun(t, "-conf", statusConf(t, "1"), "-wait", "-live", "down", "-ring", "servicein", "-suspend"); code != 0 || got != "SUCCEED\n" {
		t.Errorf("a node that does not run: code %d, %q", code, got)
	}
}

// What is wrong is said, with exit code 1.
func TestStatusToolErrors(t *testing.T) {
	conf := statusConf(t, "1")
	for args, want := range map[string]string{
		"":                                  "no configuration is named",
		"-conf nofile.ini":                  "nofile.ini",
		"-conf " + conf:                     "cannot be reached",
		"-conf " + conf + " -ctlport 9":     "find the node",
		"-conf " + conf + " -ctlport x":     "use a port from 1 to 65535",
		"-conf " + conf + " -d loud":        "loud",
		"-conf " + conf + " -wait -live up": "wait mode(-wait) needs",
		"-conf " + conf + " -wait -live x -ring slave -suspend":             `-live "x"`,
		"-conf " + conf + " -wait -live up -ring x -suspend":                `-ring "x"`,
		"-conf " + conf + " -wait -live up -ring slave -suspend -timeout x": "timeout",
	} {
		code, out, errs := statusToolRun(t, strings.Fields(args)...)
		if code != exitFailed || out != "" || !strings.HasPrefix(errs, "[ERR] ") || !strings.Contains(errs, want) {
			t.Errorf("%s: code %d, %s%s, want %q", args, code, out, errs, want)
		}
	}
}

// Times are taken apart.
func TestElapsed(t *testing.T) {
	for text, want := range map[string]string{
		"0s 0ns": "0ms 0us 0ns (0ns)", "1s 2500001ns": "1s 2ms 500us 1ns (1002500001ns)", "x": "n/a",
	} {
		if got := elapsed(text); got != want {
			t.Errorf("elapsed(%q) = %q, want %q", text, got, want)
		}
	}
}
