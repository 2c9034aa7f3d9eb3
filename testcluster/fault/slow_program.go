package fault

import (
	"context"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// SlowProgram lets a receiver take longer for each message than they come.
type SlowProgram struct{}

// Info implements Fault.
func (SlowProgram) Info() Info {
	return Info{Name: "slow-receiver", About: "a program takes up to 30 ms for each message", Hits: "one server program", Undone: "it is fast again"}
}

// Draw implements Fault.
func (SlowProgram) Draw(d Dice) Event {
	return Event{For: d.between(500*time.Millisecond, 6*time.Second), Targets: []string{d.one(d.Receivers)}}
}

// Begin implements Fault.
func (SlowProgram) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	p, release, err := claimProgram(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		return p.Signal(syscall.SIGUSR2)
	}}, nil
}
