package check

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s\n\n", r.headline())
	for _, row := range r.Numbers.Rows() {
		fmt.Fprintf(b, "%-24s %s\n", row[0], row[1])
	}
	for _, n := range r.Notes {
		fmt.Fprintf(b, "note: %s\n", n)
	}
	for i := range r.Violations {
		v := &r.Violations[i]
		fmt.Fprintf(b, "\n%s", strings.ToUpper(string(v.Clause)))
		if n := r.Count[v.Clause]; n > 0 {
			fmt.Fprintf(b, " (%d in all)", n)
		}
		fmt.Fprintf(b, ": %s\n", v.Text)
		if v.Round != "" {
			fmt.Fprintf(b, "in %s\n", v.Round)
		}
		for _, l := range v.Relative() {
			mark := " "
			if l.Here {
				mark = ">"
			}
			fmt.Fprintf(b, "%s %10s ms  %-8s %-16s %s\n", mark, l.Ms, l.Group, l.Where, l.Text)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r *Report) headline() string {
	name := r.Name
	if name == "" {
		name = fmt.Sprintf("%d rounds", r.Numbers.Rounds)
	}
	if r.OK() {
		return name + ": nothing was violated"
	}
	var counts []string
	for _, c := range Clauses() {
		if n := r.Count[c]; n > 0 {
			counts = append(counts, fmt.Sprintf("%s %d", c, n))
		}
	}
	return name + ": VIOLATED: " + strings.Join(counts, ", ")
}

// Rows returns the numbers as pairs of name and value.
func (n *Numbers) Rows() [][2]string {
	rows := [][2]string{}
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	add("rounds", "%d, judged in %v", n.Rounds, n.Judging.Round(time.Millisecond))
	add("messages accepted", "%d (by hash %d, random %d, replicated %d, broadcast %d)", n.Messages, n.Kinds[0], n.Kinds[1], n.Kinds[2], n.Kinds[3])
	add("refused", "%d", n.Refused)
	add("taken", "%d", n.Taken)
	add("replies", "%d", n.Replies)
	add("lost", "%d", n.Lost)
	add("lost with their sender", "%d (program and node had ended)", n.Gone)
	add("given up, untold", "%d (they had a deadline, their sender had ended)", n.Untold)
	add("given up", "%d not delivered, %d perhaps", n.GivenUp, n.MaybeGivenUp)
	add("taken again, marked", "%d", n.Repeated)
	add("taken again, unmarked", "%d", n.Unmarked)
	add("out of order", "%d", n.Reordered)
	add("unknown", "%d (a killed program may have taken them)", n.Unknown)
	add("taken by two", "%d (by servers that stood in for each other)", n.StoodIn)
	add("stand-ins not heard of", "%d (who had stood in had ended, or was DOWN, or lost its disk)", n.Unheard)
	add("taken without knowing", "%d (by programs of servers that were DOWN)", n.Unaware)
	add("observations", "%d", n.Observations)
	add("commands and reads", "%d (done %d, unknown %d), the longest took %v, %d histories undecided",
		n.Ops, n.OpsDone, n.OpsUnknown, n.LongestOp.Round(time.Millisecond), n.Undecided)
	for _, kind := range slices.Sorted(maps.Keys(n.Faults)) {
		add("fault "+kind, "%d", n.Faults[kind])
	}
	for _, kind := range slices.Sorted(maps.Keys(n.Waits)) {
		w := n.Waits[kind]
		add("longest wait, "+kind, "%v, alone %v", w.Longest.Round(time.Millisecond), w.Alone.Round(time.Millisecond))
	}
	return rows
}

// RelativeLine is a Line with its time in milliseconds after the first that a
// program or operator did.
type RelativeLine struct {
	Line
	Ms string
}

// Relative returns the timeline with times that people can read.
func (v *Violation) Relative() []RelativeLine {
	if len(v.Lines) == 0 {
		return nil
	}
	start := max(0, slices.IndexFunc(v.Lines, func(l Line) bool { return l.Group == groupProgram || l.Group == groupCommand }))
	var lines []RelativeLine
	for _, l := range v.Lines {
		lines = append(lines, RelativeLine{l, fmt.Sprintf("%+.3f", float64(l.AtNs-v.Lines[start].AtNs)/1e6)})
	}
	return lines
}
