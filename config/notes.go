package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// ErrConfig is wrapped by every error of this package: a configuration that
// cannot be read, is wrong, or does not fit this host.
var ErrConfig = errors.New("config: not usable")

// Warning is something in a file that is odd but does not stop a node.
type Warning struct {
	File string
	Line int // from 1; 0: the file as a whole
	Text string
}

// String returns "file:line: text".
func (w Warning) String() string { return at(w.File, w.Line) + w.Text }

// problem is one thing in a file that is wrong; Load joins all of them.
type problem struct {
	file string
	line int
	text string
}

func (p *problem) Error() string { return at(p.file, p.line) + p.text }

func (p *problem) Unwrap() error { return ErrConfig }

func at(file string, line int) string {
	if line == 0 {
		return file + ": "
	}
	return fmt.Sprintf("%s:%d: ", file, line)
}

// notes collects what is to be said about one file.
type notes struct {
	file     string
	problems []*problem
	warnings []Warning
}

func (n *notes) errorf(line int, format string, args ...any) {
	n.problems = append(n.problems, &problem{n.file, line, fmt.Sprintf(format, args...)})
}

func (n *notes) warnf(line int, format string, args ...any) {
	n.warnings = append(n.warnings, Warning{n.file, line, fmt.Sprintf(format, args...)})
}

// wrong notes a value that is not allowed.
func (n *notes) wrong(e entry, err error) {
	n.errorf(e.line, "%s = %s: %v", e.key, clip(e.value), err)
}

// result returns the warnings and all problems as one error, both in line order.
func (n *notes) result() ([]Warning, error) {
	slices.SortStableFunc(n.warnings, func(a, b Warning) int { return cmp.Compare(a.Line, b.Line) })
	slices.SortStableFunc(n.problems, func(a, b *problem) int { return cmp.Compare(a.line, b.line) })
	errs := make([]error, len(n.problems))
	for i, p := range n.problems {
		errs[i] = p
	}
	return n.warnings, errors.Join(errs...)
}
