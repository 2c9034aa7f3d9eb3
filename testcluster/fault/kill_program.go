package fault

import (
	"context"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// KillProgram ends a program by SIGKILL.
type KillProgram struct{ Sender bool }

// Info implements Fault.
func (k KillProgram) Info() Info {
	if k.Sender {
		return Info{Name: "kill-sender", About: "SIGKILL of a program that sends", Hits: "one client program", Undone: "it is started again"}
	}
	return Info{Name: "kill-receiver", About: "SIGKILL of a program that takes", Hits: "one server program", Undone: "it is started again"}
}

// Draw implements Fault.
func (k KillProgram) Draw(d Dice) Event {
	e := Event{For: d.between(0, 2*time.Second), Targets: []string{d.one(d.Receivers)}}
	if k.Sender {
		e.Targets = []string{d.one(d.Senders)}
	}
	return e
}

// Begin implements Fault.
func (KillProgram) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	p, release, err := claimProgram(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	p.Kill()
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		return p.Start("")
	}}, nil
}
