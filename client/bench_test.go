package client

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// attachBench attaches to a node that is another process and echoes.
func attachBench(b *testing.B) *Client {
	path := b.TempDir() + "/node.sock"
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CLIENT_TEST_NODE="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	c, err := Attach(b.Context(), Options{Socket: path})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkRequest measures requests of 128 B that another process answers.
func BenchmarkRequest(b *testing.B) {
	payload := make([]byte, 128)
	b.Run("1", func(b *testing.B) {
		c := attachBench(b)
		took := make([]time.Duration, b.N)
		before := cpu()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			start := time.Now()
			if _, err := c.Request(context.Background(), uint64(i), payload); err != nil {
				b.Fatal(err)
			}
			took[i] = time.Since(start)
		}
		b.StopTimer()
		slices.Sort(took)
		b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
		b.ReportMetric(float64(took[b.N/2].Nanoseconds()), "p50-ns")
	})
	b.Run("8 goroutines", func(b *testing.B) {
		c := attachBench(b)
		b.SetParallelism(4)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Request(context.Background(), 1, payload); err != nil {
					b.Error(err)
				}
			}
		})
	})
	for name, window := range map[string]int{"async 64": 64, "async 1000": 1000} {
		b.Run(name, func(b *testing.B) { benchAsync(b, attachBench(b), payload, window) })
	}
}

func benchAsync(b *testing.B, c *Client, payload []byte, window int) {
	tokens := make(chan struct{}, window)
	var failed atomic.Value
	done := func(_ []byte, err error) {
		if err != nil {
			failed.Store(err)
		}
		<-tokens
	}
	before := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		tokens <- struct{}{}
		if err := c.RequestAsync(context.Background(), uint64(i), payload, done); err != nil {
			b.Fatal(err)
		}
	}
	for range window {
		tokens <- struct{}{}
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
	if err := failed.Load(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkServe measures a server program: messages of 128 B are sent by one
// goroutine and taken by Serve, all replies go back, 1000 in flight.
func BenchmarkServe(b *testing.B) {
	c := attachBench(b)
	server, err := Attach(b.Context(), Options{Socket: c.paths[0], Role: RoleServer})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(ctx, 1, func(_ context.Context, m *Message) ([]byte, error) { return m.Payload, nil })
	}()
	benchAsync(b, c, make([]byte, 128), 1000)
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// cpu returns the processor time of this process in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}
