package main

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"testing"
	"time"
)

// The meter sees what a process spends, and who ends while it measures.
func TestMeter(t *testing.T) {
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	m, err := newMeter([]int{os.Getpid(), other.Process.Pid})
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	before := cpuTime()
	const work = 50 * time.Millisecond
	for x := 1.0; cpuTime()-before < work; x = math.Sqrt(x + 1) {
	}
	if spent, ended := m.stop(); spent < work/2 || spent > 20*work || len(ended) != 0 {
		t.Errorf("spent %v, ended %v", spent, ended)
	}
	_ = other.Process.Kill()
	_ = other.Wait() // says that it was killed
	if _, ended := m.stop(); len(ended) != 1 || ended[0] != other.Process.Pid {
		t.Errorf("ended %v", ended)
	}
	var option *optionError
	if _, err := newMeter([]int{other.Process.Pid}); !errors.As(err, &option) {
		t.Errorf("a process that is not there: %v", err)
	}
}

// Where a thread has ended, or the kernel tells nothing of threads, ticks count.
func TestReadingSince(t *testing.T) {
	type threads = map[string]time.Duration
	for name, c := range map[string]struct {
		before, after cpuReading
		want          time.Duration
	}{
		"the same threads": {cpuReading{threads{"1": 5, "2": 6}, 100}, cpuReading{threads{"1": 7, "2": 8}, 900}, 4},
		"a new thread":     {cpuReading{threads{"1": 5}, 100}, cpuReading{threads{"1": 7, "2": 8}, 900}, 10},
		"an ended thread":  {cpuReading{threads{"1": 5, "2": 6}, 100}, cpuReading{threads{"1": 7}, 900}, 800},
		"no threads":       {cpuReading{nil, 100}, cpuReading{nil, 900}, 800},
		"nothing told":     {cpuReading{threads{"1": 0}, 100}, cpuReading{threads{"1": 0}, 900}, 800},
	} {
		if got := c.after.since(c.before); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
