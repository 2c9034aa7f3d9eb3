package config

import (
	"io/fs"
	"path/filepath"
)

// files are configurations in memory, by path.
type files map[string]string

// read implements reader.
func (f files) read(path string, bytesMax int) (text, id string, err error) {
	path = filepath.Clean(path)
	text, ok := f[path]
	switch {
	case !ok:
		return "", "", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case len(text) > bytesMax:
		return "", "", errTooLarge
	}
	return text, path, nil
}

// loadText loads the text of one file in memory; the name says its format.
func loadText(name, text string) (*Config, []Warning, error) {
	return load(Source{Path: name}, files{name: text}.read)
}
