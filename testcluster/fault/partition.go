package fault

import (
	"context"
	"slices"
	"strings"

	"github.com/chmpx/chmpx/testcluster/netem"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// Partition splits the hosts into two groups that cannot reach each other.
type Partition struct{}

const (
	partitionHangs  = "hangs"
	partitionResets = "refuses"
	partitionMark   = "|" // between the groups in the targets
)

// Info implements Fault.
func (Partition) Info() Info {
	return Info{Name: "partition", About: "the hosts fall into two groups between which connections hang, or are refused",
		Hits: "all hosts", Undone: "they reach each other again"}
}

// Draw implements Fault.
func (Partition) Draw(d Dice) Event {
	hosts := slices.Concat(d.Servers, d.Slaves)
	d.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	hosts = slices.Insert(hosts, 1+d.IntN(len(hosts)-1), partitionMark)
	return Event{For: d.netFor(), Targets: hosts, Detail: []string{partitionHangs, partitionResets}[d.IntN(2)]}
}

// Begin implements Fault.
func (Partition) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	middle := slices.Index(e.Targets, partitionMark)
	var directions [][2]string
	for _, a := range e.Targets[:max(middle, 0)] {
		for _, b := range e.Targets[middle+1:] {
			directions = append(directions, bothWays(a, b)...)
		}
	}
	o, err := onPaths(r, e, netem.Condition{Hold: e.Detail == partitionHangs, Refuse: e.Detail == partitionResets}, directions)
	if err == nil {
		o.Detail = strings.Join(e.Targets, " ") + " " + e.Detail
		o.Targets = slices.DeleteFunc(slices.Clone(e.Targets), func(s string) bool { return s == partitionMark })
	}
	return o, err
}
