package fault

import (
	"context"
	"syscall"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// PauseProgram stops a program without a word.
type PauseProgram struct{}

// Info implements Fault.
func (PauseProgram) Info() Info {
	return Info{Name: "pause-program", About: "SIGSTOP of a program", Hits: "one program", Undone: "SIGCONT"}
}

// Draw implements Fault.
func (PauseProgram) Draw(d Dice) Event {
	return Event{For: d.between(50*time.Millisecond, 6*time.Second), Targets: []string{d.program()}}
}

// Begin implements Fault.
func (PauseProgram) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	p, release, err := claimProgram(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		return p.Signal(syscall.SIGCONT)
	}}, nil
}
