package clidoc

import (
	"fmt"
	"strings"
)

// Bash returns the completion for bash: verbs and options of the place, files
// behind options that take a value.
func (c Command) Bash() string {
	var b strings.Builder
	levels := c.levels()
	function := "_" + strings.ReplaceAll(c.Name, "-", "_")
	fmt.Fprintf(&b, "# bash completion for %[1]s\n%[2]s() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb= skip= i\n"+
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tif [[ -n $skip ]]; then skip=; continue; fi\n"+
		"\t\tcase ${COMP_WORDS[i]} in\n", c.Name, function)
	if v := valueOptions(levels); len(v) > 0 {
		fmt.Fprintf(&b, "\t\t%s) skip=1 ;;\n", strings.Join(v, " | "))
	}
	b.WriteString("\t\t-*) ;;\n\t\t*) verb=${verb:+$verb }${COMP_WORDS[i]} ;;\n\t\tesac\n\tdone\n\tCOMPREPLY=()\n\t[[ -z $skip ]] || return 0\n\tcase $verb in\n")
	for _, l := range levels {
		fmt.Fprintf(&b, "\t'%s') COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", strings.Join(l.path, " "), l.words())
	}
	fmt.Fprintf(&b, "\tesac\n}\ncomplete -o default -F %s %s\n", function, c.Name)
	return b.String()
}

// Zsh returns the completion for zsh, as Bash does.
func (c Command) Zsh() string {
	var b strings.Builder
	levels := c.levels()
	fmt.Fprintf(&b, "#compdef %s\nlocal verb= skip= w\nfor w in ${words[2,CURRENT-1]}; do\n"+
		"\tif [[ -n $skip ]]; then skip=; continue; fi\n\tcase $w in\n", c.Name)
	if v := valueOptions(levels); len(v) > 0 {
		fmt.Fprintf(&b, "\t(%s) skip=1 ;;\n", strings.Join(v, "|"))
	}
	b.WriteString("\t(-*) ;;\n\t(*) verb=\"${verb:+$verb }$w\" ;;\n\tesac\ndone\nif [[ -n $skip ]]; then\n\t_files\n\treturn\nfi\ncase $verb in\n")
	for _, l := range levels {
		fmt.Fprintf(&b, "\t('%s') compadd -- %s ;;\n", strings.Join(l.path, " "), l.words())
	}
	b.WriteString("\t(*) _files ;;\nesac\n")
	return b.String()
}

// Fish returns the completion for fish, with what verbs and options do.
func (c Command) Fish() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %s\n", c.Name)
	for _, l := range c.levels() {
		when := condition(l)
		for _, v := range l.verbs {
			fmt.Fprintf(&b, "complete -c %s -f%s -a %s -d %s\n", c.Name, when, v.Name, fishQuote(v.Usage))
		}
		for _, o := range l.options {
			fmt.Fprintf(&b, "complete -c %s%s", c.Name, when)
			for _, name := range o.names {
				fmt.Fprintf(&b, " -o %s", strings.TrimPrefix(name, "-"))
			}
			if o.value != "" {
				b.WriteString(" -r")
			}
			if o.usage != "" {
				fmt.Fprintf(&b, " -d %s", fishQuote(o.usage))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// condition says in fish when a command line is at a place.
func condition(l level) string {
	if len(l.path) == 0 && len(l.verbs) == 0 {
		return ""
	}
	var all []string
	for _, verb := range l.path {
		all = append(all, "__fish_seen_subcommand_from "+verb)
	}
	if len(l.path) == 0 {
		all = append(all, "__fish_use_subcommand")
	} else if len(l.verbs) > 0 {
		var behind []string
		for _, v := range l.verbs {
			behind = append(behind, v.Name)
		}
		all = append(all, "not __fish_seen_subcommand_from "+strings.Join(behind, " "))
	}
	return " -n " + fishQuote(strings.Join(all, "; and "))
}

// fishQuote quotes a word.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
