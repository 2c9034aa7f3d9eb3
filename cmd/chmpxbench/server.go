package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chmpx/chmpx/client"
)

// receiver is what a server thread needs of client.Client.
type receiver interface {
	Receive(ctx context.Context) (*client.Message, error)
	Reply(ctx context.Context, m *client.Message, payload []byte) error
	Serve(ctx context.Context, threads int, h client.Handler) error
}

// serverRun is the server's side of one process.
type serverRun struct {
	settings
	c      receiver
	thread uint64    // id of the first thread
	out    io.Writer // for -pr; safe for several threads
}

// endless answers until ctx ends; an idle server is no error. Every message
// counts as one loop, whichever thread takes it.
func (s *serverRun) endless(ctx context.Context) (*result, error) {
	begin := time.Now()
	var received atomic.Int64
	err := s.c.Serve(ctx, s.threads, func(_ context.Context, m *client.Message) ([]byte, error) {
		loop := received.Add(1) - 1
		if s.print {
			fmt.Fprintf(s.out, "Receive : %s\n", visible(m.Payload))
		}
		return s.answer(m.Payload, uint64(loop)), nil
	})
	if ctx.Err() != nil {
		err = nil // ended as asked
	}
	return &result{Sent: received.Load(), Busy: time.Duration(s.threads) * time.Since(begin), latency: newHistogram()}, err
}

// answer returns the reply to a message, nil without -ta. The usual one, to a
// body of the server's own size, is the message itself.
func (s *serverRun) answer(received []byte, loop uint64) []byte {
	if !s.turnAround {
		return nil
	}
	if len(received) == s.bodyBytes && len(visible(received)) == s.bodyBytes-1 {
		return received
	}
	out := make([]byte, s.bodyBytes)
	reply(out, received, s.thread, loop)
	return out
}

// counted receives a number of messages per thread; a second without one
// counts as a loop and as an error.
func (s *serverRun) counted(ctx context.Context) *result {
	guards := make([]*guard, s.threads)
	for i := range guards {
		guards[i] = newGuard(ctx, s.timeout)
		defer guards[i].close()
	}
	stopWatch := startWatch(ctx, guards, s.timeout)
	defer stopWatch()
	results := make([]result, s.threads)
	var wg sync.WaitGroup
	for i := range guards {
		wg.Go(func() { s.countedThread(ctx, uint64(i), guards[i], &results[i]) })
	}
	wg.Wait()
	total := &result{}
	for i := range results {
		total.add(&results[i])
	}
	return total
}

func (s *serverRun) countedThread(ctx context.Context, n uint64, g *guard, r *result) {
	for i := int64(0); i < s.loops && ctx.Err() == nil; i++ {
		start, opCtx := g.begin()
		m, err := s.c.Receive(opCtx)
		if err == nil {
			if s.print {
				fmt.Fprintf(s.out, "Receive : %s\n", visible(m.Payload))
			}
			if s.turnAround {
				out := make([]byte, s.bodyBytes)
				reply(out, m.Payload, s.thread+n, uint64(i))
				err = s.c.Reply(opCtx, m, out)
			}
		}
		took, cut := g.end(start)
		if ctx.Err() != nil && err != nil {
			return
		}
		r.Sent++
		r.Busy += took
		if err != nil {
			if cut {
				err = errors.New("nothing received in time")
			}
			r.failed(err)
		}
	}
}
