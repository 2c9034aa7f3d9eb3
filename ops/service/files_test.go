package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write puts files, by name and text, into a new directory and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// defaults is what holds when no file says anything.
func defaults(dir string) Settings {
	return Settings{
		IniFile: filepath.Join(dir, "chmpx.ini"), PidDir: "/var/run/antpickax",
		ServicePidFile: "chmpx-service-helper.pid", SubprocessPidFile: "chmpx.pid",
		AfterDepend: 15 * time.Second, Startup: 10 * time.Second, AfterUp: 15 * time.Second,
		Interval: 10 * time.Second, StopTries: 10,
	}
}

// Every keyword has its default, also one that is given without a value.
func TestDefaults(t *testing.T) {
	var empty strings.Builder
	for _, k := range Keywords() {
		empty.WriteString(k.Name + " =\n")
	}
	for name, text := range map[string]string{"no lines": "", "comments": "# PIDDIR = /x\n\n  # y\n", "no values": empty.String()} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{ConfName: text})
			got, notes, err := Load(dir)
			if err != nil || len(notes) > 0 {
				t.Fatalf("Load: %v, notes %q", err, notes)
			}
			if diff := cmp.Diff(got, defaults(dir), cmp.Comparer(func(a, b []string) bool { return strings.Join(a, " ") == strings.Join(b, " ") })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Every keyword sets what it is for; blanks around do not count, later lines win.
func TestKeywords(t *testing.T) {
	dir := write(t, map[string]string{ConfName: `
  INI_CONF_FILE=sub/x.ini
PIDDIR = /p
SERVICE_PIDFILE = s
SUBPROCESS_PIDFILE = c
SUBPROCESS_USER = nobody
LOGDIR = /l
SERVICE_LOGFILE = sl
SUBPROCESS_LOGFILE = cl
WAIT_DEPENDPROC_PIDFILE = /d
WAIT_SEC_AFTER_DEPENDPROC_UP = 1
WAIT_SEC_STARTUP = 0
WAIT_SEC_STARTUP = 2
WAIT_SEC_AFTER_SUBPROCESS_UP = 3
INTERVAL_SEC_FOR_LOOP = 4
TRYCOUNT_STOP_SUBPROC = 5
SUBPROCESS_OPTIONS =  -d  msg	-dfile /x # no comment
BEFORE_RUN_SUBPROCESS = a="b" # c
`})
	got, notes, err := Load(dir)
	if err != nil || len(notes) > 0 {
		t.Fatalf("Load: %v, notes %q", err, notes)
	}
	want := Settings{
		IniFile: filepath.Join(dir, "sub/x.ini"), PidDir: "/p", ServicePidFile: "s", SubprocessPidFile: "c", User: "nobody",
		LogDir: "/l", ServiceLogFile: "sl", SubprocessLogFile: "cl", DependPidFile: "/d", AfterDepend: time.Second,
		Startup: 2 * time.Second, AfterUp: 3 * time.Second, Interval: 4 * time.Second, StopTries: 5,
		ProgramOptions: []string{"-d", "msg", "-dfile", "/x", "#", "no", "comment"}, BeforeRun: `a="b" # c`,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

// What override.conf says comes first, in both formats and by both names of the
// file; what it does not mention keeps its value; lines for others do not count.
func TestOverride(t *testing.T) {
	const conf = "PIDDIR = /conf\nLOGDIR = /conf\nWAIT_SEC_STARTUP = 1\nSUBPROCESS_USER = root\n"
	dir := write(t, map[string]string{ConfName: conf, "other.conf": "A = no\nA = /other\nWAIT = 7\nB = x:Y\n"})
	for name, c := range map[string]struct {
		text string
		want func(*Settings)
	}{
		"value, full path":        {dir + "/" + ConfName + ":PIDDIR = /over", func(s *Settings) { s.PidDir = "/over" }},
		"value, base name":        {ConfName + ":PIDDIR = /over", func(s *Settings) { s.PidDir = "/over" }},
		"value, other spelling":   {dir + "/./" + ConfName + ":PIDDIR = /over", func(s *Settings) { s.PidDir = "/over" }},
		"reference, full path":    {dir + "/" + ConfName + ":PIDDIR = " + dir + "/other.conf:A", func(s *Settings) { s.PidDir = "/other" }},
		"reference, base name":    {ConfName + ":WAIT_SEC_STARTUP = other.conf:WAIT", func(s *Settings) { s.Startup = 7 * time.Second }},
		"reference to this file":  {ConfName + ":PIDDIR = " + ConfName + ":LOGDIR", func(s *Settings) { s.PidDir = "/conf" }},
		"not followed twice":      {ConfName + ":BEFORE_RUN_SUBPROCESS = other.conf:B", func(s *Settings) { s.BeforeRun = "x:Y" }},
		"a value with a colon":    {ConfName + ":BEFORE_RUN_SUBPROCESS = echo a:B", func(s *Settings) { s.BeforeRun = "echo a:B" }},
		"the last one counts":     {ConfName + ":PIDDIR = /a\n" + ConfName + ":PIDDIR = /b", func(s *Settings) { s.PidDir = "/b" }},
		"CHMPX_INI_CONF_FILE":     {ConfName + ":CHMPX_INI_CONF_FILE = /a.ini", func(s *Settings) { s.IniFile = "/a.ini" }},
		"INI_CONF_FILE":           {ConfName + ":INI_CONF_FILE = b.ini", func(s *Settings) { s.IniFile = filepath.Join(dir, "b.ini") }},
		"back to the default":     {ConfName + ":LOGDIR =", func(s *Settings) { s.LogDir = "" }},
		"lines for other helpers": {"/etc/antpickax/k2hdkc-service-helper.conf:PIDDIR = nonsense\n# x\n", func(*Settings) {}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, OverrideName), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			want := defaults(dir)
			want.PidDir, want.LogDir, want.Startup, want.User = "/conf", "/conf", time.Second, "root"
			c.want(&want)
			got, notes, err := Load(dir)
			if err != nil || len(notes) > 0 {
				t.Fatalf("Load: %v, notes %q", err, notes)
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A mistake is an error that names file, line, keyword, value and what is allowed.
func TestMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		conf, override string
		want           []string // in the error, <dir> is the directory
	}{
		"letters":         {"\nWAIT_SEC_STARTUP = abc", "", []string{"<dir>/chmpx-service-helper.conf:2: WAIT_SEC_STARTUP", `"abc"`, "0 to 86400"}},
		"sign":            {"WAIT_SEC_STARTUP = -1", "", []string{":1: WAIT_SEC_STARTUP", `"-1"`}},
		"too many":        {"WAIT_SEC_AFTER_SUBPROCESS_UP = 86401", "", []string{"86401"}},
		"overflow":        {"WAIT_SEC_AFTER_DEPENDPROC_UP = 99999999999999999999", "", []string{"WAIT_SEC_AFTER_DEPENDPROC_UP"}},
		"no interval":     {"INTERVAL_SEC_FOR_LOOP = 0", "", []string{"INTERVAL_SEC_FOR_LOOP", "1 to 86400"}},
		"no try":          {"TRYCOUNT_STOP_SUBPROC = 0", "", []string{"TRYCOUNT_STOP_SUBPROC", "1 to 1000"}},
		"no value sign":   {"PIDDIR", "", []string{":1: PIDDIR", "KEYWORD = value"}},
		"no keyword":      {"= 1", "", []string{":1: ", "keyword"}},
		"relative":        {"PIDDIR = run", "", []string{":1: PIDDIR", `"run"`, "absolute"}},
		"relative log":    {"LOGDIR = log", "", []string{":1: LOGDIR"}},
		"relative pid":    {"WAIT_DEPENDPROC_PIDFILE = log", "", []string{":1: WAIT_DEPENDPROC_PIDFILE"}},
		"path for a name": {"SERVICE_PIDFILE = /a/b", "", []string{":1: SERVICE_PIDFILE", "without /"}},
		"one pid file":    {"SERVICE_PIDFILE = a\nSUBPROCESS_PIDFILE = a", "", []string{"SERVICE_PIDFILE and SUBPROCESS_PIDFILE"}},
		"two mistakes":    {"PIDDIR = a\nLOGDIR = b", "", []string{":1: PIDDIR", ":2: LOGDIR"}},
		"zero bytes":      {"PIDDIR = /a\x00", "", []string{"zero byte"}},
		"override, no file": {"", "PIDDIR = /x",
			[]string{"<dir>/override.conf:1: PIDDIR", "chmpx-service-helper.conf:PIDDIR"}},
		"override, value": {"", "#\nchmpx-service-helper.conf:INTERVAL_SEC_FOR_LOOP = x",
			[]string{"<dir>/override.conf:2: INTERVAL_SEC_FOR_LOOP", `"x"`}},
		"override, reference to no file": {"", "chmpx-service-helper.conf:PIDDIR = no.conf:PIDDIR",
			[]string{"<dir>/override.conf:1: ", "PIDDIR", "<dir>/no.conf"}},
		"override, reference to no keyword": {"", "chmpx-service-helper.conf:PIDDIR = chmpx-service-helper.conf:LOGDIR",
			[]string{"<dir>/override.conf:1: ", "PIDDIR", "has no LOGDIR"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{ConfName: c.conf, OverrideName: c.override})
			_, _, err := Load(dir)
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("Load: %v, want ErrConfig", err)
			}
			for _, want := range c.want {
				if want = strings.ReplaceAll(want, "<dir>", dir); !strings.Contains(err.Error(), want) {
					t.Errorf("Load: %v\nwant it to name %q", err, want)
				}
			}
		})
	}
	if _, _, err := Load(t.TempDir()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), ConfName) {
		t.Errorf("without a file: %v, want its name", err)
	}
	long := write(t, map[string]string{ConfName: strings.Repeat("#", fileBytesMax+1)})
	if _, _, err := Load(long); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), ConfName) {
		t.Errorf("a file that is too long: %v", err)
	}
}

