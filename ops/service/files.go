package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// The files of the configuration, in Options.ConfDir.
const (
	ConfName     = name + ".conf" // KEY = value
	OverrideName = "override.conf"
)

// ErrConfig is wrapped by every error about what a file says; its text names
// file, line and keyword. Several mistakes are joined.
var ErrConfig = errors.New("service: wrong configuration")

// Bounds of a file.
const (
	fileBytesMax = 1 << 20
	mistakesMax  = 20 // are named, of one file
)

// entry is one "key = value" of a file.
type entry struct{ key, value, at string } // at: file:line

// mistake returns an error about an entry.
func (e entry) mistake(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", e.at, e.key, fmt.Errorf(format, args...))
}

// Load reads the files of a directory. The second result names what was passed
// over: unknown keywords, and lines for files that have another name. The
// conf file must exist, OverrideName may be missing.
func Load(dir string) (Settings, []string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Settings{}, nil, fmt.Errorf("find the configuration: %w", err)
	}
	s, notes, err := load(dir)
	if err != nil {
		return Settings{}, notes, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return s, notes, nil
}

// load is Load with an absolute directory.
func load(dir string) (Settings, []string, error) {
	conf := filepath.Join(dir, ConfName)
	own, err := readEntries(conf)
	if err != nil {
		return Settings{}, nil, err
	}
	over, notes, err := readOverride(dir, conf)
	if err != nil {
		return Settings{}, notes, err
	}
	s, unknown, err := apply(slices.Concat(own, over))
	notes = append(notes, unknown...)
	if err != nil {
		return Settings{}, notes, err
	}
	if !filepath.IsAbs(s.IniFile) {
		s.IniFile = filepath.Join(dir, s.IniFile)
	}
	for _, log := range []struct{ keyword, file string }{{"SERVICE_LOGFILE", s.ServiceLogFile}, {"SUBPROCESS_LOGFILE", s.SubprocessLogFile}} {
		if log.file != "" && s.LogDir == "" {
			notes = append(notes, fmt.Sprintf("%s: %s has no effect without LOGDIR", conf, log.keyword))
		}
	}
	if s.ServicePidFile == s.SubprocessPidFile {
		return Settings{}, notes, fmt.Errorf("%s: SERVICE_PIDFILE and SUBPROCESS_PIDFILE are both %q, two names are needed", conf, s.ServicePidFile)
	}
	return s, notes, nil
}

// apply sets the defaults, then each entry in turn: the last one counts. An
// empty value is the default.
func apply(entries []entry) (s Settings, unknown []string, err error) {
	known := map[string]Keyword{}
	for _, k := range Keywords() {
		known[k.Name] = k
		if k.Default != "" {
			if err := k.set(&s, k.Default); err != nil {
				panic("BUG: service: default of " + k.Name + ": " + err.Error())
			}
		}
	}
	var mistakes []error
	for _, e := range entries {
		word := e.key
		if word == iniKeyword {
			word = "INI_CONF_FILE"
		}
		k, ok := known[word]
		if !ok {
			unknown = append(unknown, fmt.Sprintf("%s: unknown keyword %q is ignored", e.at, e.key))
			continue
		}
		value := e.value
		if value == "" {
			value = k.Default
		}
		if value == "" { // of those whose default is empty, each takes an empty value
			_ = k.set(&s, "")
			continue
		}
		if err := k.set(&s, value); err != nil {
			mistakes = append(mistakes, e.mistake("%q: %w", e.value, err))
		}
	}
	return s, unknown, errors.Join(mistakes...)
}

// readEntries reads a file of "KEY = value" lines. Lines that begin with # and
// empty ones are passed over; nothing is quoted.
func readEntries(path string) ([]entry, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parse(path, string(text))
}

// parse is readEntries with the text of the file.
func parse(path, text string) (all []entry, err error) {
	var mistakes []error
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		e := entry{strings.TrimSpace(key), strings.TrimSpace(value), fmt.Sprintf("%s:%d", path, i+1)}
		switch {
		case len(mistakes) == mistakesMax:
			return nil, errors.Join(mistakes...)
		case !found:
			mistakes = append(mistakes, e.mistake("a line is KEYWORD = value"))
		case e.key == "":
			mistakes = append(mistakes, e.mistake("the keyword before = is missing"))
		}
		all = append(all, e)
	}
	return all, errors.Join(mistakes...)
}

// readFile reads a text file of bounded size.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, fmt.Errorf("%s is a pipe, a file is needed", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case len(text) > fileBytesMax:
		return nil, fmt.Errorf("%s is longer than %d bytes", path, fileBytesMax)
	case bytes.IndexByte(text, 0) >= 0:
		return nil, fmt.Errorf("%s holds a zero byte, so it is no text", path)
	}
	return text, nil
}

// reference is a value that stands in another file: path:KEYWORD.
var reference = regexp.MustCompile(`^([^\s:]+):([A-Z][A-Z0-9_]*)$`)

// readOverride returns what OverrideName says about conf, references resolved.
// Lines about other files belong to other services.
func readOverride(dir, conf string) (all []entry, notes []string, err error) {
	lines, err := readEntries(filepath.Join(dir, OverrideName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var mistakes []error
	for _, e := range lines {
		colon := strings.LastIndexByte(e.key, ':')
		if colon < 0 {
			mistakes = append(mistakes, e.mistake("the file whose keyword this is must stand before it: %s:%s", ConfName, e.key))
			continue
		}
		file, key := strings.TrimSpace(e.key[:colon]), strings.TrimSpace(e.key[colon+1:])
		if file != ConfName && filepath.Clean(file) != conf {
			if filepath.Base(file) == ConfName {
				notes = append(notes, fmt.Sprintf("%s: %s is not %s, the line is ignored", e.at, file, conf))
			}
			continue
		}
		e.key = key
		if m := reference.FindStringSubmatch(e.value); m != nil {
			if e.value, err = lookUp(dir, m[1], m[2]); err != nil {
				mistakes = append(mistakes, e.mistake("%s:%s: %w", m[1], m[2], err))
				continue
			}
		}
		all = append(all, e)
	}
	return all, notes, errors.Join(mistakes...)
}

// lookUp returns the value of a keyword in another file, relative to dir.
func lookUp(dir, file, key string) (string, error) {
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	all, err := readEntries(file)
	if err != nil {
		return "", err
	}
	for _, e := range slices.Backward(all) {
		if e.key == key {
			return e.value, nil
		}
	}
	return "", fmt.Errorf("%s has no %s", file, key)
}
