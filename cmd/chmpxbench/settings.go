package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/ops"
)

// The limits of what the options may say.
const (
	bodyBytesMin = 64
	windowMax    = 1 << 16
)

// settings is what the options say.
type settings struct {
	server        bool
	conf          string
	ctlPort       int
	cuk           string
	loops         int64 // per thread; 0: endless
	processes     int
	threads       int
	turnAround    bool
	bodyBytes     int
	print         bool
	level         ops.Level
	jsonOut       bool
	percentiles   bool
	window        int           // requests in flight per thread
	duration      time.Duration // 0: no limit
	timeout       time.Duration // for one message
	attachTimeout time.Duration
}

// errUsage is wrapped by errors about options.
var errUsage = errors.New("ERROR")

// flags are the options of the command. child is hidden: this process is one
// of the children.
func flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "s"},
		&cli.BoolFlag{Name: "c"},
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}, EnvVars: []string{"CHMCONFFILE"}},
		&cli.StringFlag{Name: "jsonconf", EnvVars: []string{"CHMJSONCONF"}},
		&cli.StringFlag{Name: "ctlport", Value: "0"},
		&cli.StringFlag{Name: "cuk"},
		&cli.StringFlag{Name: "l", Value: "1"},
		&cli.StringFlag{Name: "proccnt", Value: "1"},
		&cli.StringFlag{Name: "threadcnt", Value: "1"},
		&cli.BoolFlag{Name: "ta"},
		&cli.BoolFlag{Name: "b"},
		&cli.StringFlag{Name: "dl", Value: "64"},
		&cli.BoolFlag{Name: "pr"},
		&cli.BoolFlag{Name: "mergedump"},
		&cli.StringFlag{Name: "d", Aliases: []string{"g"}, Value: "silent"},
		&cli.StringFlag{Name: "dummykey"},
		&cli.BoolFlag{Name: "json"},
		&cli.BoolFlag{Name: "percentiles"},
		&cli.StringFlag{Name: "window", Value: "1"},
		&cli.StringFlag{Name: "duration", Value: "0s"},
		&cli.StringFlag{Name: "timeout", Value: "1s"},
		&cli.StringFlag{Name: "attach-timeout", Value: "10s"},
		&cli.BoolFlag{Name: "child", Hidden: true},
		&cli.BoolFlag{Name: "h", Aliases: []string{"help"}},
	}
}

// jsonText renames CHMPX's "-json <text>", a configuration given as text, so
// that "-json" alone can ask for the result as JSON.
func jsonText(args []string) []string {
	out := append([]string(nil), args...)
	for i, word := range out {
		if !strings.EqualFold(strings.TrimLeft(word, "-"), "json") || word[0] != '-' || i+1 == len(out) {
			continue
		}
		if text := strings.TrimSpace(out[i+1]); text != "" && strings.ContainsRune("{[:}]'\"", rune(text[0])) {
			out[i] = "-jsonconf"
		}
	}
	return out
}

// parse checks the options, in the order in which CHMPX complains.
func parse(c *cli.Context) (settings, error) {
	s := settings{
		server: c.Bool("s"), conf: c.String("conf"), cuk: c.String("cuk"),
		turnAround: c.Bool("ta"), print: c.Bool("pr"), jsonOut: c.Bool("json"), percentiles: c.Bool("percentiles"),
	}
	if s.conf == "" && c.String("jsonconf") != "" {
		return s, fmt.Errorf(`%w: a configuration as JSON text is not available in this version, use -conf with a file`, errUsage)
	}
	if s.conf == "" {
		return s, fmt.Errorf(`%w: There is no parameter "-conf"("-f") or "-json"`, errUsage)
	}
	if !s.server && !c.Bool("c") {
		return s, fmt.Errorf(`%w: There is no parameter "-s" or "-c"`, errUsage)
	}
	if c.Bool("b") {
		return s, fmt.Errorf(`%w: "-b" (broadcast) is not available in this version`, errUsage)
	}
	var err error
	if s.level, err = ops.ParseLevel(c.String("d")); err != nil {
		return s, fmt.Errorf(`%w: Wrong parameter value "-d"("-g") %s (ERR, WAN, INF, MSG or DUMP)`, errUsage, c.String("d"))
	}
	for _, n := range []struct {
		name        string
		least, most int64
		set         func(int64)
	}{
		{"l", 0, 1 << 40, func(n int64) { s.loops = n }},
		{"proccnt", 1, 1024, func(n int64) { s.processes = int(n) }},
		{"threadcnt", 1, 4096, func(n int64) { s.threads = int(n) }},
		{"dl", bodyBytesMin, 1 << 30, func(n int64) { s.bodyBytes = int(n) }},
		{"window", 1, windowMax, func(n int64) { s.window = int(n) }},
		{"ctlport", 0, 65535, func(n int64) { s.ctlPort = int(n) }},
	} {
		v, err := whole(c, n.name, n.least, n.most)
		if err != nil {
			return s, err
		}
		n.set(v)
	}
	for _, d := range []struct {
		name  string
		least time.Duration
		to    *time.Duration
	}{
		{"duration", 0, &s.duration}, {"timeout", time.Millisecond, &s.timeout}, {"attach-timeout", time.Millisecond, &s.attachTimeout},
	} {
		if *d.to, err = duration(c, d.name, d.least); err != nil {
			return s, err
		}
	}
	return s, s.check()
}

// check refuses what does not go together.
func (s *settings) check() error {
	switch {
	case s.window > 1 && (s.server || !s.turnAround):
		return fmt.Errorf(`%w: "-window" is for clients that wait for replies: "-c" and "-ta" are needed`, errUsage)
	case s.window > 1 && s.print:
		return fmt.Errorf(`%w: "-pr" prints one message after the other, it cannot be used with "-window"`, errUsage)
	}
	if s.duration > 0 {
		s.loops = 0
	}
	return nil
}

// duration reads an option that must be a time with its unit.
func duration(c *cli.Context, name string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(c.String(name))
	if err != nil || d < least {
		return 0, fmt.Errorf(`%w: "-%s" option value is wrong, must set a time of at least %v with its unit, as 10s or 500ms, not %q`,
			errUsage, name, least, c.String(name))
	}
	return d, nil
}

// whole reads an option that must be a whole number within limits.
func whole(c *cli.Context, name string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(c.String(name), 10, 64)
	if err != nil || n < least || n > most {
		// CHMPX's words, and then what they keep back.
		return 0, fmt.Errorf(`%w: "-%s" option value is wrong, must set %d - xxxx (a whole number up to %d, not %q)`,
			errUsage, name, least, most, c.String(name))
	}
	return n, nil
}