// What is passed over is named with file and line.
func TestNotes(t *testing.T) {
	dir := write(t, map[string]string{
		ConfName:     "PIDIR = /x\nSERVICE_LOGFILE = a\n",
		OverrideName: "/etc/antpikax/" + ConfName + ":PIDDIR = /x\n" + ConfName + ":LOGGDIR = /y\n",
	})
	_, notes, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(notes, "\n")
	for _, want := range []string{
		dir + "/override.conf:1: /etc/antpikax/", dir + `/chmpx-service-helper.conf:1: unknown keyword "PIDIR"`,
		dir + `/override.conf:2: unknown keyword "LOGGDIR"`, "SERVICE_LOGFILE has no effect without LOGDIR",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("notes %q do not say %q", all, want)
		}
	}
	if len(notes) != 4 {
		t.Errorf("%d notes, want 4: %q", len(notes), all)
	}
}

// Whatever a file holds, reading it does not panic, and settings that come of it
// are within their limits.
func FuzzFile(f *testing.F) {
	f.Add("PIDDIR = /x\nWAIT_SEC_STARTUP = 3\n# c")
	f.Add("=\n:")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parse("file", text)
		if err != nil {
			return
		}
		s, _, err := apply(entries)
		if err != nil {
			return
		}
		if s.Interval < time.Second || s.StopTries < 1 || !filepath.IsAbs(s.PidDir) || strings.Contains(s.ServicePidFile, "/") || s.Startup > 24*time.Hour {
			t.Errorf("settings out of their limits: %+v", s)
		}
	})
}

// A pipe in the place of a file is refused, and nobody waits for a writer.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, ConfName), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(dir); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "is a pipe, a file is needed") {
		t.Errorf("Load = %v", err)
	}
}
