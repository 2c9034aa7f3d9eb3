package clidoc

import (
	"fmt"
	"strings"
)

// Man returns the manual page.
func (c Command) Man() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %d\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(c.Name)), c.Section, roff(c.Name), roff(c.Summary))
	if c.Text != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(strings.TrimSpace(c.Text)))
		return b.String()
	}
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\ncommand [options]\n.SH DESCRIPTION\n", roff(c.Name))
	for paragraph := range strings.SplitSeq(strings.TrimSpace(c.Detail), "\n\n") {
		fmt.Fprintf(&b, ".PP\n%s\n", roff(paragraph))
	}
	b.WriteString(".SH COMMANDS\n")
	for _, l := range c.levels() {
		if len(l.path) == 0 || len(l.verbs) > 0 {
			continue // those behind it follow
		}
		fmt.Fprintf(&b, ".SS %s %s\n%s\n", roff(c.Name), roff(strings.Join(l.path, " ")), roff(l.usage))
		for _, o := range l.options {
			names := "\\fB" + strings.Join(strings.Split(roff(strings.Join(o.names, "\x00")), "\x00"), "\\fR, \\fB") + "\\fR"
			if o.value != "" {
				names += " \\fI" + roff(o.value) + "\\fR"
			}
			fmt.Fprintf(&b, ".TP\n%s\n%s\n", names, roff(o.usage))
		}
	}
	return b.String()
}

// roff escapes text: backslashes, dashes, which would become hyphens, and
// what begins a line as a request does.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
