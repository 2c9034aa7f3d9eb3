package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/chmpx/chmpx/testcluster/check"
)

// ErrLeak is wrapped when a node uses more than before after what it should
// have survived unchanged.
var ErrLeak = errors.New("testcluster: a node leaks")

const (
	warmRounds = 50 // not judged for leaks: pools and tables grow to their size
	dieWithin  = 30 * time.Millisecond
	attachWait = time.Minute // for a program that shall die
	settleWait = time.Minute // until a node has given back what it used for the dead
	soakKeys   = 48
	soakRate   = 2000
	soakPause  = time.Minute // for answers that are missing when the load ends
	loadAtMost = 4_000_000   // requests, more than any soak sends
)

// runPrograms lets programs die in the middle of messages and strangers write
// garbage, beside a load that must be answered, and then looks for leaks.
func (s *soak) runPrograms(ctx context.Context) error {
	load := Load{Requests: loadAtMost, PerSecond: soakRate, Keys: soakKeys, Patience: soakPause}
	client, progress, err := s.StartLoad(s.Self, "client", s.Slaves[0], load)
	if err != nil {
		return err
	}
	go drainProgress(progress) // ends with the program
	var before []check.Usage
	for i := range s.Rounds {
		if i == min(warmRounds, s.Rounds/2) {
			if before, err = s.usages(ctx); err != nil {
				return err
			}
		}
		if err := s.round(ctx, i); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
		if (i+1)%100 == 0 {
			s.say("%d rounds", i+1)
		}
	}
	asked, err := s.endLoad(ctx, client)
	if err != nil {
		return err
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	// What dead programs had taken is on no record: only lost ones can be judged.
	v := Judge(asked, nil, 0, 0)
	s.say("sent %d, answered %d, lost %d", v.Sent, v.Answered, v.Lost)
	if v.Lost > 0 {
		return fmt.Errorf("%w: %d of %d requests lost", ErrLost, v.Lost, v.Sent)
	}
	return s.compare(ctx, before)
}

func drainProgress(c <-chan Progress) {
	for range c {
	}
}

// endLoad ends a client program and returns its records.
func (s *soak) endLoad(ctx context.Context, p *Proc) ([]Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*soakPause+10*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		return nil, fmt.Errorf("end the load: %w", err)
	}
	return readRecords[Asked](s.records(p.Name))
}

// round kills a client and a server program in the middle of messages, on the
// slave and on one server, while a stranger writes garbage to one node.
func (s *soak) round(ctx context.Context, i int) error {
	server := s.Servers[s.random.IntN(len(s.Servers))]
	stranger := s.Nodes()[s.random.IntN(len(s.Nodes()))]
	clientNode := s.Nodes()[s.random.IntN(len(s.Nodes()))]
	after := [2]time.Duration{time.Duration(s.random.Int64N(int64(dieWithin))), time.Duration(s.random.Int64N(int64(dieWithin)))}
	errs := make([]error, 3)
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = s.die(ctx, fmt.Sprintf("victim-client-%d", i), clientNode, "client", after[0]) })
	wg.Go(func() { errs[1] = s.die(ctx, fmt.Sprintf("victim-server-%d", i), server, "server", after[1]) })
	errs[2] = s.Garbage(ctx, stranger, s.random)
	wg.Wait()
	for _, p := range append(s.programs, s.procsOf(s.Nodes())...) {
		if !p.Running() {
			errs = append(errs, fmt.Errorf("%w: %s", ErrEnded, p.Name))
		}
	}
	return errors.Join(errs...)
}

func (s *soak) procsOf(nodes []*Node) (procs []*Proc) {
	for _, n := range nodes {
		procs = append(procs, n.Proc())
	}
	return procs
}

// die starts a program that uses its rings as fast as it can and kills it some
// time after it has attached.
func (s *soak) die(ctx context.Context, name string, n *Node, role string, after time.Duration) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer r.Close()
	p, err := s.Start(name, w, s.Self, "_flood", "-conf", n.Conf(), "-role", role)
	_ = w.Close() // the program has its own
	if err != nil {
		return err
	}
	defer os.Remove(s.path(name + ".log"))
	defer func() {
		p.Kill()
		s.Forget(p)
	}()
	if err := r.SetReadDeadline(time.Now().Add(attachWait)); err != nil {
		return fmt.Errorf("wait for %s to attach: %w", name, err)
	}
	line := make([]byte, len("attached\n"))
	if _, err := r.Read(line); err != nil {
		text, _ := os.ReadFile(s.path(name + ".log"))
		return fmt.Errorf("wait for %s to attach: %w: %s", name, err, strings.TrimSpace(string(text)))
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// usages asks every node, when it holds nothing for dead programs.
func (s *soak) usages(ctx context.Context) ([]check.Usage, error) {
	var all []check.Usage
	for _, n := range s.Nodes() {
		alive := 1 // server program
		if n.slave {
			alive = sessions
		}
		u, err := s.usage(ctx, n, func(u check.Usage) bool { return u.Attached <= alive })
		if err != nil {
			return nil, err
		}
		s.say("%-2s %v", n.Name, u)
		all = append(all, u)
	}
	return all, nil
}

// usage asks a node until the answer is settled.
func (s *soak) usage(ctx context.Context, n *Node, settled func(check.Usage) bool) (u check.Usage, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if u, err = n.Usage(ctx); err == nil && settled(u) {
			return u, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("%w: %s: %v", ErrLeak, n.Name, u)
			}
			return u, err
		}
	}
}

// compare fails with ErrLeak unless every node comes back to what it used
// before, less the programs that were alive then.
func (s *soak) compare(ctx context.Context, before []check.Usage) error {
	var errs []error
	for i, n := range s.Nodes() {
		b := before[i]
		u, err := s.usage(ctx, n, func(u check.Usage) bool { return u.Exceeds(b) == nil })
		s.say("%-2s %v", n.Name, u)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
