package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ops"

	"github.com/chmpx/chmpx/cmd/internal/options"
)

// The limits of what the options may say.
const (
	bodyBytesMin = 64
	windowMax    = 1 << 16
)

// settings is what the options say.
type settings struct {
	server        bool
	source        config.Source
	ctlPort       int
	cuk           string
	loops         int64 // per thread; 0: endless
	processes     int
	threads       int
	turnAround    bool
	broadcast     bool
	mergeDump     bool
	pids          []int // whose CPU time is measured
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

// optionError is about a wrong option: what CHMPX says, and what it keeps back.
type optionError struct{ says, reason string }

func (e *optionError) Error() string {
	if e.reason == "" {
		return "ERROR: " + e.says
	}
	return "ERROR: " + e.says + ": " + e.reason
}

// flags are the options of the command. child is hidden: this process is one
// of the children.
func flags() []cli.Flag {
	return options.Explained([]cli.Flag{
		&cli.BoolFlag{Name: "s"},
		&cli.BoolFlag{Name: "c"},
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}},
		&cli.StringFlag{Name: "json"},
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
		&cli.BoolFlag{Name: "result-json"},
		&cli.StringFlag{Name: "pids"},
		&cli.BoolFlag{Name: "percentiles"},
		&cli.StringFlag{Name: "window", Value: "1"},
		&cli.StringFlag{Name: "duration", Value: "0s"},
		&cli.StringFlag{Name: "timeout", Value: "1s"},
		&cli.StringFlag{Name: "attach-timeout", Value: "10s"},
		&cli.BoolFlag{Name: "child", Hidden: true},
		&cli.BoolFlag{Name: "h", Aliases: []string{"help"}},
	})
}

// parse checks the options, in the order in which CHMPX complains.
func parse(c *cli.Context) (settings, error) {
	s := settings{
		server: c.Bool("s"), cuk: c.String("cuk"), turnAround: c.Bool("ta"), mergeDump: c.Bool("mergedump"),
		print: c.Bool("pr"), jsonOut: c.Bool("result-json"), percentiles: c.Bool("percentiles"),
	}
	s.broadcast = c.Bool("b") && !s.server // only clients begin
	var err error
	if s.source, err = config.FindSource(c.String("conf"), c.String("json")); err != nil {
		return s, &optionError{says: `There is no parameter "-conf"("-f") or "-json"`}
	}
	if !s.server && !c.Bool("c") {
		return s, &optionError{says: `There is no parameter "-s" or "-c"`}
	}
	if s.level, err = ops.ParseLevel(c.String("d")); err != nil {
		return s, &optionError{fmt.Sprintf(`Wrong parameter value "-d"("-g") %s`, c.String("d")), "ERR, WAN, INF, MSG and DUMP are allowed"}
	}
	if s.pids, err = parsePIDs(c.String("pids")); err != nil {
		return s, err
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
		return &optionError{says: `"-window" is for clients that wait for replies: "-c" and "-ta" are needed`}
	case s.window > 1 && s.print:
		return &optionError{says: `"-pr" prints one message after the other, it cannot be used with "-window"`}
	case s.window > 1 && s.broadcast:
		return &optionError{says: `"-b" sends one message after the other, it cannot be used with "-window"`}
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
		return 0, &optionError{fmt.Sprintf(`"-%s" option value is wrong, must set a time of at least %v`, name, least),
			fmt.Sprintf("a unit is needed, as in 10s or 500ms, not %q", c.String(name))}
	}
	return d, nil
}

// whole reads an option that must be a whole number within limits.
func whole(c *cli.Context, name string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(c.String(name), 10, 64)
	if err != nil || n < least || n > most {
		return 0, &optionError{fmt.Sprintf(`"-%s" option value is wrong, must set %d - xxxx`, name, least),
			fmt.Sprintf("a whole number up to %d is needed, not %q", most, c.String(name))}
	}
	return n, nil
}

// parsePIDs reads the option -pids.
func parsePIDs(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var pids []int
	for word := range strings.SplitSeq(list, ",") {
		pid, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || pid <= 0 {
			return nil, &optionError{`"-pids" option value is wrong, must set process ids`,
				fmt.Sprintf("numbers with commas between them are needed, as in 12,34, not %q", list)}
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
