package run

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/testcluster/fault"
	"github.com/chmpx/chmpx/testcluster/rig"
)

const (
	menuSize  = 6                       // kinds of faults of one round
	firstAt   = time.Second             // nothing is wrong before
	restAfter = 1500 * time.Millisecond // after a fault in rounds that have one at a time
)

// draw draws the schedule of a round: the same numbers draw the same one. All
// faults have their turns. In one round of four they come one at a time, so
// that it can be told which fault makes messages wait for how long. gap is the
// time between the begins of two faults, on average.
func draw(seed uint64, round int, length, gap time.Duration, faults []fault.Fault, dice fault.Dice) []fault.Event {
	turns := slices.Clone(faults)
	order := rand.New(rand.NewPCG(seed, math.MaxUint64))
	order.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	var menu []fault.Fault
	for i := range min(menuSize, len(turns)) {
		menu = append(menu, turns[(round*menuSize+i)%len(turns)])
	}
	dice.Rand = rand.New(rand.NewPCG(seed, uint64(round)))
	single := dice.IntN(4) == 0
	var events []fault.Event
	for at := firstAt; at < length; {
		f := menu[dice.IntN(len(menu))]
		if round == 0 || len(events) < len(menu) {
			f = menu[len(events)%len(menu)]
		}
		e := f.Draw(dice)
		e.Fault, e.At = f.Info().Name, at
		e.For = min(e.For, length-at)
		events = append(events, e)
		if single {
			at += e.For + restAfter
		} else {
			at += time.Duration(dice.ExpFloat64() * float64(gap))
		}
	}
	return events
}

// diceOf says whom the faults of a ring may hit.
func diceOf(r *rig.Rig) (d fault.Dice) {
	for _, h := range r.Hosts {
		if h.Slave() {
			d.Slaves = append(d.Slaves, h.Name)
		} else {
			d.Servers = append(d.Servers, h.Name)
		}
	}
	for _, p := range r.Programs {
		if p.Sender {
			d.Senders = append(d.Senders, p.Name)
		} else {
			d.Receivers = append(d.Receivers, p.Name)
		}
	}
	return d
}

// withoutForwarders leaves out the faults that need the network of forwarders.
func withoutForwarders(faults []fault.Fault) []fault.Fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f fault.Fault) bool { return f.Info().Forwarders })
}

// Command returns the command that draws the same schedule again.
func (o *Options) Command() string {
	words := []string{"chmpx-testcluster run", fmt.Sprintf("--servers %d --slaves %d --replica %d --faults %s", o.Servers, o.Slaves, o.Replica, o.Faults)}
	if o.Rounds > 0 {
		words = append(words, fmt.Sprintf("--rounds %d", o.Rounds))
	} else {
		words = append(words, fmt.Sprintf("--duration %v", o.Duration))
	}
	words = append(words, fmt.Sprintf("--round %v --gap %v --rate %d --operators %d --rest %v --seed %d", o.Round, o.Gap, o.Rate, o.Operators, o.OperatorRest, o.Seed))
	if o.Netns {
		words = append(words, "--netns")
	}
	if o.StandInAfter > 0 {
		words = append(words, fmt.Sprintf("--stand-in-after %v", o.StandInAfter))
	}
	if o.Bug != "" {
		words = append(words, "--bug "+o.Bug)
	}
	return strings.Join(words, " ")
}
