package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// meter measures the CPU time, user and system, that processes spend. It is
// used by one goroutine.
type meter struct {
	pids   []int
	before []cpuReading
}

// cpuReading is what a process has spent so far.
type cpuReading struct {
	threads map[string]time.Duration // of its present threads, to the nanosecond; nil: this kernel does not tell
	total   time.Duration            // of all threads that it ever had, in ticks of 10 ms
}

// newMeter returns a meter of processes that exist.
func newMeter(pids []int) (*meter, error) {
	for _, pid := range pids {
		switch _, err := readCPU(pid); {
		case errors.Is(err, fs.ErrNotExist):
			return nil, &optionError{`"-pids" option value is wrong, must set process ids`, fmt.Sprintf("there is no process %d", pid)}
		case err != nil:
			return nil, &optionError{`"-pids" option value is wrong, must set process ids`, fmt.Sprintf("process %d: %v", pid, err)}
		}
	}
	return &meter{pids: pids}, nil
}

// start begins to measure.
func (m *meter) start() {
	m.before = make([]cpuReading, len(m.pids))
	for i, pid := range m.pids {
		m.before[i], _ = readCPU(pid) // who has ended since is noticed at the end
	}
}

// stop returns what the processes have spent since start, and those that have ended.
func (m *meter) stop() (spent time.Duration, ended []int) {
	for i, pid := range m.pids {
		after, err := readCPU(pid)
		if err != nil {
			ended = append(ended, pid)
			continue
		}
		spent += after.since(m.before[i])
	}
	return spent, ended
}

// since returns the difference of two readings: exactly where no thread ended
// in between, else in ticks.
func (r cpuReading) since(before cpuReading) time.Duration {
	var sum time.Duration
	for id, spent := range r.threads {
		sum += spent - before.threads[id]
	}
	for id := range before.threads {
		if _, ok := r.threads[id]; !ok {
			return r.total - before.total
		}
	}
	if sum == 0 { // the kernel does not tell, or there is little to tell
		return r.total - before.total
	}
	return sum
}

// clockTick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// architecture that we run on.
const clockTick = 10 * time.Millisecond

func readCPU(pid int) (cpuReading, error) {
	var r cpuReading
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return r, fmt.Errorf("read its CPU time: %w", err)
	}
	// "pid (name) state ppid ...", and the name may hold anything; utime and
	// stime are the fields 14 and 15.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return r, fmt.Errorf("read its CPU time: %q", text)
	}
	for _, field := range []string{fields[utime], fields[stime]} {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return r, fmt.Errorf("read its CPU time: %w", err)
		}
		r.total += time.Duration(ticks) * clockTick
	}
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return r, fmt.Errorf("read its threads: %w", err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(filepath.Join(dir, "task", task.Name(), "schedstat"))
		if err != nil {
			continue // the thread has just ended, or the kernel does not tell
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err == nil {
			if r.threads == nil {
				r.threads = map[string]time.Duration{}
			}
			r.threads[task.Name()] = time.Duration(ns)
		}
	}
	return r, nil
}
