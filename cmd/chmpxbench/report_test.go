package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/config"
)

func exampleResult() *result {
	r := &result{latency: newHistogram()}
	for i := range 4 {
		part := &result{Sent: 1000, Busy: 31855515861, StartNs: 5, EndNs: 5 + 31969227577, CPU: time.Second, latency: newHistogram()}
		record(part.latency, time.Duration(i+1)*time.Millisecond)
		r.add(part)
	}
	return r
}

// The result looks exactly as CHMPX's.
func TestPrintResult(t *testing.T) {
	s := settings{source: config.Source{Path: "slv.ini"}, loops: 1000, processes: 2, threads: 2, turnAround: true, bodyBytes: 128}
	var b strings.Builder
	printResult(&b, s, exampleResult())
	want := `===========================================================
CHMPX bench mark
-----------------------------------------------------------
CHMPX mode                    Slave mode
CHMPX configuration           slv.ini
-----------------------------------------------------------
Total loop count              4000
  Process count               2
  Thread count                2
  Loop count                  1000
Data length                   128
Turn Around mode              yes
Broadcast mode                no
-----------------------------------------------------------
Total error count             0
Total time(addition thread)   127s 422ms 063us 444ns (127422063444ns)
Average time(addition thread) 000s 031ms 855us 515ns (31855515ns)
Total time(real)              031s 969ms 227us 577ns (31969227577ns)
Average time(real)            000s 007ms 992us 306ns (7992306ns)
-----------------------------------------------------------
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

// Without an end of the loops there are no averages but an explanation, and
// latencies come only when they are asked for, behind everything else.
func TestPrintEndless(t *testing.T) {
	s := settings{server: true, source: config.Source{Text: "{}"}, processes: 1, threads: 1, bodyBytes: 64, percentiles: true, broadcast: true, pids: []int{1, 2}}
	var b strings.Builder
	r := exampleResult()
	r.pidsCPU = 6 * time.Millisecond
	printResult(&b, s, r)
	for _, want := range []string{"Server mode\n", "CHMPX configuration           JSON text\n", "Broadcast mode                yes\n", "CPU time per message of -pids 1.5us (2)\n", "Total loop count              0\n", "\n\n* If loop count is 0", "Latency p99.9                 4.0", "Latency max "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "Average") {
		t.Errorf("there are averages:\n%s", b.String())
	}
}

// The JSON form holds counts, rate and latencies in microseconds.
func TestPrintJSON(t *testing.T) {
	var b strings.Builder
	r := exampleResult()
	r.pidsCPU = 6 * time.Millisecond
	if err := printJSON(&b, settings{source: config.Source{Path: "slv.ini"}, window: 64}, r); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]float64{"sent": 4000, "errors": 0, "window": 64, "cpu_us_per_msg": 1000, "pids_cpu_us_per_msg": 1.5} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if p50 := got["p50_us"].(float64); p50 < 1990 || p50 > 2010 {
		t.Errorf("p50_us is %v, want 2000", p50)
	}
	if rate := got["msgs_per_s"].(float64); rate < 125 || rate > 126 {
		t.Errorf("msgs_per_s is %v, want 125.1", rate)
	}
}

// A result survives the way from child to parent.
func TestPack(t *testing.T) {
	r := exampleResult()
	if err := r.pack(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got result
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := got.unpack(); err != nil {
		t.Fatal(err)
	}
	if got.Sent != r.Sent || got.latency.TotalCount() != 4 || got.latency.Max() != r.latency.Max() {
		t.Errorf("got %+v", got)
	}
}
