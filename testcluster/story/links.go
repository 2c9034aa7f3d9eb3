package story

import (
	"fmt"
	"slices"
	"strings"
)

func networkCommands() []command {
	return []command{
		{usage: "partition NODE... | NODE... [| NODE...]", least: 3, most: -1, run: (*story).partition,
			help: "cuts what goes between the groups, both ways and without a word: connections stand still, new ones get no answer. Nodes that are not named reach everybody."},
		{usage: "heal", run: (*story).healAll,
			help: "ends all cuts. Connections that both sides have kept go on, with all that was on its way."},
	}
}

func (s *story) partition(a args) error {
	var groups [][]string
	for group := range strings.SplitSeq(strings.Join(a.words, " "), "|") {
		groups = append(groups, strings.Fields(group))
	}
	for i, g := range groups {
		if len(g) == 0 {
			return fmt.Errorf("%w: an empty group", ErrScript)
		}
		for _, name := range g {
			if !slices.ContainsFunc(s.nodes, func(p *process) bool { return p.name == name }) {
				return fmt.Errorf("%w: there is no node %s", ErrScript, name)
			}
			for _, other := range slices.Concat(groups[:i]...) {
				s.net.cut(name, other)
			}
		}
	}
	return nil
}

func (s *story) healAll(args) error {
	s.net.heal()
	return nil
}
