package ctlport

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Tracing is what TRACE and TRACEVIEW work on. Its functions may be called from
// many goroutines at once and must not block for long.
type Tracing struct {
	Max  func() int                   // records that are kept: MAXHISTLOG
	Set  func(on bool) (changed bool) // switches it on or off
	View func() []Trace               // what was recorded, oldest first
}

// Trace is a message that came into a node or left it.
type Trace struct {
	Out   bool
	MQ    bool // from or to a program, which CHMPX connects by message queues; false: by a socket
	Bytes int
	At    time.Time
}

// Replies of TRACE and TRACEVIEW, in CHMPX's words.
const (
	replyTraceWord   = "ERROR: TRACE command must have parameter as enable/disable.(ex: \"TRACE enable\")\n"
	replyTraceSame   = "ERROR: TRACE is already enabled/disabled.\n"
	replyTraceFailed = "ERROR: Failed to set TRACE enable/disable.\n"
	replyViewWords   = "ERROR: TRACEVIEW command parameter is \"TRACEVIEW [DIR=IN/OUT/ALL] [DEV=SOCK/MQ/ALL] [COUNT]\"\n"
	replyViewNone    = "ERROR: Now trace count is 0.\n"
	replyViewNothing = "ERROR: There is no matched trace log now.\n"
)

// reasonNoTrace is why nothing can be recorded.
const reasonNoTrace = "REASON: MAXHISTLOG = 0 keeps no records.\n"

// set returns the reply to TRACE.
func (t Tracing) set(args []string) string {
	if len(args) == 0 {
		return replyTraceWord
	}
	var on bool
	switch strings.ToUpper(args[0]) {
	case "ENABLE", "YES", "ON":
		on = true
	case "DISABLE", "NO", "OFF":
	default:
		return replyTraceWord
	}
	switch {
	case on && t.Max() <= 0:
		return replyTraceFailed + reasonNoTrace
	case !t.Set(on):
		return replyTraceSame
	}
	return replyDone
}

// traceFilter says which records TRACEVIEW shows.
type traceFilter struct {
	dir, dev string // IN, OUT; SOCK, MQ; ALL
	count    int    // at most, the oldest
}

// parseFilter reads the parameters of TRACEVIEW, in any order; of several of a
// kind the last counts. Keywords are in upper case, as in CHMPX.
func (t Tracing) parseFilter(args []string) (f traceFilter, ok bool) {
	most := t.Max()
	f = traceFilter{"ALL", "ALL", most}
	for _, arg := range args {
		if dir, is := strings.CutPrefix(arg, "DIR="); is {
			if f.dir = strings.ToUpper(dir); f.dir != "IN" && f.dir != "OUT" && f.dir != "ALL" {
				return f, false
			}
			continue
		}
		if dev, is := strings.CutPrefix(arg, "DEV="); is {
			if f.dev = strings.ToUpper(dev); f.dev != "SOCK" && f.dev != "MQ" && f.dev != "ALL" {
				return f, false
			}
			continue
		}
		n, err := strconv.Atoi(arg)
		switch {
		case err == nil && n == -1: // all
			n = most
		case err != nil || n < 1 || n > most:
			return f, false
		}
		f.count = n
	}
	return f, true
}

func (f traceFilter) shows(t Trace) bool {
	return (f.dir == "ALL" || t.Out == (f.dir == "OUT")) && (f.dev == "ALL" || t.MQ == (f.dev == "MQ"))
}

// view returns the reply to TRACEVIEW.
func (t Tracing) view(args []string) string {
	if t.Max() <= 0 {
		return replyViewNone + reasonNoTrace
	}
	f, ok := t.parseFilter(args)
	if !ok {
		return replyViewWords
	}
	var b strings.Builder
	left := f.count
	for _, r := range t.View() {
		if left > 0 && f.shows(r) {
			left--
			r.print(&b)
		}
	}
	if left == f.count {
		return replyViewNothing
	}
	return b.String()
}

// print writes a record as CHMPX does. Handling a message takes no time worth
// printing: it starts and finishes at once.
func (t Trace) print(b *strings.Builder) {
	direction, device := "Input", "Socket"
	if t.Out {
		direction = "Output"
	}
	if t.MQ {
		device = "MQ"
	}
	at := fmt.Sprintf("%ds %dns", t.At.Unix(), t.At.Nanosecond())
	fmt.Fprintf(b, "[%s %s]\t%d byte\tSTART(%s) - FINISH(%s)\n", direction, device, t.Bytes, at, at)
}
