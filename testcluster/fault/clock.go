package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Clock moves the wall clock of a host, for the node and its programs.
type Clock struct{}

// Info implements Fault.
func (Clock) Info() Info {
	return Info{Name: "clock", About: "the wall clock jumps, by 250 ms to 3 hours, forwards or back", Hits: "one host", Undone: "it jumps back"}
}

// Draw implements Fault.
func (Clock) Draw(d Dice) Event {
	offset := []time.Duration{250 * time.Millisecond, 2 * time.Second, time.Minute, 3 * time.Hour}[d.IntN(4)]
	if d.IntN(2) == 0 {
		offset = -offset
	}
	return Event{For: d.between(time.Second, 8*time.Second), Targets: []string{d.host()}, Detail: offset.String()}
}

// Begin implements Fault.
func (Clock) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	offset, err := time.ParseDuration(e.Detail)
	if err != nil {
		return nil, fmt.Errorf("fault: clock of %s: %w", e.Targets[0], err)
	}
	h, release, err := claim(r, e.Targets[0], "clock")
	if err != nil {
		return nil, err
	}
	if err := h.SetClock(offset); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, Detail: e.Detail, End: func(context.Context) error {
		defer release()
		return h.SetClock(0)
	}}, nil
}
