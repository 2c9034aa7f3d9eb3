package testcluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// oneWayKeys is the first key of the messages that nobody answers.
const oneWayKeys = 1 << 20

// How long a killed node stays dead: mostly a moment, as under a supervisor;
// sometimes long enough to be declared down and replaced.
const (
	deadShort = 300 * time.Millisecond
	deadLong  = 3 * time.Second
)

// runKills kills nodes at random moments, one after the other and sometimes
// before the last one is back, while programs on the slave and on a server
// node send. Programs live on. Everything that was accepted must be taken, in
// order, and repeats must be marked.
func (s *soak) runKills(ctx context.Context) error {
	load := Load{Requests: loadAtMost, PerSecond: soakRate, Keys: soakKeys, Patience: soakPause}
	asking, progress, err := s.StartLoad(s.Self, "asking", s.Slaves[0], load)
	if err != nil {
		return err
	}
	go drainProgress(progress)
	oneWay := load
	oneWay.OneWay, oneWay.FirstKey = true, oneWayKeys
	sending, progress, err := s.StartLoad(s.Self, "sending", s.Servers[0], oneWay)
	if err != nil {
		return err
	}
	go drainProgress(progress)
	for i := range s.Kills {
		if err := s.killOne(ctx); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		if (i+1)%10 == 0 {
			s.say("%d kills", i+1)
		}
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	asked, err := s.endLoad(ctx, asking)
	if err != nil {
		return err
	}
	sent, err := s.endLoad(ctx, sending)
	if err != nil {
		return err
	}
	stopCtx, cancel := context.WithTimeout(ctx, soakPause)
	defer cancel()
	taken, err := s.StopServerPrograms(stopCtx, s.programs)
	if err != nil {
		return err
	}
	return s.judgeKills(asked, sent, taken)
}

// killOne kills one node and starts it again.
func (s *soak) killOne(ctx context.Context) error {
	n := s.Nodes()[s.random.IntN(len(s.Nodes()))]
	dead := time.Duration(s.random.Int64N(int64(deadShort)))
	if s.random.IntN(8) == 0 {
		dead = time.Duration(s.random.Int64N(int64(deadLong)))
	}
	rest := time.Duration(s.random.Int64N(int64(time.Second)))
	if err := pause(ctx, rest); err != nil {
		return err
	}
	n.Kill()
	if err := pause(ctx, dead); err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	if s.random.IntN(3) > 0 {
		return s.whole(ctx)
	}
	return nil // the next one dies while this one comes back
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// judgeKills judges both loads.
func (s *soak) judgeKills(asked, sent []Asked, taken []Taken) error {
	var requests, oneWay []Taken
	for _, t := range taken {
		if t.Key >= oneWayKeys {
			oneWay = append(oneWay, t)
		} else {
			requests = append(requests, t)
		}
	}
	var errs []error
	for _, load := range []struct {
		name  string
		asked []Asked
		taken []Taken
	}{{"requests", asked, requests}, {"one-way messages", sent, oneWay}} {
		v := Judge(load.asked, load.taken, 0, 0)
		v.Lost += neverTaken(load.asked, load.taken)
		s.say("%s: accepted %d, lost %d, repeated %d, of these unmarked %d, in wrong order %d",
			load.name, v.Sent, v.Lost, v.Repeated, v.Unmarked, v.WrongOrder)
		if v.Lost > 0 || v.Unmarked > 0 || v.WrongOrder > 0 {
			errs = append(errs, fmt.Errorf("%w: %s: %d lost, %d repeated without a mark, %d in wrong order",
				ErrLost, load.name, v.Lost, v.Unmarked, v.WrongOrder))
		}
	}
	return errors.Join(errs...)
}

// neverTaken counts messages that were accepted, or answered, and that no
// server program was given.
func neverTaken(asked []Asked, taken []Taken) (n int) {
	type message struct{ key, n uint32 }
	got := make(map[message]struct{}, len(taken))
	for _, t := range taken {
		got[message{t.Key, t.N}] = struct{}{}
	}
	for _, a := range asked {
		if _, ok := got[message{a.Key, a.N}]; !ok && a.AnsweredNs != 0 {
			n++
		}
	}
	return n
}
