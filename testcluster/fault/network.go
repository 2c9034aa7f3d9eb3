package fault

import (
	"context"
	"errors"
	"time"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Faults of the network may lie over each other: nothing is claimed.

// onPaths puts a condition on the directions given, each a pair of hosts.
func onPaths(r *rig.Rig, e Event, c netem.Condition, directions [][2]string) (*Ongoing, error) {
	var undo []func() error
	end := func(context.Context) error {
		var errs []error
		for _, u := range undo {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
	for _, d := range directions {
		u, err := r.Net.Apply(d[0], d[1], c)
		if u != nil {
			undo = append(undo, u)
		}
		if err != nil {
			return nil, errors.Join(err, end(nil))
		}
	}
	return &Ongoing{Targets: e.Targets, Detail: e.Detail, End: end}, nil
}

// bothWays returns both directions between two hosts.
func bothWays(a, b string) [][2]string { return [][2]string{{a, b}, {b, a}} }

// netFor draws how long a fault of the network lasts: often too short for a verdict.
func (d Dice) netFor() time.Duration {
	if d.IntN(2) == 0 {
		return d.between(50*time.Millisecond, 2*time.Second)
	}
	return d.between(2*time.Second, 9*time.Second)
}
