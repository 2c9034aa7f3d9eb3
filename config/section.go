package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// keys are the checked values of one section, or of all [GLOBAL] together.
type keys struct {
	section string
	at      pos // of the first header; line 0: there is none
	last    pos // of the last header
	values  map[string]value
	tried   map[string]pos // of every key that was there, right or wrong
}

func newKeys(n *notes, s section) keys {
	k := keys{section: s.name}
	k.add(n, s)
	return k
}

// add checks a section and takes its values over; later ones win.
func (k *keys) add(n *notes, s section) {
	if !k.at.given() {
		k.at, k.values, k.tried = s.at, map[string]value{}, map[string]pos{}
	}
	k.last = s.at
	for _, e := range s.entries {
		spec := find(e.key, s.name)
		if spec == nil {
			n.warnf(e.at, "%s", strangeKey(e.key, s.name))
			continue
		}
		if e.unread {
			k.tried[e.key] = e.at
			delete(k.values, e.key)
			continue
		}
		if at, ok := k.tried[e.key]; ok && !at.file.includedBy(e.at.file) {
			n.warnf(e.at, "%s is also in %s; this one counts", e.key, at.seenFrom(e.at))
		}
		k.tried[e.key] = e.at
		v, err := spec.read(e.value)
		if !isLine(e.value) {
			err = errors.New("use one line of UTF-8 without control characters")
		}
		if err != nil {
			n.wrong(e, err)
			delete(k.values, e.key)
			continue
		}
		if spec.clampAt > 0 && v.n > spec.clampAt {
			n.warnf(e.at, "%s = %d is above the limit and becomes %d", e.key, v.n, spec.clampAt)
			v = number(spec.clampAt)
		}
		v.at = e.at
		k.values[e.key] = v
	}
}

// isLine reports whether s is what a line of any format can have.
func isLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\t' })
}

// force gives a key the value that another key asks for, with a warning if a
// file has it otherwise.
func (k *keys) force(n *notes, key, forced, why string) {
	v, err := find(key, k.section).read(forced)
	if err != nil {
		panic(fmt.Sprintf("BUG: config: forced value of %s: %v", key, err))
	}
	was := k.get(key)
	if was.at.given() && was.text != v.text {
		n.warnf(was.at, "%s = %s becomes %s: %s", key, was.text, v.text, why)
	}
	if k.values != nil {
		v.at = was.at
		k.values[key] = v
	}
}

// get returns the value of a key or its default, which is at no line.
func (k keys) get(key string) value {
	if v, ok := k.values[key]; ok {
		return v
	}
	s := find(key, k.section)
	if s == nil {
		panic("BUG: config: no key " + key + " in " + k.section)
	}
	if s.def == "" || s.def == required || s.def == inherited {
		return value{}
	}
	v, err := s.read(s.def)
	if err != nil {
		panic(fmt.Sprintf("BUG: config: default of %s: %v", key, err))
	}
	return v
}

// getOr returns a node's value or the one of [GLOBAL].
func (k keys) getOr(global keys, key string) value {
	if v, ok := k.values[key]; ok {
		return v
	}
	return global.get(key)
}

// require notes a key that is not there; one that is there and wrong is noted already.
func (k keys) require(n *notes, key string) bool {
	if _, ok := k.tried[key]; !ok {
		n.missingf(k.at, "[%s]: %s is required: %s", k.section, key, find(key, k.section).kind)
	}
	_, ok := k.values[key]
	return ok
}

// overlay returns k with the values of a later section for the same node.
func (k keys) overlay(later keys) keys {
	k.last = later.last
	k.values = maps.Clone(k.values)
	maps.Copy(k.values, later.values)
	k.tried = maps.Clone(k.tried)
	maps.Copy(k.tried, later.tried)
	return k
}

// find returns the spec of a key in a section, nil if it has none.
func find(key, section string) *spec {
	i := slices.IndexFunc(specs, func(s spec) bool { return s.name == key && s.in(section) })
	if i < 0 {
		return nil
	}
	return &specs[i]
}

// strangeKey says what may be wrong with a key that a section does not have.
func strangeKey(key, section string) string {
	var here, elsewhere []string
	for _, s := range specs {
		switch {
		case s.in(section):
			here = append(here, s.name)
		case s.name == key:
			elsewhere = append(elsewhere, s.sections...)
		}
	}
	if len(elsewhere) > 0 {
		return fmt.Sprintf("%s has no effect in [%s]; it belongs into [%s]", key, section, strings.Join(elsewhere, "] or ["))
	}
	return fmt.Sprintf("%s is not a key of [%s] and has no effect%s", clip(key), section, nearest(key, here))
}

// nearest suggests the known word that is most like a mistyped one.
func nearest(word string, known []string) string {
	upper := strings.ToUpper(word)
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := distance(upper, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	switch {
	case best == "":
		return ""
	case bestDistance == 0:
		return fmt.Sprintf("; write %s in upper case", best)
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the number of bytes to insert, remove, replace or swap with their
// neighbour between a and b.
func distance(a, b string) int {
	if abs := len(a) - len(b); abs > 16 || abs < -16 {
		return 17 // not alike; saves the work for very long words
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := last[j]
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
