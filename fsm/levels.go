package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chmpx/chmpx/ring"
)

// The feature levels of this build. A release that adds to the log what the one
// before does not understand has a level more than that.
const (
	Level    = 1 // the highest that it speaks
	LevelMin = 1 // the lowest level of a ring that it takes part in
)

// levelMax bounds what a node may say of itself.
const levelMax = 1 << 16

// Levels are the feature levels of a build: what it says of itself when it comes
// up. What is not said is 1, and left out where it is encoded.
type Levels struct {
	Min int `json:"min,omitempty"` // the lowest level of a ring that it takes part in
	Max int `json:"max,omitempty"` // the highest that it speaks
}

// Said returns l with the 1 that it leaves out.
func (l Levels) Said() Levels {
	if l.Min == 0 {
		l.Min = 1
	}
	if l.Max == 0 {
		l.Max = 1
	}
	return l
}

// Brief returns l without what need not be said.
func (l Levels) Brief() Levels {
	if l = l.Said(); l == (Levels{Min: 1, Max: 1}) {
		return Levels{}
	}
	return l
}

func (l Levels) validate() error {
	if l = l.Said(); l.Min < 1 || l.Min > l.Max || l.Max > levelMax {
		return fmt.Errorf("%w: %w: %d to %d, 1 to %d allowed", ErrLevel, ErrInvalid, l.Min, l.Max, levelMax)
	}
	return nil
}

// Build is what a build of this program speaks. The zero value is this one;
// another one is for tests of rings whose nodes differ.
type Build struct {
	Levels
	// Commands has the level of each command type that has another one than here.
	Commands map[CommandType]int
}

// Speaks returns the levels of the build.
func (b Build) Speaks() Levels {
	if b.Levels == (Levels{}) {
		return Levels{Min: LevelMin, Max: Level}
	}
	return b.Said()
}

// LevelOf returns the level from which on a build understands a command.
func (b Build) LevelOf(t CommandType) int {
	if level, ok := b.Commands[t]; ok {
		return level
	}
	return families[t].level
}

// understands returns ErrUnknownCommand for a command that the build lacks.
func (b Build) understands(t CommandType) error {
	if level, l := b.LevelOf(t), b.Speaks(); level > l.Max {
		return fmt.Errorf("%w: %s is of feature level %d, this build speaks up to %d", ErrUnknownCommand, t, level, l.Max)
	}
	return nil
}

// LevelOf is a member, and the highest level that its build speaks.
type LevelOf struct {
	ID    ring.ID
	Name  string // name:ctlport
	Max   int
	Slave bool
}

// String names the member for a message.
func (l LevelOf) String() string {
	if l.Slave {
		return fmt.Sprintf("slave %s (level %d)", l.Name, l.Max)
	}
	return fmt.Sprintf("%s (level %d)", l.Name, l.Max)
}

// eachLevel calls f for every member but one.
func (v View) eachLevel(but ring.ID, f func(LevelOf, Levels)) {
	for i, m := range v.Members {
		if m.ID != but {
			f(LevelOf{ID: m.ID, Name: label(v.Table.Servers[i].Identity), Max: m.Levels.Said().Max}, m.Levels.Said())
		}
	}
	for _, s := range v.Slaves {
		if s.ID != but {
			f(LevelOf{ID: s.ID, Name: label(s.Identity), Max: s.Levels.Said().Max, Slave: true}, s.Levels.Said())
		}
	}
}

func label(id ring.Identity) string { return fmt.Sprintf("%s:%d", id.Name, id.CtlPort) }

// Level returns the level of the ring: what every member speaks, also those that
// are DOWN, for they come back. A ring without members has level 1.
func (v View) Level() int {
	level, _ := v.levelOfOthers(0)
	return level
}

// levelOfOthers returns the level of the ring without one member, and whether
// there is another one.
func (v View) levelOfOthers(but ring.ID) (level int, any bool) {
	level = 1
	v.eachLevel(but, func(l LevelOf, _ Levels) {
		if !any || l.Max < level {
			level = l.Max
		}
		any = true
	})
	return level, any
}

// LevelNeeded returns the level that a node must speak to follow the log of the
// ring: the highest that it has used, and that a member insists on, other than what
// that node said before.
func (v View) LevelNeeded(by ring.ID) int {
	needed := max(1, v.LevelUsed)
	v.eachLevel(by, func(_ LevelOf, l Levels) { needed = max(needed, l.Min) })
	return needed
}

// Below returns the members that do not speak a level: servers in ring order,
// then slaves by id.
func (v View) Below(level int) []LevelOf {
	var out []LevelOf
	v.eachLevel(0, func(l LevelOf, _ Levels) {
		if l.Max < level {
			out = append(out, l)
		}
	})
	return out
}

// HoldsBack returns the members that others would have to wait for: those whose
// level is that of the ring, while there is a member with a higher one.
func (v View) HoldsBack() []LevelOf {
	level := v.Level()
	out := v.Below(level + 1)
	if len(out) == len(v.Members)+len(v.Slaves) {
		return nil
	}
	return out
}

// Admits returns ErrLevel when a node with these levels can be no member: it would
// not understand what the ring has in its log, or the ring not what it needs.
func (v View) Admits(id ring.ID, l Levels) error {
	if err := l.validate(); err != nil {
		return err
	}
	l = l.Said()
	if needed := v.LevelNeeded(id); l.Max < needed {
		return fmt.Errorf("%w: this node speaks up to level %d and the ring needs %d; upgrade this node", ErrLevel, l.Max, needed)
	}
	if level, any := v.levelOfOthers(id); any && l.Min > level {
		others := slices.DeleteFunc(v.Below(l.Min), func(o LevelOf) bool { return o.ID == id })
		return fmt.Errorf("%w: this node needs a ring of level %d and this one has %d; upgrade first, to a version that speaks both: %s", ErrLevel, l.Min, level, LevelNames(others))
	}
	return nil
}

// levelNamesMax bounds how many members a message names.
const levelNamesMax = 8

// LevelNames names members for a message.
func LevelNames(all []LevelOf) string {
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = l.String()
	}
	return NamesOf(names)
}

// NamesOf is LevelNames of names.
func NamesOf(names []string) string {
	if more := len(names) - levelNamesMax; more > 0 {
		names = append(slices.Clone(names[:levelNamesMax]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// useLevel notes that the log has an entry of this level: whoever speaks less
// cannot follow it any more. It reports whether that is new.
func (s *State) useLevel(level int) bool {
	if level <= max(1, s.levelUsed) {
		return false
	}
	s.levelUsed = level
	return true
}
