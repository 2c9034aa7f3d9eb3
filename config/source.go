package config

import (
	"fmt"
	"os"
)

// The environment that FindSource looks into.
const (
	envFile = "CHMCONFFILE"
	envText = "CHMJSONCONF"
)

// ErrNoSource says that neither options nor environment name a configuration.
var ErrNoSource = refusef("no configuration is named")

// Source says where a configuration is. Exactly one field is set.
type Source struct {
	Path string // of a file
	Text string // the configuration itself, as JSON
}

// String returns how messages call the source.
func (s Source) String() string {
	if s.Path == "" {
		return "JSON text"
	}
	return s.Path
}

// FindSource returns what a command or a program uses: the file conf, else the
// JSON text json, else the file that CHMCONFFILE names, else the text in
// CHMJSONCONF. Empty ones do not count; with none of them the error is
// ErrNoSource.
func FindSource(conf, json string) (Source, error) {
	switch {
	case conf != "":
		return Source{Path: conf}, nil
	case json != "":
		return Source{Text: json}, nil
	case os.Getenv(envFile) != "":
		return Source{Path: os.Getenv(envFile)}, nil
	case os.Getenv(envText) != "":
		return Source{Text: os.Getenv(envText)}, nil
	}
	return Source{}, fmt.Errorf("%w: name a file, a JSON text, or set %s or %s", ErrNoSource, envFile, envText)
}

// Load reads a configuration and everything that it includes. The extension
// of a file names its format: .ini (or none), .yaml, .yml or .json; a text is
// JSON. The warnings are for the log and come with or without an error. The
// error wraps ErrConfig and joins the first 100 things that are wrong, one line each with
// file, line, key, value and what is allowed.
func Load(s Source) (*Config, []Warning, error) {
	if (s.Path == "") == (s.Text == "") {
		return nil, nil, refusef("a source is a file or a text, one of them")
	}
	return load(s, readFile)
}
