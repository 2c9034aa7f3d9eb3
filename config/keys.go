package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Names of the sections.
const (
	sectionGlobal = "GLOBAL"
	sectionServer = "SVRNODE"
	sectionSlave  = "SLVNODE"
)

// keyInclude is the one key that is not a value but names another file.
const keyInclude = "INCLUDE"

var sectionNames = []string{sectionGlobal, sectionServer, sectionSlave}

// Key describes one key of a configuration file, for documentation.
type Key struct {
	Name    string
	Section string // GLOBAL, SVRNODE or SLVNODE
	Type    string // what is allowed, with units
	Default string // "": none; "required"
	Effect  string // one sentence; "no effect": CHMPX's, checked only
	Live    string // which change takes effect while the node runs: "all", "" none (see Config.CheckReload), or in words
}

// Keys returns all keys in the order of the documentation. Where a key may be
// in several sections it is listed once for each.
func Keys() []Key {
	var all []Key
	for _, section := range sectionNames {
		for _, s := range specs {
			if s.in(section) {
				all = append(all, Key{s.name, section, s.kind, s.def, s.effect, s.live})
			}
		}
	}
	return all
}

// spec is one key: where it may be and what it may say.
type spec struct {
	name     string
	sections []string
	kind     string // for people
	def      string // for people and, unless "", "required" or inherited, parsed as a value
	effect   string
	read     func(s string) (value, error)
	live     string // which change takes effect while the node runs: "all", "" none, or in words what allows allows
	allows   func(now, next *Config) bool
	clampAt  int64 // over 0: a higher number becomes this one, with a warning, as in CHMPX
}

func (s spec) in(section string) bool { return slices.Contains(s.sections, section) }

// live marks a key whose change takes effect while the node runs.
func live(s spec) spec {
	s.live = liveAll
	return s
}

// liveIf marks a key of which only some changes take effect while the node runs.
func liveIf(s spec, which string, allows func(now, next *Config) bool) spec {
	s.live, s.allows = which, allows
	return s
}

// liveAll: every change.
const liveAll = "all"

var globalOnly = []string{sectionGlobal}

const (
	noEffect  = "no effect"
	required  = "required"
	inherited = "as in GLOBAL"
)

// count is a number in CHMPX's units; -1 is CHMPX's "default" where low allows it.
func count(name string, low int64, kind, def, effect string) spec {
	return spec{name: name, sections: globalOnly, kind: kind, def: def, effect: effect,
		read: func(s string) (value, error) { return readInt(s, low, math.MaxInt32) }}
}

// microseconds is one of CHMPX's time limits; below 0 and 0 are its default.
func microseconds(name string) spec {
	return spec{name: name, sections: globalOnly, kind: "microseconds; -1, 0: default", def: "0", effect: noEffect,
		read: func(s string) (value, error) {
			v, err := readInt(s, -1, math.MaxInt32)
			if v.n < 0 {
				v = number(0)
			}
			return v, err
		}}
}

// limited is a number that CHMPX cuts at a limit.
func limited(name string, low, limit int64, def, effect string) spec {
	return spec{name: name, sections: globalOnly, kind: fmt.Sprintf("number, larger ones become %d", limit),
		def: def, effect: effect, clampAt: limit,
		read: func(s string) (value, error) { return readInt(s, low, math.MaxInt32) }}
}

func boolean(name, def, effect string, sections ...string) spec {
	return spec{name: name, sections: sections, kind: "on, yes, off, no", def: def, effect: effect, read: readBool}
}

func port(name, def, effect string, sections ...string) spec {
	return spec{name: name, sections: sections, kind: "1 to 65535", def: def, effect: effect,
		read: func(s string) (value, error) { return readInt(s, 1, 65535) }}
}

func words(name, def, effect string, allowed, later []string) spec {
	return spec{name: name, sections: globalOnly, kind: strings.Join(allowed, ", "), def: def, effect: effect,
		read: func(s string) (value, error) { return readWord(s, allowed, later) }}
}

func text(name, effect string, sections ...string) spec {
	return spec{name: name, sections: sections, kind: "text", effect: effect,
		read: func(s string) (value, error) { return readText(s, 0, textBytesMax) }}
}

func duration(name, def, effect string, low, high time.Duration) spec {
	return spec{name: name, sections: globalOnly, kind: "duration, " + durationString(low) + " to " + durationString(high),
		def: def, effect: effect, read: func(s string) (value, error) { return readDuration(s, low, high) }}
}

func certificate(name string, sections ...string) spec {
	return spec{name: name, sections: sections, kind: "empty or NULL", effect: "TLS is not available in this version", read: readCertificate}
}

func plain(name, kind, def, effect string, read func(string) (value, error), sections ...string) spec {
	return spec{name: name, sections: sections, kind: kind, def: def, effect: effect, read: read}
}

// readOddVoters takes 1, 3, 5 ...: an even voter only adds what can fail.
func readOddVoters(s string) (value, error) {
	v, err := readInt(s, 1, 63)
	if err != nil || v.n%2 == 0 {
		return value{}, errors.New("use an odd number from 1 to 63")
	}
	return v, nil
}

func readRingBytes(s string) (value, error) { return readSize(s, 64<<10, 256<<20, true) }
func readShmBytes(s string) (value, error)  { return readSize(s, 1<<20, 1<<40, false) }
func readRunDir(s string) (value, error)    { return readDir(s, socketPathBytesMax-socketNameBytes) }
func readDataDir(s string) (value, error)   { return readDir(s, 1024) }
func readVersion(s string) (value, error)   { return readInt(s, math.MinInt32, math.MaxInt32) }
func readTLSSwitch(s string) (value, error) {
	v, err := readBool(s)
	if err == nil && v.n != 0 {
		return value{}, fmt.Errorf("%w; use no", errNoTLS)
	}
	return v, err
}

// readIDType knows CTLEPS as another word for CTLENDPOINTS.
func readIDType(s string) (value, error) {
	v, err := readWord(s, []string{"NAME", "CUK", "CTLENDPOINTS", "CTLEPS", "CUSTOM"}, nil)
	if v.text == "CTLEPS" {
		v.text = "CTLENDPOINTS"
	}
	return v, err
}
