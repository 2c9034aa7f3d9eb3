// Package fault has the faults that a ring under test must survive. Each is a
// small type in a file of its own: it says what it is, draws whom it hits from a
// seed, begins, and ends. To add one, write its file and add it to All.
package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/testcluster/rig"
)

// Fault is a kind of fault.
type Fault interface {
	Info() Info
	// Draw chooses whom it hits, for how long, and whatever else it needs. The
	// same random numbers draw the same event.
	Draw(d Dice) Event
	// Begin begins an event that Draw has drawn. ErrSkipped: it makes no sense now.
	Begin(ctx context.Context, r *rig.Rig, e Event) (*Ongoing, error)
}

// Info is what people are told about a fault.
type Info struct {
	Name   string
	About  string // one line
	Hits   string // whom
	Undone string // how it ends
	// Forwarders: it needs the network of forwarders, not that of the kernel.
	Forwarders bool
}

// Event is one fault that was drawn.
type Event struct {
	At      time.Duration `json:"at"`  // from the begin of the round
	For     time.Duration `json:"for"` // until it ends
	Fault   string        `json:"fault"`
	Targets []string      `json:"targets"`          // hosts or programs
	Detail  string        `json:"detail,omitempty"` // means something to the fault
}

// String returns the event as a line of a schedule.
func (e Event) String() string {
	return fmt.Sprintf("%6.2fs  %-15s %-28s for %5.2fs  %s", e.At.Seconds(), e.Fault, strings.Join(e.Targets, " "), e.For.Seconds(), e.Detail)
}

// Ongoing is a fault that has begun.
type Ongoing struct {
	Targets []string                    // hosts or programs that it hit
	Detail  string                      // for people
	Early   <-chan struct{}             // closed when it can end before its time; nil: never
	End     func(context.Context) error // undoes it; called once
}

// ErrSkipped says that a fault did not begin: what it hits is in the works of
// another one, or it would destroy what no ring survives.
var ErrSkipped = errors.New("fault: skipped")

// All returns all faults, in the order in which they are listed.
func All() []Fault {
	return []Fault{
		Kill{Server}, Kill{Leader}, Kill{Slave}, KillAll{}, Stop{}, Pause{Long: false}, Pause{Long: true}, CrashNode{}, Wipe{},
		KillProgram{Sender: false}, KillProgram{Sender: true}, PauseProgram{}, SlowProgram{}, CrashProgram{},
		Disk{"slow"}, Disk{"hang"}, Disk{"full"}, Clock{},
		Cut{}, Hang{OneWay: false}, Hang{OneWay: true}, Partition{}, LinkDown{},
		Delay{}, Loss{}, Reorder{}, Narrow{}, Garbage{},
	}
}

// ByName returns the faults of a list of names with commas between them; "all"
// are all, and a name with a minus before it is taken away.
func ByName(list string) ([]Fault, error) {
	var chosen []Fault
	for _, name := range strings.Split(list, ",") {
		name, minus := strings.CutPrefix(strings.TrimSpace(name), "-")
		found := slices.Collect(func(yield func(Fault) bool) {
			for _, f := range All() {
				if (name == "all" || f.Info().Name == name) && !yield(f) {
					return
				}
			}
		})
		switch {
		case len(found) == 0:
			return nil, fmt.Errorf("fault: no fault %q; list shows what there is", name)
		case minus && len(chosen) == 0:
			chosen = All()
			fallthrough
		case minus:
			chosen = slices.DeleteFunc(chosen, func(f Fault) bool { return f.Info().Name == name })
		default:
			chosen = append(chosen, found...)
		}
	}
	return chosen, nil
}

// Begin begins an event.
func Begin(ctx context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	for _, f := range All() {
		if f.Info().Name == e.Fault {
			return f.Begin(ctx, r, e)
		}
	}
	return nil, fmt.Errorf("fault: no fault %q", e.Fault)
}

// Dice draw events. The random numbers decide everything.
type Dice struct {
	*rand.Rand
	Servers, Slaves    []string // hosts
	Receivers, Senders []string // programs
}

// one returns one of the names.
func (d Dice) one(names []string) string { return names[d.IntN(len(names))] }

// host returns one of all hosts.
func (d Dice) host() string { return d.one(slices.Concat(d.Servers, d.Slaves)) }

// server returns one of the servers.
func (d Dice) server() string { return d.one(d.Servers) }

// pair returns two hosts of which one connects to the other.
func (d Dice) pair() []string {
	to := d.server()
	for {
		if from := d.host(); from != to {
			return []string{from, to}
		}
	}
}

// between draws a duration.
func (d Dice) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.Int64N(int64(most-least)))
}

// claim returns the host that an event names, and reserves a part of it.
func claim(r *rig.Rig, name, part string) (h *rig.Host, release func(), err error) {
	if h = r.Host(name); h == nil {
		return nil, nil, fmt.Errorf("fault: no host %q", name)
	}
	release, ok := h.Claim(part)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %s is busy with its %s", ErrSkipped, name, part)
	}
	return h, release, nil
}

// claimNode claims a node that runs.
func claimNode(r *rig.Rig, name string) (h *rig.Host, release func(), err error) {
	if h, release, err = claim(r, name, "node"); err != nil {
		return nil, nil, err
	}
	if !h.Node.Running() {
		release()
		return nil, nil, fmt.Errorf("%w: node %s has ended", ErrSkipped, name)
	}
	return h, release, nil
}
