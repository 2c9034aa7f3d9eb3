package fault

import (
	"context"
	"errors"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// KillAll kills all servers at the same moment.
type KillAll struct{}

// Info implements Fault.
func (KillAll) Info() Info {
	return Info{Name: "kill-all", About: "SIGKILL of all servers at once", Hits: "all servers", Undone: "all are started again"}
}

// Draw implements Fault.
func (KillAll) Draw(d Dice) Event { return Event{For: d.between(0, deadLong), Targets: d.Servers} }

// Begin implements Fault.
func (KillAll) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	var hosts []*rig.Host
	var releases []func()
	o := &Ongoing{}
	for _, name := range e.Targets {
		h, release, err := claimNode(r, name)
		if err != nil {
			continue // another fault has it
		}
		hosts, releases, o.Targets = append(hosts, h), append(releases, release), append(o.Targets, name)
	}
	if len(hosts) == 0 {
		return nil, ErrSkipped
	}
	for _, h := range hosts {
		h.Kill()
	}
	o.End = func(context.Context) error {
		var errs []error
		for i, h := range hosts {
			errs = append(errs, h.Start(""))
			releases[i]()
		}
		return errors.Join(errs...)
	}
	return o, nil
}
