package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
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

// Wrong options are refused in CHMPX's words, with exit code 1; a second line
// says what is allowed.
func TestWrongOptions(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want string
	}{
		"nothing":          {"", `[ERR] ERROR: There is no parameter "-conf"("-f") or "-json".` + "\n"},
		"no configuration": {"-s", `[ERR] ERROR: There is no parameter "-conf"("-f") or "-json".` + "\n"},
		"no mode":          {"-conf x", `[ERR] ERROR: There is no parameter "-s" or "-c".` + "\n"},
		"small body":       {"-c -conf x -dl 10", `[ERR] ERROR: "-dl" option value is wrong, must set 64 - xxxx.` + "\n" + `[ERR] REASON: a whole number up to 1073741824 is needed, not "10".` + "\n"},
		"no process":       {"-c -conf x -PROCCNT 0", `[ERR] ERROR: "-proccnt" option value is wrong, must set 1 - xxxx.` + "\n" + `[ERR] REASON: a whole number up to 1024 is needed, not "0".` + "\n"},
		"no thread":        {"-c -f x --threadcnt 0", `[ERR] ERROR: "-threadcnt" option value is wrong, must set 1 - xxxx.` + "\n" + `[ERR] REASON: a whole number up to 4096 is needed, not "0".` + "\n"},
		"level":            {"-c -conf x -g foo", `[ERR] ERROR: Wrong parameter value "-d"("-g") foo.` + "\n[ERR] REASON: ERR, WAN, INF, MSG and DUMP are allowed.\n"},
		"negative loops":   {"-c -conf x -l -1", `[ERR] ERROR: "-l" option value is wrong, must set 0 - xxxx.` + "\n" + `[ERR] REASON: a whole number up to 1099511627776 is needed, not "-1".` + "\n"},
		"loops as text":    {"-c -json {} -l abc", `[ERR] ERROR: "-l" option value is wrong, must set 0 - xxxx.` + "\n" + `[ERR] REASON: a whole number up to 1099511627776 is needed, not "abc".` + "\n"},
		"no value":         {"-c -json", "[ERR] ERROR: An option lacks its value.\n[ERR] REASON: option -json is followed by nothing or by an option.\n"},
		"window alone":     {"-c -conf x -window 2", `[ERR] ERROR: "-window" is for clients that wait for replies: "-c" and "-ta" are needed.` + "\n"},
		"window printed":   {"-c -conf x -ta -pr -window 2", `[ERR] ERROR: "-pr" prints one message after the other, it cannot be used with "-window".` + "\n"},
		"window to all":    {"-c -conf x -ta -b -window 2", `[ERR] ERROR: "-b" sends one message after the other, it cannot be used with "-window".` + "\n"},
		"no time":          {"-c -conf x -timeout 0s", `[ERR] ERROR: "-timeout" option value is wrong, must set a time of at least 1ms.` + "\n" + `[ERR] REASON: a unit is needed, as in 10s or 500ms, not "0s".` + "\n"},
		"no port":          {"-c -conf x -ctlport 70000", `[ERR] ERROR: "-ctlport" option value is wrong, must set 0 - xxxx.` + "\n" + `[ERR] REASON: a whole number up to 65535 is needed, not "70000".` + "\n"},
		"pids":             {"-c -conf x -pids 1,x", `[ERR] ERROR: "-pids" option value is wrong, must set process ids.` + "\n" + `[ERR] REASON: numbers with commas between them are needed, as in 12,34, not "1,x".` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out, errs := runArgs(t, strings.Fields(c.args)...); code != 1 || errs != c.want || out != "" {
				t.Errorf("code %d, standard output %q, error\n%swant\n%s", code, out, errs, c.want)
			}
		})
	}
}

// Each source of a configuration counts, the last -conf or -f before the rest.
func TestSources(t *testing.T) {
	for _, c := range []struct{ args, file, text, want string }{
		{"-c -conf a -f b", "", "", "b"},
		{"-C -F a -Json {}", "", "", "a"},
		{"-c -json {}", "e", "", "JSON text"},
		{"-c", "e", "{}", "e"},
		{"-c", "", "{}", "JSON text"},
	} {
		var got settings
		app := &cli.App{Flags: flags(), HideHelp: true, Action: func(c *cli.Context) (err error) { got, err = parse(c); return err }}
		known, _, err := options.Normalize(strings.Fields(c.args), app.Flags)
		t.Setenv("CHMCONFFILE", c.file)
		t.Setenv("CHMJSONCONF", c.text)
		if err == nil {
			err = app.Run(append([]string{"x"}, known...))
		}
		if err != nil || got.source.String() != c.want {
			t.Errorf("%+v: %v, %v", c, got.source, err)
		}
	}
}

// The help goes to standard output, with exit code 0.
func TestHelp(t *testing.T) {
	for _, option := range []string{"-h", "-Help"} {
		if code, out, errs := runArgs(t, option); code != 0 || errs != "" || out != usage {
			t.Errorf("%s: code %d, %q, %q", option, code, out, errs)
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
