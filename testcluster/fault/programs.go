package fault

import (
	"fmt"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// claimProgram claims a program that runs and has attached.
func claimProgram(r *rig.Rig, name string) (p *rig.Program, release func(), err error) {
	for _, p = range r.Programs {
		if p.Name != name {
			continue
		}
		if _, release, err = claim(r, p.Host.Name, "program "+name); err != nil {
			return nil, nil, err
		}
		if !p.Running() || !p.Attached() {
			release()
			return nil, nil, fmt.Errorf("%w: program %s is not there", ErrSkipped, name)
		}
		return p, release, nil
	}
	return nil, nil, fmt.Errorf("fault: no program %q", name)
}

// program returns a receiver or a sender.
func (d Dice) program() string {
	if d.IntN(2) == 0 {
		return d.one(d.Senders)
	}
	return d.one(d.Receivers)
}
