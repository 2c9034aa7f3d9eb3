package check

import (
	"fmt"
	"slices"
	"strings"
)

// What a node may use beyond what it used before.
const (
	CountsSpare   = 8         // goroutines and descriptors: connections of the status itself
	HeapSpare     = 24 << 20  // bytes: what is remembered of senders' sessions is bounded by 18 MiB
	ResidentSpare = 128 << 20 // bytes: freed memory goes back to the system late, and in large pieces
)

// Exceeds says what a node uses beyond what it used before and the spares, one
// phrase each; nil: nothing.
func (u Usage) Exceeds(before Usage) []string {
	var all []string
	over := func(what string, was, is, spare int64) {
		if is > was+spare {
			all = append(all, fmt.Sprintf("%s from %d to %d", what, was, is))
		}
	}
	over("goroutines", int64(before.Goroutines), int64(u.Goroutines), CountsSpare)
	if before.Descriptors >= 0 {
		over("descriptors", int64(before.Descriptors), int64(u.Descriptors), CountsSpare)
	}
	over("heap bytes", int64(before.HeapBytes), int64(u.HeapBytes), HeapSpare)
	if before.ResidentBytes != 0 {
		over("resident bytes", int64(before.ResidentBytes), int64(u.ResidentBytes), ResidentSpare)
	}
	over("bytes of segments", before.SegmentBytes, u.SegmentBytes, 0)
	over("attached programs", int64(before.Attached), int64(u.Attached), 0)
	return all
}

// String prints the usage in a line.
func (u Usage) String() string {
	return fmt.Sprintf("goroutines %d, descriptors %d, heap %.1f MiB, resident %.1f MiB, programs %d, segments %.1f MiB",
		u.Goroutines, u.Descriptors, float64(u.HeapBytes)/(1<<20), float64(u.ResidentBytes)/(1<<20), u.Attached, float64(u.SegmentBytes)/(1<<20))
}

// judgeUsage judges that nodes do not use more than at the start.
func (j *judge) judgeUsage() {
	for _, u := range j.After {
		i := slices.IndexFunc(j.Before, func(b Usage) bool { return b.Node == u.Node })
		if i < 0 {
			continue
		}
		before := j.Before[i]
		if over := u.Exceeds(before); over != nil {
			j.violated(Violation{Clause: Bounded, AtNs: u.AtNs, Text: fmt.Sprintf("%s uses more than at the start: %s", u.Node, strings.Join(over, ", "))},
				story{from: u.AtNs, to: u.AtNs, lines: []Line{
					{AtNs: before.AtNs, Group: groupRing, Where: u.Node, Text: before.String()},
					{AtNs: u.AtNs, Group: groupRing, Where: u.Node, Text: u.String(), Here: true}}})
		}
	}
}
