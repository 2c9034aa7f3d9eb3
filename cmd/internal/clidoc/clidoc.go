// Package clidoc makes manual pages and completion files from the definitions
// of a command's verbs and options. The tests of the commands use it: they
// check what it makes, and write it where packages are built. It keeps
// nothing; its functions may be called from any goroutine.
package clidoc

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Command is what is known about a command.
type Command struct {
	Name    string
	Section int    // of the manual
	Summary string // one line, without a full stop
	Text    string // its usage text, if it has one of its own that names every option
	Detail  string // what its verbs and options do not say; unused with Text
	Flags   []cli.Flag
	Verbs   []*cli.Command
}

// Files returns the manual page and the completion files by their paths:
// man/name.section and bash, zsh and fish below completion.
func (c Command) Files() map[string]string {
	return map[string]string{
		fmt.Sprintf("man/%s.%d", c.Name, c.Section): c.Man(),
		"completion/bash/" + c.Name:                 c.Bash(),
		"completion/zsh/_" + c.Name:                 c.Zsh(),
		"completion/fish/" + c.Name + ".fish":       c.Fish(),
	}
}

// level is a place in a command line: behind the verbs of path.
type level struct {
	path    []string
	usage   string
	verbs   []*cli.Command
	options []option
	flags   []cli.Flag
}

// option is a flag with all of its names, dashes included.
type option struct {
	names []string
	value string // what its value is called; "": it takes none
	usage string
}

// levels returns all places that anybody shall see, each before those behind it.
func (c Command) levels() []level { return c.walk(false) }

// places returns all places.
func (c Command) places() []level { return c.walk(true) }

func (c Command) walk(hidden bool) []level {
	var all []level
	var walk func(path []string, usage string, flags []cli.Flag, verbs []*cli.Command)
	walk = func(path []string, usage string, flags []cli.Flag, verbs []*cli.Command) {
		verbs = slices.DeleteFunc(slices.Clone(verbs), func(v *cli.Command) bool { return v.Hidden && !hidden })
		all = append(all, level{path, usage, verbs, optionsOf(flags), flags})
		for _, v := range verbs {
			walk(append(slices.Clone(path), v.Name), v.Usage, v.Flags, v.Subcommands)
		}
	}
	walk(nil, c.Summary, c.Flags, c.Verbs)
	return all
}

// placeholder is how a flag's usage names its value.
var placeholder = regexp.MustCompile("`([^`]+)`")

// optionsOf describes flags.
func optionsOf(flags []cli.Flag) []option {
	var all []option
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if visible, is := f.(cli.VisibleFlag); !ok || is && !visible.IsVisible() {
			continue
		}
		o := option{usage: d.GetUsage()}
		if d.TakesValue() {
			o.value = "value"
			if m := placeholder.FindStringSubmatch(o.usage); m != nil {
				o.value = m[1]
			}
		}
		o.usage = placeholder.ReplaceAllString(o.usage, "$1")
		for _, name := range f.Names() {
			o.names = append(o.names, "-"+name)
		}
		all = append(all, o)
	}
	return all
}

// words are what may stand at a place.
func (l level) words() string {
	var all []string
	for _, v := range l.verbs {
		all = append(all, v.Name)
	}
	for _, o := range l.options {
		all = append(all, o.names...)
	}
	if !slices.Contains(all, "-h") {
		all = append(all, "-h")
	}
	return strings.Join(all, " ")
}

// valueOptions are the options of all places that take a value.
func valueOptions(levels []level) []string {
	var all []string
	for _, l := range levels {
		for _, o := range l.options {
			if o.value != "" {
				all = append(all, o.names...)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
