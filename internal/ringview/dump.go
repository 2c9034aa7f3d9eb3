package ringview

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrDump is wrapped by every error about a text that is no DUMP.
var ErrDump = errors.New("ringview: no DUMP")

// dumpDepthMax bounds how deep the braces of a DUMP are nested: CHMPX has 4.
const dumpDepthMax = 16

// Section is what stands between two braces of a DUMP.
type Section struct{ Lines []Line }

// Line is a value with its label, or a section with it. A list has its number
// in brackets for a label.
type Line struct {
	Label   string
	Value   string   // of a section: what stands before it
	Section *Section // nil: it is a value
}

// ParseDump reads the answer to DUMP, ours or CHMPX's. Headings are left out.
func ParseDump(text string) (*Section, error) {
	root := &Section{}
	open := []*Section{root}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		in := open[len(open)-1]
		switch {
		case line == "}":
			if len(open) == 1 {
				return nil, fmt.Errorf("%w: line %d closes what is not open", ErrDump, number)
			}
			open = open[:len(open)-1]
		case strings.HasSuffix(line, "{"):
			if len(open) > dumpDepthMax {
				return nil, fmt.Errorf("%w: line %d is more than %d braces deep", ErrDump, number, dumpDepthMax)
			}
			open = append(open, in.open(strings.TrimSpace(strings.TrimSuffix(line, "{"))))
		default:
			if label, value, ok := strings.Cut(line, "="); ok && strings.Trim(line, "=") != "" {
				in.Lines = append(in.Lines, Line{Label: strings.TrimSpace(label), Value: strings.TrimSpace(value)})
			}
		}
	}
	if len(open) > 1 || root.Sub("chmpx_man") == nil {
		return nil, fmt.Errorf("%w: %.80q", ErrDump, strings.TrimSpace(text))
	}
	return root, nil
}

// open begins a section. Without a label of its own, or with a count in its
// place ("[3] {"), it belongs to the line before.
func (s *Section) open(label string) *Section {
	sub := &Section{}
	named := strings.TrimSpace(strings.TrimSuffix(label, "="))
	last := len(s.Lines) - 1
	if count := strings.HasPrefix(label, "[") && named == label; (label == "" || count) && last >= 0 && s.Lines[last].Section == nil {
		s.Lines[last].Section = sub
		return sub
	}
	s.Lines = append(s.Lines, Line{Label: named, Section: sub})
	return sub
}

// Value returns the value of a label, "" if there is none. A nil section has none.
func (s *Section) Value(label string) string {
	if l := s.find(label); l != nil {
		return l.Value
	}
	return ""
}

// Sub returns the section of a label, nil if there is none.
func (s *Section) Sub(label string) *Section {
	if l := s.find(label); l != nil {
		return l.Section
	}
	return nil
}

func (s *Section) find(label string) *Line {
	if s == nil {
		return nil
	}
	for i := range s.Lines {
		if s.Lines[i].Label == label {
			return &s.Lines[i]
		}
	}
	return nil
}

// Items returns the sections of a list.
func (s *Section) Items() []*Section {
	if s == nil {
		return nil
	}
	var all []*Section
	for _, l := range s.Lines {
		if l.Section != nil && strings.HasPrefix(l.Label, "[") {
			all = append(all, l.Section)
		}
	}
	return all
}

// MarshalJSON returns a list as an array and any other section as an object;
// values are strings.
func (s *Section) MarshalJSON() ([]byte, error) {
	list, object := []any{}, map[string]any{}
	for _, l := range s.Lines {
		var v any = l.Value
		if l.Section != nil {
			v = l.Section
		}
		list, object[l.Label] = append(list, v), v
		if !strings.HasPrefix(l.Label, "[") {
			list = nil
		}
	}
	var out any = object
	if len(list) == len(s.Lines) {
		out = list
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // there are arrows in it
	err := encoder.Encode(out)
	return b.Bytes(), err
}
