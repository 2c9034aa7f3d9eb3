package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Whom says which nodes a fault hits.
type Whom string

// The nodes that Kill may hit.
const (
	Server Whom = "server"
	Leader Whom = "leader" // whoever leads when the fault begins
	Slave  Whom = "slave"
)

// How long a dead node stays dead: mostly a moment, as under a supervisor,
// sometimes long enough to be replaced, rarely long enough to be taken out of
// service.
const (
	deadShort = 300 * time.Millisecond
	deadLong  = 4 * time.Second
	deadOut   = 14 * time.Second
)

func (d Dice) dead() time.Duration {
	switch n := d.IntN(12); {
	case n == 0:
		return d.between(deadLong, deadOut)
	case n < 4:
		return d.between(deadShort, deadLong)
	}
	return d.between(0, deadShort)
}

// Kill ends a node by SIGKILL.
type Kill struct{ Whom Whom }

// Info implements Fault.
func (k Kill) Info() Info {
	return Info{Name: "kill-" + string(k.Whom), About: "SIGKILL of a node", Hits: "one " + string(k.Whom), Undone: "the node is started again"}
}

// Draw implements Fault.
func (k Kill) Draw(d Dice) Event {
	e := Event{For: d.dead()}
	switch {
	case k.Whom == Leader:
		e.Targets = []string{string(Leader)}
	case k.Whom == Slave && len(d.Slaves) > 0:
		e.Targets = []string{d.one(d.Slaves)}
	default:
		e.Targets = []string{d.server()}
	}
	return e
}

// Begin implements Fault.
func (Kill) Begin(ctx context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	name := e.Targets[0]
	if name == string(Leader) {
		leader := r.Leader(ctx)
		if leader == nil {
			return nil, fmt.Errorf("%w: nobody leads", ErrSkipped)
		}
		name = leader.Name
	}
	h, release, err := claimNode(r, name)
	if err != nil {
		return nil, err
	}
	h.Kill()
	return &Ongoing{Targets: []string{name}, End: func(context.Context) error {
		defer release()
		return h.Start("")
	}}, nil
}
