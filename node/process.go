package node

import (
	"os"
	"runtime"
	"runtime/metrics"
)

// ProcessStatus is what the node's process uses, to see leaks.
type ProcessStatus struct {
	PID         int    `json:"pid"`
	Goroutines  int    `json:"goroutines"`
	Descriptors int    `json:"descriptors"` // open files; -1: the system does not say
	HeapBytes   uint64 `json:"heap_bytes"`  // live at the last collection
}

func processStatus() ProcessStatus {
	s := ProcessStatus{PID: os.Getpid(), Goroutines: runtime.NumGoroutine(), Descriptors: -1}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.Descriptors = len(open) - 1 // one of them reads the directory
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		s.HeapBytes = live[0].Value.Uint64()
	}
	return s
}
