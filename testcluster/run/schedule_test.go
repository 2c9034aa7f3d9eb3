package run

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chmpx/chmpx/testcluster/fault"
)

func dice() fault.Dice {
	return fault.Dice{Servers: []string{"a", "b", "c"}, Slaves: []string{"s0"}, Receivers: []string{"take-a", "take-b"}, Senders: []string{"send-s0"}}
}

// One seed draws one schedule, in order and within the round; another seed another.
func TestDraw(t *testing.T) {
	const length = 20 * time.Second
	for n := range 20 {
		events := draw(7, n, length, DefaultGap, fault.All(), dice())
		if diff := cmp.Diff(events, draw(7, n, length, DefaultGap, fault.All(), dice())); diff != "" {
			t.Fatalf("round %d, drawn twice:\n%s", n, diff)
		}
		if cmp.Equal(events, draw(8, n, length, DefaultGap, fault.All(), dice())) {
			t.Errorf("round %d is the same with another seed", n)
		}
		last := time.Duration(0)
		for _, e := range events {
			if e.At < last || e.At+e.For > length || e.Fault == "" || len(e.Targets) == 0 {
				t.Errorf("round %d: %v after %v", n, e, last)
			}
			last = e.At
		}
	}
}

// Every fault has its turn.
func TestDrawAll(t *testing.T) {
	drawn := map[string]bool{}
	for n := range 30 {
		for _, e := range draw(1, n, 20*time.Second, DefaultGap, fault.All(), dice()) {
			drawn[e.Fault] = true
		}
	}
	for _, f := range fault.All() {
		if !drawn[f.Info().Name] {
			t.Errorf("%s was never drawn", f.Info().Name)
		}
	}
}

// Faults are chosen by name, and names have their faults.
func TestByName(t *testing.T) {
	names := func(list string) (names []string) {
		faults, err := fault.ByName(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			names = append(names, f.Info().Name)
		}
		return names
	}
	if all := names("all"); len(all) != len(fault.All()) || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("all: %v", all)
	}
	if got := names("cut, wipe"); !slices.Equal(got, []string{"cut", "wipe"}) {
		t.Errorf("two: %v", got)
	}
	if got := names("-wipe"); len(got) != len(fault.All())-1 || slices.Contains(got, "wipe") {
		t.Errorf("all but one: %v", got)
	}
	if _, err := fault.ByName("all,flood"); err == nil {
		t.Error("a fault that does not exist was found")
	}
}
