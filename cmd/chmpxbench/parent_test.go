package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who cannot begin ends with CHMPX's words, the reason and exit code
// 1; nothing is measured. CHMPX's own command hangs for ever.
func TestCannotBegin(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "slave.ini")
	text := fmt.Sprintf("[GLOBAL]\nFILEVERSION = 1\nGROUP = NOBODY\nMODE = SLAVE\nDELIVERMODE = HASH\nSELFCTLPORT = 2\nRUNDIR = %s\n"+
		"[SVRNODE]\nNAME = localhost\nPORT = 3\nCTLPORT = 4\n[SLVNODE]\nNAME = localhost\nCTLPORT = 2\n", dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, reason := range map[string]string{
		"-c -conf nofile.ini":            "nofile.ini cannot be read: no such file",
		"-s -conf nofile.ini -proccnt 3": "nofile.ini cannot be read: no such file",
		"-c -json {}":                    "JSON text",
		"-c -ta -proccnt 2 -attach-timeout 100ms -conf " + conf: dir,
	} {
		code, out, errs := runArgs(t, strings.Fields(args)...)
		first, second, _ := strings.Cut(errs, "\n")
		if code != 1 || out != "" || first != "[ERR] Could not initialize internal object/data/etc." || !strings.HasPrefix(second, "[ERR] REASON: ") || !strings.Contains(second, reason) {
			t.Errorf("%s: code %d, %q\n%s", args, code, out, errs)
		}
	}
}

// A process that -pids names must be there.
func TestMissingPID(t *testing.T) {
	code, _, errs := runArgs(t, "-c", "-conf", "x", "-mergedump", "-pids", "999999999")
	want := "[MSG] -mergedump: there is nothing to dump, this version calls no merge functions\n" +
		"[ERR] ERROR: \"-pids\" option value is wrong, must set process ids.\n[ERR] REASON: there is no process 999999999.\n"
	if code != 1 || errs != want {
		t.Errorf("code %d, %q", code, errs)
	}
}
