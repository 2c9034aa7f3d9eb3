package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Bounds of what a configuration may make us read; far above any real one.
const (
	configBytesMax  = 1 << 20 // of all its files together
	includeDepthMax = 8
	includeFilesMax = 64
)

// section is one [NAME] of a file, or one mapping of it, with its keys in the
// order of the file.
type section struct {
	name    string
	at      pos
	entries []entry
}

// entry is one key with its value, which is not checked yet.
type entry struct {
	key, value string
	at         pos
	unread     bool // the key is there, what it says could not be read and is noted
}

// parsed is a file taken apart. An INCLUDE is not among the entries.
type parsed struct {
	sections []section
	includes []entry
}

// A parser takes the text of a file apart and notes what it cannot read. It
// never panics, whatever the text.
type parser func(n *notes, f *file, text string) parsed

// reader returns the text of a file and its path without symbolic links. What
// is longer than bytesMax is an error.
type reader func(path string, bytesMax int) (text, id string, err error)

// loader puts the files of one configuration together.
type loader struct {
	notes
	read     reader
	sections []section // those of an included file before those of the file that includes it
	files    []string  // paths as opened
	bytes    int       // read so far
	count    int       // of files and texts begun
}

// parserFor returns the parser that the extension of a path asks for.
func parserFor(path string) (parser, error) {
	switch ext := extension(path); ext {
	case ".ini", "":
		return parseINI, nil
	case ".yaml", ".yml", ".json":
		return parseYAML, nil
	default:
		return nil, fmt.Errorf("the extension %s is unknown; use .ini, .yaml, .yml or .json", clip(ext))
	}
}

func extension(path string) string { return strings.ToLower(filepath.Ext(path)) }

// open reads the file at path into the configuration; from is the INCLUDE
// that names it.
func (l *loader) open(path string, from pos) error {
	parse, err := parserFor(path)
	var text, id string
	if err == nil {
		text, id, err = l.read(path, configBytesMax-l.bytes)
	}
	if err != nil {
		return unreadable(path, err)
	}
	f := &file{name: path, id: id, nth: l.count, from: from}
	if chain := f.loop(); chain != "" {
		return fmt.Errorf("a loop: %s", chain)
	}
	l.files = append(l.files, path)
	l.add(f, parse, text)
	return nil
}

// add takes a text into the configuration, behind what it includes: the
// later value of a key counts, and that is the one of the including file.
func (l *loader) add(f *file, parse parser, text string) {
	l.count++
	l.bytes += len(text)
	before := len(l.problems)
	p := parse(&l.notes, f, strings.TrimPrefix(text, "\ufeff")) // what some editors put first
	if len(p.sections)+len(p.includes) == 0 && len(l.problems) == before {
		l.errorf(pos{f, 0}, "it is empty")
		l.partial = true
	}
	for _, e := range p.includes {
		if err := l.include(e); err != nil {
			l.wrong(e, err)
			l.partial = true
		}
	}
	l.sections = append(l.sections, p.sections...)
}

// include reads the file that an INCLUDE names, relative to the file it is in.
func (l *loader) include(e entry) error {
	path := e.value
	switch {
	case path == "" || !isLine(path):
		return errors.New("use the path of a file, one line of UTF-8 without control characters")
	case e.at.file.depth() >= includeDepthMax:
		return fmt.Errorf("%d files lead here, one through the other, and more are not followed", includeDepthMax+1)
	case l.count > includeFilesMax:
		return fmt.Errorf("more than %d files are included", includeFilesMax)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(e.at.file.name), path) // of a text that is "."
	}
	return l.open(path, e.at)
}

// unreadable says once which file it is, and why.
func unreadable(path string, err error) error {
	var known *os.PathError
	if errors.As(err, &known) {
		err = known.Err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("nothing more came for %v", readTimeout)
	}
	return fmt.Errorf("%s cannot be read: %w", path, err)
}

// loop returns the way from f to itself, "" if it is not among the files that lead to it.
func (f *file) loop() string {
	chain := f.name
	for at := f.from; at.file != nil; at = at.file.from {
		chain = at.String() + ", " + chain
		if at.file.id == f.id {
			return chain
		}
	}
	return ""
}

// readTimeout bounds the wait for a pipe that is given as a file.
const readTimeout = 10 * time.Second

var errTooLarge = fmt.Errorf("the configuration is larger than %d bytes", configBytesMax)

// readFile reads from the disk, or from a pipe that somebody writes to.
func readFile(path string, bytesMax int) (text, id string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe without writer is empty
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(readTimeout)) // files on a disk need and have none
	data, err := io.ReadAll(io.LimitReader(f, int64(bytesMax)+1))
	if err != nil {
		return "", "", err
	}
	if len(data) > bytesMax {
		return "", "", errTooLarge
	}
	id = path
	if abs, err := filepath.Abs(path); err == nil {
		id = abs
	}
	if real, err := filepath.EvalSymlinks(id); err == nil {
		id = real
	}
	return string(data), id, nil
}
