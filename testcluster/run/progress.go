package run

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress tells people what happens: on a terminal as a line in place, else as
// lines.
type progress struct {
	terminal bool
	start    time.Time

	mu    sync.Mutex // guards what follows
	w     io.Writer
	line  bool // the line in place is there
	phase string
}

// doing tells what a round is at.
func (p *progress) doing(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

func newProgress(w io.Writer, terminal bool) *progress {
	return &progress{w: w, terminal: terminal, start: time.Now()}
}

const (
	followEvery = 500 * time.Millisecond
	lineMost    = 110 // columns of the line in place
)

// say writes a line that stays.
func (p *progress) say(format string, args ...any) {
	p.clear()
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "[%6.1fs] %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// clear removes the line in place.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.line = false
	}
}

// begin tells that a round begins, with its schedule.
func (p *progress) begin(c *current) {
	kinds := map[string]int{}
	var order []string
	for _, e := range c.Schedule {
		if kinds[e.Fault]++; kinds[e.Fault] == 1 {
			order = append(order, e.Fault)
		}
	}
	for i, k := range order {
		order[i] = fmt.Sprintf("%d %s", kinds[k], k)
	}
	p.say("round %d: %s", c.Number, strings.Join(order, ", "))
}

// follow shows the faults that are there until ctx ends.
func (p *progress) follow(ctx context.Context, c *current) {
	if !p.terminal {
		return
	}
	for pause(ctx, followEvery) {
		p.mu.Lock()
		line := fmt.Sprintf("[%6.1fs] round %d, %s: %s", time.Since(p.start).Seconds(), c.Number, p.phase, strings.Join(c.ongoing(), ", "))
		if len(line) > lineMost {
			line = line[:lineMost-1] + "…"
		}
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
		p.line = true
		p.mu.Unlock()
	}
}

// end tells what a round has found.
func (p *progress) end(c *current) {
	n := &c.Report.Numbers
	p.say("round %d: %d messages, %d taken, %d repeated with mark, %d given up; %d observations, %d commands; %.0f s, judged in %.1f s",
		c.Number, n.Messages, n.Taken, n.Repeated, n.GivenUp+n.MaybeGivenUp, n.Observations, n.Ops, c.Length.Seconds(), n.Judging.Seconds())
	for _, v := range c.Report.Violations {
		p.say("  VIOLATED %s: %s", v.Clause, v.Text)
	}
	if c.Dir != "" {
		p.say("  kept: %s", c.Dir)
	}
}
