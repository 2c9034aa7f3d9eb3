package ctlport

import (
	"strings"
	"testing"
	"time"
)

// tracing is a Tracing as a node has it, with records of its own.
func tracing(limit int, on *bool, all []Trace) Tracing {
	return Tracing{
		Max: func() int { return limit }, View: func() []Trace { return all },
		Set: func(to bool) bool {
			changed := *on != to
			*on = to
			return changed
		},
	}
}

// TRACE takes CHMPX's words in any case; any other word is refused and changes
// nothing, where CHMPX switched the trace off and may have said SUCCEED.
func TestTrace(t *testing.T) {
	on := false
	a := Answers{Trace: tracing(100, &on, nil)}
	for i, tc := range []struct {
		send, want string
		on         bool
	}{
		{"TRACE", replyTraceWord, false},
		{"TRACE enable", "SUCCEED\n", true},
		{"TRACE enable", "ERROR: TRACE is already enabled/disabled.\n", true},
		{"TRACE on", "ERROR: TRACE is already enabled/disabled.\n", true},
		{"TRACE foo", "ERROR: TRACE command must have parameter as enable/disable.(ex: \"TRACE enable\")\n", true},
		{"TRACE enabled", replyTraceWord, true},
		{"TRACE", replyTraceWord, true},
		{"trace Disable extra", "SUCCEED\n", false},
		{"TRACE off", "ERROR: TRACE is already enabled/disabled.\n", false},
		{"TRACE foo", replyTraceWord, false},
		{"TRACE YES", "SUCCEED\n", true},
		{" TRACE\tNo", "SUCCEED\n", false},
	} {
		if got := a.Answer(t.Context(), ParseCommand([]byte(tc.send)), 1); got != tc.want || on != tc.on {
			t.Errorf("%d, %s: %q, on %t; want %q, on %t", i, tc.send, got, on, tc.want, tc.on)
		}
	}
	none := Answers{Trace: tracing(0, &on, nil)}
	for send, want := range map[string]string{
		"TRACE ON": replyTraceFailed + reasonNoTrace, "TRACE OFF": replyTraceSame, "TRACEVIEW": replyViewNone + reasonNoTrace,
	} {
		if got := none.Answer(t.Context(), ParseCommand([]byte(send)), 1); got != want || on {
			t.Errorf("MAXHISTLOG = 0, %s: %q, on %t", send, got, on)
		}
	}
}

// TRACEVIEW shows the oldest records that its parameters let through, in CHMPX's
// form; what CHMPX does not take for parameters is refused.
func TestTraceView(t *testing.T) {
	at := time.Unix(1795407413, 669684573)
	all := []Trace{
		{Bytes: 124, At: at}, {Out: true, MQ: true, Bytes: 4, At: at},
		{MQ: true, Bytes: 3, At: at}, {Out: true, Bytes: 123, At: at.Add(400 * time.Millisecond)},
	}
	lines := []string{
		"[Input Socket]\t124 byte\tSTART(1795407413s 669684573ns) - FINISH(1795407413s 669684573ns)\n",
		"[Output MQ]\t4 byte\tSTART(1795407413s 669684573ns) - FINISH(1795407413s 669684573ns)\n",
		"[Input MQ]\t3 byte\tSTART(1795407413s 669684573ns) - FINISH(1795407413s 669684573ns)\n",
		"[Output Socket]\t123 byte\tSTART(1795407414s 69684573ns) - FINISH(1795407414s 69684573ns)\n",
	}
	shown := func(numbers ...int) string {
		var b strings.Builder
		for _, n := range numbers {
			b.WriteString(lines[n])
		}
		return b.String()
	}
	on := true
	a := Answers{Trace: tracing(100, &on, all)}
	for _, tc := range []struct{ send, want string }{
		{"TRACEVIEW", shown(0, 1, 2, 3)},
		{"traceview 3", shown(0, 1, 2)},
		{"TRACEVIEW 100", shown(0, 1, 2, 3)},
		{"TRACEVIEW -1", shown(0, 1, 2, 3)},
		{"TRACEVIEW DIR=IN", shown(0, 2)},
		{"TRACEVIEW DIR=in DEV=Sock", shown(0)},
		{"TRACEVIEW DIR=OUT DEV=MQ 2", shown(1)},
		{"TRACEVIEW 1 DEV=SOCK DIR=ALL", shown(0)},
		{"TRACEVIEW DIR=IN DIR=OUT", shown(1, 3)},
		{"TRACEVIEW 0", replyViewWords},
		{"TRACEVIEW 101", replyViewWords},
		{"TRACEVIEW -2", replyViewWords},
		{"TRACEVIEW 99999999999999999999", replyViewWords},
		{"TRACEVIEW dir=IN", replyViewWords},
		{"TRACEVIEW DIR=xx", replyViewWords},
		{"TRACEVIEW DEV=", replyViewWords},
		{"TRACEVIEW all", replyViewWords},
	} {
		if got := a.Answer(t.Context(), ParseCommand([]byte(tc.send)), 1); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.send, got, tc.want)
		}
	}
	a.Trace.View = func() []Trace { return all[:1] }
	if got := a.Answer(t.Context(), ParseCommand([]byte("TRACEVIEW DIR=OUT")), 1); got != "ERROR: There is no matched trace log now.\n" {
		t.Errorf("nothing fits: %q", got)
	}
}
