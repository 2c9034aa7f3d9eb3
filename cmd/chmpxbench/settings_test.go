package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// runArgs runs the command with arguments that do not get as far as a child.
func runArgs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("CHMCONFFILE", "")
	t.Setenv("CHMJSONCONF", "")
	var out, errs strings.Builder
	code = run(args, &out, &errs, make(chan os.Signal))
	return code, out.String(), errs.String()
}

// Wrong options are refused in CHMPX's words, with exit code 1.
func TestWrongOptions(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want string
	}{
		"nothing":        {"", `[ERR] ERROR: There is no parameter "-conf"("-f") or "-json".` + "\n"},
		"no mode":        {"-conf x", `[ERR] ERROR: There is no parameter "-s" or "-c".` + "\n"},
		"small body":     {"-c -conf x -dl 10", `[ERR] ERROR: "-dl" option value is wrong, must set 64 - xxxx`},
		"no process":     {"-c -conf x -proccnt 0", `[ERR] ERROR: "-proccnt" option value is wrong, must set 1 - xxxx`},
		"no thread":      {"-c -conf x -threadcnt 0", `[ERR] ERROR: "-threadcnt" option value is wrong, must set 1 - xxxx`},
		"level":          {"-c -conf x -g foo", `[ERR] ERROR: Wrong parameter value "-d"("-g") foo`},
		"negative loops": {"-c -conf x -l -1", `[ERR] ERROR: "-l" option value is wrong, must set 0 - xxxx`},
		"loops as text":  {"-c -conf x -l abc", `[ERR] ERROR: "-l" option value is wrong, must set 0 - xxxx (a whole number up to 1099511627776, not "abc").` + "\n"},
		"broadcast":      {"-c -conf x -b", "not available"},
		"JSON text":      {"-c -json {}", "not available"},
		"window alone":   {"-c -conf x -window 2", "-ta"},
		"window printed": {"-c -conf x -ta -pr -window 2", "-pr"},
		"no time":        {"-c -conf x -timeout 0s", `"-timeout" option value is wrong, must set a time of at least 1ms`},
		"no unit":        {"-c -conf x -duration 10", `as 10s or 500ms, not "10"`},
		"no port":        {"-c -conf x -ctlport 70000", `"-ctlport" option value is wrong, must set 0 - xxxx (a whole number up to 65535`},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, errs := runArgs(t, strings.Fields(c.args)...); code != 1 || !strings.Contains(errs, c.want) {
				t.Errorf("code %d, standard error %q, want %q", code, errs, c.want)
			}
		})
	}
}

// The help goes to standard output, with exit code 0.
func TestHelp(t *testing.T) {
	if code, out, errs := runArgs(t, "-h"); code != 0 || errs != "" || !strings.Contains(out, "Usage: chmpxbench") {
		t.Errorf("code %d, %q, %q", code, out, errs)
	}
}

// "-json" is CHMPX's option only when a configuration text follows.
func TestJSONText(t *testing.T) {
	for in, want := range map[string]string{
		"-json {\"a\":1}": "-jsonconf", "--JSON [x": "-jsonconf", "-json -c": "-json", "-c -json": "-json", "json {": "json",
	} {
		if got := strings.Join(jsonText(strings.Fields(in)), " "); !strings.Contains(got, want) || strings.Contains(want, "conf") != strings.Contains(got, "conf") {
			t.Errorf("jsonText(%q) = %q, want %s", in, got, want)
		}
	}
}

// Times are printed as CHMPX prints them.
func TestNanos(t *testing.T) {
	for d, want := range map[time.Duration]string{
		127422063447: "127s 422ms 063us 447ns (127422063447ns)",
		77005:        "000s 000ms 077us 005ns (77005ns)",
		0:            "000s 000ms 000us 000ns (0ns)",
	} {
		if got := nanos(d); got != want {
			t.Errorf("nanos(%d) = %q, want %q", d, got, want)
		}
	}
}
