package testcluster

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Verdict is what the records of the programs say about one run.
type Verdict struct {
	Sent       int
	Answered   int
	Lost       int // requests without an answer
	Repeated   int // messages that were taken more than once
	Unmarked   int // repeats that did not carry MaybeRepeat
	WrongOrder int // messages first taken before an earlier one of the same key
	By         map[byte]int
	Rate       float64 // answers per second, from the first request to the last answer
	P50, P99   time.Duration
	// Failover is the time from the kill to the first answer of another server
	// for a key of the killed one; 0: there was none.
	Failover time.Duration
}

// Judge compares what was asked with what was taken. killed is the server
// that was killed at killedNs (0: none was).
func Judge(asked []Asked, taken []Taken, killed byte, killedNs int64) Verdict {
	v := Verdict{Sent: len(asked), By: map[byte]int{}}
	latency := hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3)
	var first, last int64
	for _, a := range asked {
		if first == 0 || a.DueNs < first {
			first = a.DueNs
		}
		if a.AnsweredNs == 0 {
			v.Lost++
			continue
		}
		v.Answered++
		v.By[a.By]++
		last = max(last, a.AnsweredNs)
		// The only error is a value out of range, and an hour is more than any run takes.
		_ = latency.RecordValue(max(1, (a.AnsweredNs-a.DueNs)/1e3))
	}
	if last > first {
		v.Rate = float64(v.Answered) / time.Duration(last-first).Seconds()
	}
	v.P50 = time.Duration(latency.ValueAtQuantile(50)) * time.Microsecond
	v.P99 = time.Duration(latency.ValueAtQuantile(99)) * time.Microsecond
	v.judgeTaken(taken)
	if killedNs != 0 {
		v.Failover = failover(asked, killed, killedNs)
	}
	return v
}

// judgeTaken counts repeats and messages out of order.
func (v *Verdict) judgeTaken(taken []Taken) {
	taken = slices.Clone(taken)
	slices.SortStableFunc(taken, func(a, b Taken) int { return int(a.AtNs - b.AtNs) })
	type message struct{ key, n uint32 }
	times := map[message]int{}
	newest := map[uint32]uint32{} // per key, 1 + the greatest N taken
	for _, t := range taken {
		m := message{t.Key, t.N}
		times[m]++
		switch {
		case times[m] > 1:
			if times[m] == 2 {
				v.Repeated++
			}
			if !t.MaybeRepeat {
				v.Unmarked++
			}
		case t.N+1 <= newest[t.Key]:
			v.WrongOrder++
		default:
			newest[t.Key] = t.N + 1
		}
	}
}

// failover returns how long after the kill another server first answered for a
// key that the killed one had answered for last.
func failover(asked []Asked, killed byte, killedNs int64) time.Duration {
	type answer struct {
		at int64
		by byte
	}
	owner := map[uint32]answer{}
	for _, a := range asked {
		if a.AnsweredNs != 0 && a.AnsweredNs < killedNs && a.AnsweredNs > owner[a.Key].at {
			owner[a.Key] = answer{a.AnsweredNs, a.By}
		}
	}
	var first int64
	for _, a := range asked {
		if a.AnsweredNs > killedNs && a.By != killed && owner[a.Key].by == killed && (first == 0 || a.AnsweredNs < first) {
			first = a.AnsweredNs
		}
	}
	if first == 0 {
		return 0
	}
	return time.Duration(first - killedNs)
}
