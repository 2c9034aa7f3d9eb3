package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ops"
)

// A child has two pipes besides the standard files: it writes reports to the
// first and reads orders from the second.
const (
	fdReports = 3
	fdOrders  = 4
)

// The orders, one byte each. The end of the pipe means stop.
const (
	orderStart = 'g'
	orderStop  = 's'
)

// report is what a child writes, one JSON value per line.
type report struct {
	Ready  bool    `json:"ready,omitempty"`
	Error  string  `json:"error,omitempty"`
	Result *result `json:"result,omitempty"`
}

// runChild is one of the processes that do the work. It returns its exit code.
func runChild(s settings, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	reports := json.NewEncoder(os.NewFile(fdReports, "reports"))
	orders := os.NewFile(fdOrders, "orders")
	_ = os.WriteFile("/proc/self/comm", []byte("chmpxbench"), 0) // in place of "exe", for ps and top only
	r, err := work(s, stdout, stderr, signals, orders, func() error { return reports.Encode(report{Ready: true}) })
	rep := report{Result: r}
	if err != nil {
		rep = report{Error: err.Error()}
	}
	if err := reports.Encode(rep); err != nil || rep.Error != "" {
		return 1 // the parent says why, or is gone
	}
	return 0
}

// work attaches, says that it is ready, waits for the start and does what the
// settings ask for until it is done, a signal comes or the parent says stop.
func work(s settings, stdout, stderr io.Writer, signals <-chan os.Signal, orders io.Reader, ready func() error) (*result, error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { // ends with the process at the latest: a signal cannot be awaited in another way
		select {
		case <-signals:
			stop()
		case <-ctx.Done():
		}
	}()
	role := client.RoleClient
	if s.server {
		role = client.RoleServer
	}
	attachCtx, cancel := context.WithTimeout(ctx, s.attachTimeout)
	defer cancel()
	c, err := client.Attach(attachCtx, client.Options{
		Config: s.source.Path, JSON: s.source.Text, CtlPort: s.ctlPort, CUK: s.cuk, Role: role, Name: "chmpxbench", Logger: ops.NewLogger(s.level, stderr),
	})
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	defer c.Close()
	if err := ready(); err != nil {
		return nil, fmt.Errorf("tell the parent: %w", err)
	}
	order := make([]byte, 1)
	if _, err := io.ReadFull(orders, order); err != nil || order[0] != orderStart {
		return &result{}, nil
	}
	go func() { // ends with the process at the latest: the parent closes the pipe when it is done
		_, _ = io.ReadFull(orders, order)
		stop()
	}()
	// The end of -duration ends the loops, not the requests under way: their
	// replies would find nobody, and hold up those of the next run.
	loops := ctx
	if s.duration > 0 {
		loops, cancel = context.WithTimeout(ctx, s.duration)
		defer cancel()
	}
	return measured(func() (*result, error) { return s.load(ctx, loops, c, &lockedWriter{w: stdout}) })
}

// load runs the threads of this process until loops ends; the end of ctx also
// ends what they are waiting for.
func (s settings) load(ctx, loops context.Context, c *client.Client, out io.Writer) (*result, error) {
	thread := uint64(os.Getpid()) << 16 // unique on the host, with one number for each thread
	if s.server {
		run := serverRun{settings: s, c: c, thread: thread, out: out}
		if s.loops == 0 {
			return run.endless(loops)
		}
		return run.counted(loops), nil
	}
	// A message that nobody may take for a long time is not to be accepted.
	opts := []client.CallOption{client.FailWithoutOwner(s.timeout)}
	guards := make([]*guard, s.threads)
	threads := make([]clientThread, s.threads)
	for i := range threads {
		guards[i] = newGuard(ctx, s.timeout)
		defer guards[i].close()
		threads[i] = clientThread{settings: s, c: c, guard: guards[i], opts: opts, body: newBody(thread+uint64(i), s.bodyBytes), out: out}
		threads[i].result.latency = newHistogram()
	}
	stopWatch := startWatch(ctx, guards, s.timeout)
	defer stopWatch()
	total := &result{}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards total
	for i := range threads {
		wg.Go(func() {
			t := &threads[i]
			if s.window > 1 {
				w := newWindowThread(*t, thread+uint64(i))
				w.run(loops)
				t = &w.clientThread
			} else {
				t.run(loops)
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(&t.result)
		})
	}
	wg.Wait()
	return total, nil
}

// measured adds begin, end and CPU time of the process to a result.
func measured(f func() (*result, error)) (*result, error) {
	start, cpu := time.Now(), cpuTime()
	r, err := f()
	if err != nil {
		return nil, err
	}
	r.StartNs, r.EndNs, r.CPU = start.UnixNano(), start.UnixNano()+int64(time.Since(start)), cpuTime()-cpu
	return r, r.pack()
}

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
