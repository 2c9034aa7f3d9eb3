package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/testcluster/check"
)

// ReceiverOptions say how a receiver takes messages.
type ReceiverOptions struct {
	Program
	AckOnDone bool // take with AckOnDone, several at a time, and be done with them in any order
}

const (
	replyWait = 5 * time.Second // for room
	idle      = 20 * time.Millisecond
	heldMost  = 16                    // messages that are not done
	slowMost  = 30 * time.Millisecond // of one message, between SIGUSR1 and SIGUSR2
)

// receiver takes from one goroutine, so that the order of its history is that
// in which the messages were taken.
type receiver struct {
	ReceiverOptions
	c      *client.Client
	w      *check.Writer
	random *rand.Rand
	held   []*client.Message
	slow   atomic.Bool
}

// RunReceiver takes and answers messages until ctx ends.
func RunReceiver(ctx context.Context, o ReceiverOptions) error {
	r := &receiver{ReceiverOptions: o, random: rand.New(rand.NewPCG(o.Seed, 0))}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	go func() { // ends with ctx
		for {
			select {
			case sig := <-signals:
				r.slow.Store(sig == syscall.SIGUSR1)
			case <-ctx.Done():
				return
			}
		}
	}()
	c, w, err := o.attach(ctx, client.Options{Role: client.RoleServer, AckOnDone: o.AckOnDone}, -1)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	r.c, r.w = c, w
	err = r.run(ctx)
	return errors.Join(err, c.Close(), w.Close())
}

func (r *receiver) run(ctx context.Context) error {
	for ctx.Err() == nil {
		idleCtx, cancel := context.WithTimeout(ctx, idle)
		m, err := r.c.Receive(idleCtx)
		cancel()
		switch {
		case err == nil:
			err = r.take(ctx, m)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			err = r.done(0) // nothing to do: be done with what is held
		}
		if err != nil {
			return err
		}
	}
	return r.done(0)
}

// take handles one message that was received.
func (r *receiver) take(ctx context.Context, m *client.Message) error {
	if err := r.add(check.Taken, m); err != nil {
		return err
	}
	if err := checkPayload(m.Payload, m.Seq); err != nil {
		return fmt.Errorf("message %d of session %x: %w", m.Seq, m.Session[:], err)
	}
	if r.slow.Load() {
		pause(ctx, time.Duration(r.random.Int64N(int64(slowMost))))
	}
	if m.WantsReply {
		if err := r.answer(ctx, m); err != nil {
			return err
		}
	}
	if !r.AckOnDone {
		return nil
	}
	m.Payload = nil
	r.held = append(r.held, m)
	return r.done(r.random.IntN(heldMost))
}

func (r *receiver) answer(ctx context.Context, m *client.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyWait)
	defer cancel()
	reply := make([]byte, replyBytes)
	putReply(reply, uint64(r.c.Node()), m.Seq)
	if r.c.Reply(ctx, m, reply) != nil {
		return nil // no room, or no node: the asker hears that nobody answered
	}
	return r.add(check.Answer, m)
}

// done ends held messages, in any order, until so many are left.
func (r *receiver) done(left int) error {
	for len(r.held) > left {
		i := r.random.IntN(len(r.held))
		m := r.held[i]
		r.held[i] = r.held[len(r.held)-1]
		r.held = r.held[:len(r.held)-1]
		r.c.Done(m)
		if err := r.add(check.Done, m); err != nil {
			return err
		}
	}
	return nil
}

// add writes an event about a message down. The message does not tell its kind.
func (r *receiver) add(what check.What, m *client.Message) error {
	return r.w.Add(check.Event{What: what, Session: m.Session, Seq: m.Seq, Hash: m.Hash, Marked: m.MaybeRepeat, Peer: uint64(m.From)})
}
