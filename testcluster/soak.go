package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/chmpx/chmpx/controlplane"
)

// SoakOptions says how long a soak lasts and how it is drawn.
type SoakOptions struct {
	Bin    string    // directory of the binaries
	Self   string    // program that knows the verbs of programs
	Rounds int       // of dying programs and garbage; 0: none
	Kills  int       // of nodes; 0: none
	Seed   uint64    // the same seed draws the same faults; what they meet differs
	Out    io.Writer // what happens, for people
	Keep   bool      // do not remove the directories
}

// Soak runs both parts one after the other, each in a ring of its own.
func Soak(ctx context.Context, o SoakOptions) error {
	fmt.Fprintf(o.Out, "soak: %d rounds, %d kills, seed %d\n", o.Rounds, o.Kills, o.Seed)
	for _, part := range []struct {
		times int
		run   func(*soak, context.Context) error
	}{{o.Rounds, (*soak).runPrograms}, {o.Kills, (*soak).runKills}} {
		if part.times == 0 {
			continue
		}
		if err := runSoak(ctx, o, part.run); err != nil {
			return err
		}
	}
	return nil
}

// soak is one part: a ring of three servers, REPLICA=1, with a server program
// on each, and a slave.
type soak struct {
	SoakOptions
	*Cluster
	random   *rand.Rand
	start    time.Time
	programs []*Proc
}

func runSoak(ctx context.Context, o SoakOptions, part func(*soak, context.Context) error) (err error) {
	c, err := New(Options{Bin: o.Bin, Servers: 3, Slaves: 1, Replica: 1})
	if err != nil {
		return err
	}
	s := &soak{SoakOptions: o, Cluster: c, random: rand.New(rand.NewPCG(o.Seed, 0)), start: time.Now()}
	defer func() {
		if err != nil {
			c.Logs(o.Out)
		}
		if o.Keep {
			c.KillAll()
			fmt.Fprintf(o.Out, "everything is kept in %s\n", c.Dir)
			return
		}
		err = errors.Join(err, c.Close())
	}()
	if err := c.StartNodes(); err != nil {
		return err
	}
	if s.programs, err = c.StartServerPrograms(o.Self); err != nil {
		return err
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	return part(s, ctx)
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.Out, "[%6.1fs] %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// whole waits until all three servers are in service.
func (s *soak) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	return s.Wait(ctx, "three servers in service", s.Nodes(), func(st controlplane.Status) bool { return InService(st) == 3 })
}
