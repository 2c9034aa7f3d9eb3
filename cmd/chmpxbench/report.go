package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

const (
	thick = "==========================================================="
	thin  = "-----------------------------------------------------------"
)

// printResult writes the result as CHMPX's command does.
func printResult(w io.Writer, s settings, r *result) {
	mode := "Slave mode"
	if s.server {
		mode = "Server mode"
	}
	total := int64(s.processes) * int64(s.threads) * s.loops
	row := func(name string, value any) { fmt.Fprintf(w, "%-30s%v\n", name, value) }
	fmt.Fprintf(w, "%s\nCHMPX bench mark\n%s\n", thick, thin)
	row("CHMPX mode", mode)
	row("CHMPX configuration", s.source)
	fmt.Fprintln(w, thin)
	row("Total loop count", total)
	row("  Process count", s.processes)
	row("  Thread count", s.threads)
	row("  Loop count", s.loops)
	row("Data length", s.bodyBytes)
	row("Turn Around mode", yesNo(s.turnAround))
	row("Broadcast mode", yesNo(s.broadcast))
	if s.loops == 0 {
		fmt.Fprint(w, "\n* If loop count is 0, the threads run until they are stopped,\n"+
			"  so the total loop count and the average times are not known before.\n")
	}
	fmt.Fprintln(w, thin)
	row("Total error count", r.Errors)
	row("Total time(addition thread)", nanos(r.Busy))
	if total > 0 {
		row("Average time(addition thread)", nanos(r.Busy/time.Duration(total)))
	}
	row("Total time(real)", nanos(r.real()))
	if total > 0 {
		row("Average time(real)", nanos(r.real()/time.Duration(total)))
	}
	fmt.Fprintln(w, thin)
	if len(s.pids) > 0 {
		row("CPU time per message of -pids", fmt.Sprintf("%.1fus (%d)", pidsCPU(r), len(s.pids)))
		fmt.Fprintln(w, thin)
	}
	if s.percentiles {
		row("Messages", r.Sent)
		row("Messages per second", fmt.Sprintf("%.0f", rate(r)))
		for _, p := range percentiles {
			row("Latency p"+p.name, time.Duration(r.latency.ValueAtQuantile(p.quantile)))
		}
		row("Latency max", time.Duration(r.latency.Max()))
		fmt.Fprintln(w, thin)
	}
}

var percentiles = []struct {
	name     string
	quantile float64
}{{"50", 50}, {"90", 90}, {"99", 99}, {"99.9", 99.9}}

// summary is the result as -result-json prints it. The names are a promise.
type summary struct {
	Mode       string  `json:"mode"` // "client" or "server"
	Conf       string  `json:"conf"`
	Processes  int     `json:"processes"`
	Threads    int     `json:"threads"` // per process
	Window     int     `json:"window"`  // requests in flight per thread
	Loops      int64   `json:"loops"`   // per thread; 0: endless
	Size       int     `json:"size"`    // bytes of a message
	TurnAround bool    `json:"turn_around"`
	Broadcast  bool    `json:"broadcast"`
	Sent       int64   `json:"sent"` // messages sent; of a server: received
	Errors     int64   `json:"errors"`
	FirstError string  `json:"first_error,omitempty"`
	Seconds    float64 `json:"seconds"` // wall clock
	Rate       float64 `json:"msgs_per_s"`
	P50        float64 `json:"p50_us"`
	P90        float64 `json:"p90_us"`
	P99        float64 `json:"p99_us"`
	P999       float64 `json:"p999_us"`
	Max        float64 `json:"max_us"`
	CPU        float64 `json:"cpu_us_per_msg"`                // of the programs, not of the nodes
	PIDsCPU    float64 `json:"pids_cpu_us_per_msg,omitempty"` // of the processes that -pids names
}

func printJSON(w io.Writer, s settings, r *result) error {
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	q := func(quantile float64) float64 { return us(r.latency.ValueAtQuantile(quantile)) }
	sum := summary{
		Mode: "client", Conf: s.source.String(), Processes: s.processes, Threads: s.threads, Window: s.window, Loops: s.loops,
		Size: s.bodyBytes, TurnAround: s.turnAround, Broadcast: s.broadcast, Sent: r.Sent, Errors: r.Errors, FirstError: r.FirstErr,
		Seconds: r.real().Seconds(), Rate: rate(r),
		P50: q(50), P90: q(90), P99: q(99), P999: q(99.9), Max: us(r.latency.Max()), PIDsCPU: pidsCPU(r),
	}
	if s.server {
		sum.Mode = "server"
	}
	if r.Sent > 0 {
		sum.CPU = us(int64(r.CPU)) / float64(r.Sent)
	}
	if err := json.NewEncoder(w).Encode(sum); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// pidsCPU returns the CPU time of the processes of -pids per message, in microseconds.
func pidsCPU(r *result) float64 {
	return float64(r.pidsCPU) / 1e3 / float64(max(1, r.Sent))
}

// rate returns messages per second, without those that failed.
func rate(r *result) float64 {
	if r.real() <= 0 {
		return 0
	}
	return float64(max(0, r.Sent-r.Errors)) / r.real().Seconds()
}

// nanos prints a time as CHMPX does: 001s 002ms 003us 004ns (1002003004ns).
func nanos(d time.Duration) string {
	n := d.Nanoseconds()
	return fmt.Sprintf("%03ds %03dms %03dus %03dns (%dns)", n/1e9, n/1e6%1e3, n/1e3%1e3, n%1e3, n)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
