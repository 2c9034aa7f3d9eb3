package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrConfig is wrapped by every error of this package: a configuration that
// cannot be read, is wrong, or does not fit this host.
// Messages do without its text: they say themselves what is wrong.
var ErrConfig = errors.New("the configuration cannot be used")

// refusal is an error that wraps ErrConfig and reads like its cause.
type refusal struct{ error }

func (r refusal) Unwrap() []error { return []error{ErrConfig, r.error} }

func refusef(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// Warning is something in a configuration that is odd but does not stop a node.
type Warning struct {
	File string // or "JSON text"
	Line int    // from 1; 0: the file as a whole
	Text string
}

// String returns "file:line: text".
func (w Warning) String() string { return position(w.File, w.Line) + ": " + w.Text }

// WithWarnings returns err with the warnings behind it, one line each, for
// callers that give up and would lose them. A nil err stays nil.
func WithWarnings(err error, warnings []Warning) error {
	if err == nil || len(warnings) == 0 {
		return err
	}
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "\nwarning: %s", w)
	}
	return fmt.Errorf("%w%s", err, b.String())
}

// file is one file of a configuration, or its text.
type file struct {
	name string // for messages
	id   string // path without symbolic links; "": a text
	nth  int    // in the order of reading, from 0
	from pos    // the INCLUDE that led to it; zero for the first
}

// includedBy reports whether other includes f, itself or through more files.
func (f *file) includedBy(other *file) bool {
	for at := f.from.file; at != nil; at = at.from.file {
		if at == other {
			return true
		}
	}
	return false
}

// depth returns how many files lead to f.
func (f *file) depth() int {
	n := 0
	for at := f.from.file; at != nil; at = at.from.file {
		n++
	}
	return n
}

// pos is a line of a file; line 0 is the file as a whole. The zero pos is
// nowhere: of what no file has.
type pos struct {
	file *file
	line int
}

func (p pos) given() bool { return p.line > 0 }

func (p pos) String() string { return position(p.file.name, p.line) }

func position(name string, line int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, line)
}

func (p pos) compare(q pos) int {
	return cmp.Or(cmp.Compare(p.file.nth, q.file.nth), cmp.Compare(p.line, q.line))
}

// seenFrom says where p is in a message about q.
func (p pos) seenFrom(q pos) string {
	if p.file == q.file {
		return fmt.Sprintf("line %d", p.line)
	}
	return p.String()
}

// problem is one thing that is wrong; Load joins the first notesMax of them.
type problem struct {
	at   pos
	text string
}

func (p *problem) Error() string { return p.at.String() + ": " + p.text }

func (p *problem) Unwrap() error { return ErrConfig }

// notes collects what is to be said about a configuration.
type notes struct {
	problems []*problem
	warnings []*problem
	// partial is set when a part could not be read: what seems to be missing
	// may be there, and is not complained about.
	partial bool
}

func (n *notes) errorf(at pos, format string, args ...any) {
	n.problems = append(n.problems, &problem{at, fmt.Sprintf(format, args...)})
}

func (n *notes) missingf(at pos, format string, args ...any) {
	if !n.partial {
		n.errorf(at, format, args...)
	}
}

func (n *notes) warnf(at pos, format string, args ...any) {
	n.warnings = append(n.warnings, &problem{at, fmt.Sprintf(format, args...)})
}

// wrong notes a value that is not allowed.
func (n *notes) wrong(e entry, err error) {
	n.errorf(e.at, "%s = %s: %v", e.key, clip(e.value), err)
}

// notesMax bounds the problems and the warnings that are told: a file that is no
// configuration at all may have one in each line, and logs and statuses show them.
const notesMax = 100

// result returns the warnings and the problems as one error, both in the order
// of files and lines; of more than notesMax the last one says how many there are.
func (n *notes) result() ([]Warning, error) {
	var warnings []Warning
	for _, w := range told(n.warnings) {
		warnings = append(warnings, Warning{w.at.file.name, w.at.line, w.text})
	}
	var errs []error
	for _, p := range told(n.problems) {
		errs = append(errs, p)
	}
	return warnings, errors.Join(errs...)
}

// told sorts notes and returns the first of them.
func told(all []*problem) []*problem {
	slices.SortStableFunc(all, func(a, b *problem) int { return a.at.compare(b.at) })
	if len(all) <= notesMax {
		return all
	}
	rest := &problem{all[notesMax].at, fmt.Sprintf("and here and below %d more of the like, which are not shown", len(all)-notesMax)}
	return append(all[:notesMax:notesMax], rest)
}

// clip quotes a text for a message, shortened when it is long.
func clip(s string) string {
	const bytesMax = 80
	if len(s) > bytesMax {
		s = s[:bytesMax] + "..."
	}
	return fmt.Sprintf("%q", s)
}
