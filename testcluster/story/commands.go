package story

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is one word of the language of stories.
type command struct {
	usage       string // "name args", options as key=value, flags as [flag]
	help        string
	least, most int  // words besides options; most -1: any number
	anyOption   bool // key=value is not checked
	run         func(s *story, a args) error
}

func (c *command) name() string { name, _, _ := strings.Cut(c.usage, " "); return name }

// groups are all commands, as the documentation shows them.
func groups() []group {
	return []group{
		{"The ring", nodeCommands()},
		{"The network", networkCommands()},
		{"Programs", programCommands()},
		{"Messages", messageCommands()},
		{"Time, and what can be seen", observeCommands()},
	}
}

type group struct {
	title    string
	commands []command
}

func byName() map[string]*command {
	all := make(map[string]*command)
	for _, g := range groups() {
		for i := range g.commands {
			all[g.commands[i].name()] = &g.commands[i]
		}
	}
	return all
}

func names() []string {
	var all []string
	for _, g := range groups() {
		for _, c := range g.commands {
			all = append(all, c.name())
		}
	}
	slices.Sort(all)
	return all
}

// WriteCommands writes the documentation of all commands as Markdown.
func WriteCommands(w io.Writer) error {
	for _, g := range groups() {
		if _, err := fmt.Fprintf(w, "\n## %s\n\n", g.title); err != nil {
			return err
		}
		for _, c := range g.commands {
			if _, err := fmt.Fprintf(w, "`%s`\n: %s\n\n", c.usage, c.help); err != nil {
				return err
			}
		}
	}
	return nil
}
