package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/wire"
)

// SenderOptions say what a sender sends.
type SenderOptions struct {
	Program
	Sessions  int           // each has a goroutine and a history of its own
	PerSecond int           // messages of all sessions together
	Patience  time.Duration // how long it waits in the end until everything is settled
}

// RunSender sends until ctx ends, waits until everything that was accepted is
// settled, and returns. It fails when that takes longer than Patience.
func RunSender(ctx context.Context, o SenderOptions) error {
	errs := make([]error, o.Sessions)
	var wg sync.WaitGroup
	for i := range o.Sessions {
		wg.Go(func() { errs[i] = runSession(ctx, o, i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// session is one attachment that sends from one goroutine, so that its n-th
// accepted message has the sequence n.
type session struct {
	SenderOptions
	c      *client.Client
	w      *check.Writer
	random *rand.Rand
	mix    mix
	id     wire.SessionID
	hashes []uint64
	buf    []byte

	mu   sync.Mutex // guards what follows: callbacks come on other goroutines
	open int        // requests without an outcome
	err  error      // the first that ends the session: histories that cannot be written, corrupt replies
}

// sharedHashes are those that all sessions have in common.
var sharedHashes = func() (all [32]uint64) {
	random := rand.New(rand.NewPCG(0, 0))
	for i := range all {
		all[i] = random.Uint64()
	}
	return all
}()

func runSession(ctx context.Context, o SenderOptions, index int) error {
	s := &session{SenderOptions: o, random: rand.New(rand.NewPCG(o.Seed, uint64(index)))}
	s.mix = mixes[(int(o.Seed%uint64(len(mixes)))+index)%len(mixes)]
	for i := range s.mix.keys {
		hash := s.random.Uint64()
		if i%2 == 0 { // others send by it, too: two owners show only then
			hash = sharedHashes[hash%uint64(len(sharedHashes))]
		}
		s.hashes = append(s.hashes, hash)
	}
	// A callback may come before Attach has returned the Client.
	ready := make(chan struct{})
	c, w, err := o.attach(ctx, client.Options{Undelivered: func(u client.Undelivered) {
		<-ready
		s.undelivered(u)
	}}, index)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before there was a node
		}
		return err
	}
	s.c, s.w, s.id = c, w, c.Session()
	s.buf = make([]byte, c.MessageBytesMax())
	close(ready)
	err = s.send(ctx)
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Patience)
	defer cancel()
	if err == nil {
		err = s.drain(drainCtx)
	}
	err = errors.Join(err, c.Close(), w.Close())
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.err)
}

// send sends until ctx ends.
func (s *session) send(ctx context.Context) error {
	gap := time.Second * time.Duration(s.Sessions) / time.Duration(s.PerSecond)
	for burst := 0; ; burst-- {
		if burst <= 0 {
			burst = 1 + s.random.IntN(2*burstMean-1)
			if !pause(ctx, time.Duration(s.random.Int64N(int64(2*gap)*burstMean))) {
				return nil
			}
		}
		if err := s.one(ctx); err != nil {
			return err
		}
		if err := s.failure(); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// burstMean is how many messages are sent without a pause, on average.
const burstMean = 4

// drain waits until everything is settled and has an outcome.
func (s *session) drain(ctx context.Context) error {
	if err := s.c.Drain(ctx); err != nil {
		return fmt.Errorf("session %x: %w", s.id[:], err)
	}
	for s.waiting() {
		if !pause(ctx, 10*time.Millisecond) {
			return nil // requests may end unknown; the judge says whether they may
		}
	}
	return nil
}

func (s *session) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open > 0
}

func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail remembers an error that must not be lost.
func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// add writes an event of this session down; any goroutine.
func (s *session) add(e check.Event) {
	e.Session = s.id
	if err := s.w.Add(e); err != nil {
		s.fail(err)
	}
}

// outcome writes down how an accepted message ended that is no success.
// Errors that say nothing about the message write nothing.
func (s *session) outcome(e check.Event, err error) {
	switch {
	case errors.Is(err, client.ErrClosed):
		return
	case errors.Is(err, client.ErrMaybeDelivered):
		e.What = check.MaybeFailed
	case errors.Is(err, client.ErrNotDelivered):
		e.What = check.Failed
	default:
		s.fail(fmt.Errorf("traffic: message %d ended with an error of no kind: %w", e.Seq, err))
		return
	}
	s.add(e)
}

// undelivered is told of messages that the ring gave up.
func (s *session) undelivered(u client.Undelivered) {
	e := check.Event{What: check.Failed, Seq: u.Seq, Hash: u.Hash}
	if u.MaybeDelivered {
		e.What = check.MaybeFailed
	}
	s.add(e)
}

// replied takes a reply.
func (s *session) replied(e check.Event, reply []byte) {
	node, err := checkReply(reply, e.Seq)
	if err != nil {
		s.fail(err)
		return
	}
	e.What, e.Peer = check.Replied, node
	s.add(e)
}
