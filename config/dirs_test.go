package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// RUNDIR stands alone; without it node and programs try the same three places.
func TestRunDirs(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	own := filepath.Join(tmp, "chmpx-"+strconv.Itoa(os.Geteuid()))
	if got, want := mustLoad(t, minimal("")).RunDirs(), []string{"/run/chmpx", "/run/user/7/chmpx", own}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if got, want := mustLoad(t, minimal("")).RunDirs(), []string{"/run/chmpx", own}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := mustLoad(t, minimal("RUNDIR=/run/x/")).RunDirs(); !slices.Equal(got, []string{"/run/x"}) {
		t.Errorf("got %v, want [/run/x]", got)
	}
}

// The data directory is one per node below the first place that is named or
// writable; a named one is never silently replaced, and nothing is created.
func TestDataDir(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	self := Self{CtlPort: 8021}
	for _, c := range []struct{ key, state, want string }{
		{dir, "", dir + "/G-8021"},
		{dir + "/not/yet/there", "/ignored", dir + "/not/yet/there/G-8021"},
		{"", dir, dir + "/G-8021"},
		{"", dir + ":/second", dir + "/G-8021"},
		{blocked, dir, ""},
		{"", blocked, ""},
	} {
		t.Setenv("STATE_DIRECTORY", c.state)
		conf := mustLoad(t, minimal(""))
		conf.DataDirKey = c.key
		got, err := conf.DataDir(self)
		if got != c.want || (c.want == "") != errors.Is(err, ErrConfig) {
			t.Errorf("DATADIR %q, STATE_DIRECTORY %q: got %q, %v; want %q", c.key, c.state, got, err, c.want)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("got %v, %v: something was created", all, err)
	}
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", dir)
	got, err := mustLoad(t, minimal("")).DataDir(self)
	if err != nil || got != "/var/lib/chmpx/G-8021" && got != dir+"/chmpx/G-8021" {
		t.Errorf("without a key: got %q, %v", got, err)
	}
}

// A directory that others own is not taken for writable.
func TestWritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := writable(filepath.Join(dir, "a", "b")); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v, want %v", err, os.ErrPermission)
	}
}

// Two files have one digest exactly when their nodes agree on the ring.
func TestDigest(t *testing.T) {
	a, b := "[SVRNODE]\nNAME=a\nCUK=x\n", "[SVRNODE]\nNAME=b\n"
	base := mustLoad(t, minimal(a+b)).Digest()
	for name, text := range map[string]string{
		"order":      minimal(b + a),
		"self":       "[GLOBAL]\nSELFCTLPORT=8021\nSELFCUK=x\nMODE=SERVER\n" + minimal(a+b),
		"directory":  "[GLOBAL]\nRUNDIR=/x\nDATADIR=/y\n" + minimal(a+b),
		"memory":     "[GLOBAL]\nRINGBYTES=64KiB\nSHMBYTESMAX=2GiB\n" + minimal(a+b),
		"revision":   "[GLOBAL]\nDATE=Mon, 02 Nov 2026 09:00:00 +0000\n" + strings.Replace(minimal(a+b), "FILEVERSION=1", "FILEVERSION=2", 1),
		"one NAME":   minimal("[SVRNODE]\nNAME=b\n[SVRNODE]\nNAME=a\nCUK=x"),
		"slaves":     minimal(a+b) + "[SLVNODE]\nNAME=x\n",
		"no effect":  "[GLOBAL]\nRWTIMEOUT=7\n" + minimal(a+b),
		"said again": "[GLOBAL]\nREPLICA=0\nPLACEMENT=slots\n" + minimal(a+b),
	} {
		if mustLoad(t, text).Digest() != base {
			t.Errorf("%s: changes the digest", name)
		}
	}
	for name, text := range map[string]string{
		"group":    strings.Replace(minimal(a+b), "GROUP=G", "GROUP=H", 1),
		"server":   minimal(a),
		"port":     minimal(a + "PORT=1\n" + b),
		"ctlport":  minimal(a + "CTLPORT=1\n" + b),
		"CUK":      minimal(strings.Replace(a, "x", "y", 1) + b),
		"replica":  "[GLOBAL]\nREPLICA=1\n" + minimal(a+b),
		"merge":    "[GLOBAL]\nDOMERGE=on\n" + minimal(a+b),
		"voters":   "[GLOBAL]\nRAFTMAXVOTERS=3\n" + minimal(a+b),
		"limit":    "[GLOBAL]\nMERGETIMEOUT=1\n" + minimal(a+b),
		"name:cuk": minimal("[SVRNODE]\nNAME=a\n" + strings.Replace(b, "=b", "=b\nCUK=x", 1)),
	} {
		if mustLoad(t, text).Digest() == base {
			t.Errorf("%s: does not change the digest", name)
		}
	}
}
