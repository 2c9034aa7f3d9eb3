package main

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are recorded in nanoseconds from 1 to a minute, to three digits.
const (
	latencyMaxNs  = int64(time.Minute)
	latencyDigits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, latencyMaxNs, latencyDigits)
}

// record adds a latency; what is too long counts as the longest.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	// The only error is a value out of range, which the limits exclude.
	_ = h.RecordValue(max(1, min(int64(d), latencyMaxNs)))
}

// result is what threads measured; results of threads and children add up.
type result struct {
	Sent     int64         `json:"sent"` // messages sent, or received by a server
	Errors   int64         `json:"errors"`
	Busy     time.Duration `json:"busy_ns"`       // sum over the threads
	StartNs  int64         `json:"start_unix_ns"` // of the first thread
	EndNs    int64         `json:"end_unix_ns"`   // of the last thread
	CPU      time.Duration `json:"cpu_ns"`        // of the process, while it ran
	Encoded  []byte        `json:"histogram,omitempty"`
	latency  *hdrhistogram.Histogram
	pidsCPU  time.Duration // of the processes of -pids; the parent's
	FirstErr string        `json:"first_error,omitempty"` // the reason of the first error, for people
}

// failed counts an error and keeps the reason of the first one.
func (r *result) failed(err error) {
	r.Errors++
	if r.FirstErr == "" {
		r.FirstErr = err.Error()
	}
}

// add takes over another result.
func (r *result) add(o *result) {
	r.Sent += o.Sent
	r.Errors += o.Errors
	r.Busy += o.Busy
	r.CPU += o.CPU
	if r.StartNs == 0 || o.StartNs != 0 && o.StartNs < r.StartNs {
		r.StartNs = o.StartNs
	}
	r.EndNs = max(r.EndNs, o.EndNs)
	if r.FirstErr == "" {
		r.FirstErr = o.FirstErr
	}
	if r.latency == nil {
		r.latency = newHistogram()
	}
	if o.latency != nil {
		r.latency.Merge(o.latency)
	}
}

// real returns the wall clock time from the first start to the last end.
func (r *result) real() time.Duration { return time.Duration(r.EndNs - r.StartNs) }

// pack makes the result ready to travel as JSON.
func (r *result) pack() error {
	if r.latency == nil {
		return nil
	}
	var err error
	if r.Encoded, err = r.latency.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return fmt.Errorf("encode latencies: %w", err)
	}
	return nil
}

// unpack is the reverse of pack.
func (r *result) unpack() error {
	if len(r.Encoded) == 0 {
		return nil
	}
	var err error
	if r.latency, err = hdrhistogram.Decode(r.Encoded); err != nil {
		return fmt.Errorf("decode latencies: %w", err)
	}
	return nil
}
