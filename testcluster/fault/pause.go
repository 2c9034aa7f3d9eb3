package fault

import (
	"context"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Pause stops a node's process without a word: its connections stay open.
type Pause struct{ Long bool }

// Info implements Fault.
func (p Pause) Info() Info {
	if p.Long {
		return Info{Name: "pause-long", About: "SIGSTOP of a node for longer than DOWNAFTER: it is declared down and does not know",
			Hits: "one server or slave", Undone: "SIGCONT"}
	}
	return Info{Name: "pause-short", About: "SIGSTOP of a node for less than DOWNAFTER", Hits: "one server or slave", Undone: "SIGCONT"}
}

// Draw implements Fault.
func (p Pause) Draw(d Dice) Event {
	if p.Long {
		return Event{For: d.between(3*time.Second, 8*time.Second), Targets: []string{d.server()}}
	}
	return Event{For: d.between(50*time.Millisecond, 1800*time.Millisecond), Targets: []string{d.host()}}
}

// Begin implements Fault.
func (p Pause) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	h, release, err := claimNode(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	if err := h.Pause(); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, End: func(context.Context) error {
		defer release()
		return h.Resume()
	}}, nil
}
