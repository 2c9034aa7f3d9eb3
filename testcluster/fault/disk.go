package fault

import (
	"context"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Disk is a disk that does not do what it should.
type Disk struct{ State string }

// Info implements Fault.
func (f Disk) Info() Info {
	about := map[string]string{
		"slow": "each write to disk takes up to 200 ms longer", "hang": "writes to disk take until the fault is over", "full": "writes to disk fail",
	}
	return Info{Name: "disk-" + f.State, About: about[f.State], Hits: "one server or slave", Undone: "the disk is well again"}
}

// Draw implements Fault.
func (f Disk) Draw(d Dice) Event {
	e := Event{For: d.between(500*time.Millisecond, 6*time.Second), Targets: []string{d.host()}, Detail: f.State}
	if f.State == "slow" {
		e.Detail += " " + d.between(5*time.Millisecond, 200*time.Millisecond).Round(time.Millisecond).String()
	}
	return e
}

// Begin implements Fault.
func (Disk) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	h, release, err := claim(r, e.Targets[0], "disk")
	if err != nil {
		return nil, err
	}
	if err := h.SetDisk(e.Detail); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, Detail: e.Detail, End: func(context.Context) error {
		defer release()
		return h.SetDisk("ok")
	}}, nil
}
