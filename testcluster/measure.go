package testcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/chmpx/chmpx/controlplane"
)

// MeasureOptions says what Measure runs.
type MeasureOptions struct {
	Bin      string        // directory of the binaries
	Sizes    []int         // bytes of a message
	Duration time.Duration // of each case
	ColdWait bool          // HOTWAIT = off
	Out      io.Writer     // one JSON line for each case
}

// Figures is one line of Measure's output.
type Figures struct {
	Case    string  `json:"case"`
	Size    int     `json:"size"`
	Threads int     `json:"threads"`
	Window  int     `json:"window"` // requests in flight per thread
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
	Rate    float64 `json:"msgs_per_s"`
	CPU     float64 `json:"cpu_us_per_msg"` // on-CPU time of all four processes per round trip
	Errors  int64   `json:"errors"`
}

// shapes are the cases of each size: threads with one request out each, or one
// sender with many in flight.
var shapes = []struct{ threads, window int }{{1, 1}, {8, 1}, {1, 64}, {1, 1000}}

// Measure starts a server node, a slave node and a server program that sends
// every message back, and runs a client program for each size and shape.
func Measure(ctx context.Context, o MeasureOptions) error {
	keys := map[string]string{}
	if o.ColdWait {
		keys["HOTWAIT"] = "off"
	}
	return withNodes(Options{Bin: o.Bin, Servers: 1, Slaves: 1, Keys: keys}, func(c *Cluster) error {
		for _, size := range o.Sizes {
			if err := c.measureSize(ctx, o, size); err != nil {
				return err
			}
		}
		return nil
	})
}

// withNodes measures a cluster whose nodes are started before, and ended behind
// it; what they have logged is shown when it fails.
func withNodes(o Options, measure func(*Cluster) error) (err error) {
	c, err := New(o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.Logs(os.Stderr)
		}
		err = errors.Join(err, c.Close())
	}()
	if err := c.StartNodes(); err != nil {
		return err
	}
	return measure(c)
}

func (c *Cluster) measureSize(ctx context.Context, o MeasureOptions, size int) error {
	program, err := c.StartBench("bench-server", nil, "-s", "-conf", c.Servers[0].Conf(), "-l", "0", "-ta", "-dl", strconv.Itoa(size))
	if err != nil {
		return err
	}
	waitCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ready := func(st controlplane.Status) bool { return InService(st) == 1 }
	if err := c.Wait(waitCtx, "the server in service", c.Nodes(), ready); err != nil {
		return err
	}
	pids := append(family(program.Pid()), c.Servers[0].Proc().Pid(), c.Slaves[0].Proc().Pid())
	for _, s := range shapes {
		f, err := c.measureShape(ctx, o, size, s.threads, s.window, pids)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(o.Out).Encode(f); err != nil {
			return fmt.Errorf("print figures: %w", err)
		}
	}
	stopCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return program.Stop(stopCtx)
}

func (c *Cluster) measureShape(ctx context.Context, o MeasureOptions, size, threads, window int, pids []int) (Figures, error) {
	runCtx, cancel := context.WithTimeout(ctx, o.Duration+30*time.Second)
	defer cancel()
	before := cpuTime(pids)
	sum, err := c.RunBench(runCtx, "-c", "-conf", c.Slaves[0].Conf(), "-ta", "-dl", strconv.Itoa(size),
		"-threadcnt", strconv.Itoa(threads), "-window", strconv.Itoa(window), "-duration", o.Duration.String())
	if err != nil {
		return Figures{}, err
	}
	spent := cpuTime(pids) - before
	return Figures{
		Case: "chmpx", Size: size, Threads: threads, Window: window, P50: sum.P50, P99: sum.P99, Rate: sum.Rate, Errors: sum.Errors,
		CPU: sum.CPU + float64(spent)/1e3/float64(max(1, sum.Sent)),
	}, nil
}

// BenchResult is what chmpxbench prints with -result-json, as far as it is used here.
type BenchResult struct {
	Sent       int64   `json:"sent"`
	Errors     int64   `json:"errors"`
	FirstError string  `json:"first_error"`
	Rate       float64 `json:"msgs_per_s"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	CPU        float64 `json:"cpu_us_per_msg"` // of the client program
}

// StartBench starts chmpxbench with its output in a log, or in stdout.
func (c *Cluster) StartBench(name string, stdout *os.File, args ...string) (*Proc, error) {
	return c.Start(name, stdout, filepath.Join(c.opts.Bin, "chmpxbench"), args...)
}

// RunBench runs chmpxbench with -result-json to its end.
func (c *Cluster) RunBench(ctx context.Context, args ...string) (BenchResult, error) {
	var sum BenchResult
	file := c.path("bench.json")
	out, err := os.Create(file)
	if err != nil {
		return sum, fmt.Errorf("create file for the result: %w", err)
	}
	defer out.Close()
	p, err := c.StartBench("bench-client", out, append(args, "-result-json")...)
	if err != nil {
		return sum, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		p.Kill()
		return sum, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return sum, fmt.Errorf("read the result: %w", err)
	}
	if code != 0 {
		return sum, fmt.Errorf("%w: chmpxbench with exit code %d: %s", ErrEnded, code, text)
	}
	if err := json.Unmarshal(text, &sum); err != nil {
		return sum, fmt.Errorf("read the result %q: %w", text, err)
	}
	return sum, nil
}

// family returns a process and its children.
func family(pid int) []int {
	pids := []int{pid}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return pids // the pattern is constant
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state ppid ...", and the name may hold anything.
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// cpuTime returns the time that the present threads of processes were on a CPU.
func cpuTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			continue // the pattern is valid
		}
		for _, file := range files {
			var ns int64
			if text, err := os.ReadFile(file); err == nil {
				if _, err := fmt.Sscan(string(text), &ns); err == nil {
					sum += time.Duration(ns)
				}
			}
		}
	}
	return sum
}
