package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

func (t *lineTool) statusCommand(ctx context.Context, params []string) error {
	g, err := parse(params, 1, "self", "all")
	if err != nil {
		return err
	}
	if g.has("self") && g.has("all") {
		return errors.New("both \"all\" and \"self\" parameters are specified")
	}
	var n lineNode
	switch {
	case len(g.hosts) > 0:
		var ok bool
		if n, ok = find(ctx, t.initial, g.hosts[0]); !ok {
			t.update(ctx)
			if n, ok = find(ctx, t.nodes, g.hosts[0]); !ok {
				return fmt.Errorf("not found %s in initial host list which is included from configuration file, nor in the ring", g.hosts[0])
			}
		}
	case t.host != nil:
		n = *t.host
	case g.has("self"):
		return errors.New("in order to use the \"self\" parameter, need to specify \"-host\" etc at startup, or specify host information after this parameter")
	default:
		return errors.New("in order to use the \"all\" parameter(or not specified any parameter: default \"all\"), need to specify \"-host\" etc at startup, or specify host information after this parameter")
	}
	command := "ALLSTATUS"
	if g.has("self") {
		command = "SELFSTATUS"
	}
	text, err := t.ask(ctx, n, command)
	if err != nil {
		return fmt.Errorf("could not get %s command result from %s: %w", command, n, err)
	}
	if g.has("self") {
		t.print(" %s = {\n     %s\n }", n, strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n     "))
		return nil
	}
	out, err := t.allStatus(text)
	if err != nil {
		return fmt.Errorf("something error occurred in parsing ALLSTATUS command result for %s: %w", n, err)
	}
	t.print("%s", out)
	return nil
}

// statusEntry is a server in the answer to ALLSTATUS: labels and values.
type statusEntry map[string]string

// parseAllStatus takes the answer to ALLSTATUS apart.
func parseAllStatus(text string) (ringName string, servers []statusEntry, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "No.") {
			servers = append(servers, statusEntry{})
			continue
		}
		label, value, ok := strings.Cut(line, "=")
		label, value = strings.TrimSpace(label), strings.TrimSpace(value)
		switch {
		case !ok:
		case label == "RING Name":
			ringName = value
		case len(servers) > 0:
			servers[len(servers)-1][label] = value
		}
	}
	if ringName == "" {
		return "", nil, fmt.Errorf("no RING Name in %.80q", strings.TrimSpace(text))
	}
	return ringName, servers, nil
}

// allStatus prints the answer to ALLSTATUS as the tool does.
func (t *lineTool) allStatus(text string) (string, error) {
	name, servers, err := parseAllStatus(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, " %s = {\n", name)
	for _, s := range servers {
		bits, words, _ := strings.Cut(strings.TrimSuffix(s["Server Status"], ")"), "(")
		_, words, _ = strings.Cut(words, "->")
		fmt.Fprintf(&b, "     %s = {\n", paint(t.colour, bold, s["Server Name"]))
		fmt.Fprintf(&b, "         Status(Bin)   = %s(%s)\n", t.statusWords(words, nil, "[DELETE] "), bits)
		fmt.Fprintf(&b, "         Hash(Pending) = %s(%s)\n", s["Enable Hash Value"], s["Pending Hash Value"])
		fmt.Fprintf(&b, "         Port/Ctlport  = %s%s/%s\n", s["Port"], t.tls(s), s["Control Port"])
		for _, more := range [][2]string{{"Ctl Endpoints = ", "Control Endppoints"}, {"CUK           = ", "CUK"}, {"Custom ID Seed= ", "Custom ID Seed"}} {
			if v := s[more[1]]; v != "" {
				fmt.Fprintf(&b, "         %s%s\n", more[0], v)
			}
		}
		fmt.Fprintf(&b, "         Last Update   = %s\n     }\n", lastUpdate(s["Last Update"]))
	}
	b.WriteString(" }\n")
	return b.String(), nil
}

func (t *lineTool) tls(s statusEntry) string {
	if s["Use SSL"] != "yes" {
		return ""
	}
	if s["Verify Peer"] == "yes" {
		return "(SSL:Client Verify)"
	}
	return "(SSL)"
}

// lastUpdate prints the number in brackets, or the whole value, as time.
func lastUpdate(value string) string {
	if _, in, ok := strings.Cut(value, "("); ok {
		value = strings.TrimSuffix(in, ")")
	}
	n, _ := strconv.ParseInt(value, 10, 64) // 0 where there is none
	return statusTime(n)
}

// statusTime prints CHMPX's number for a time: seconds shifted by 24 bits, and
// microseconds.
func statusTime(n int64) string {
	us := n & (1<<24 - 1)
	return fmt.Sprintf("%s %dms %dus(%d)", time.Unix(n>>24, 0).Format("2006-01-02 15h 04m 05s"), us/1000, us%1000, n)
}

// Columns that the words of a status are filled up to, brackets included.
var statusWidths = [5]int{13, 8, 9, 9, 0}

// knownWords are the words of a status, by their place.
var knownWords = [5][]string{
	{"SLAVE", "SERVICE OUT", "SERVICE IN"}, {"UP", "DOWN"}, {"n/a", "ADD", "DELETE"}, {"Nothing", "Pending", "Doing", "Done"}, {"Suspend", "NoSuspend"},
}

// wordsOf takes the five words of a status out of its text; there may be fewer.
func wordsOf(status string) []string {
	var all []string
	for len(all) < len(knownWords) {
		_, rest, ok := strings.Cut(status, "[")
		if !ok {
			break
		}
		word, after, _ := strings.Cut(rest, "]")
		all, status = append(all, strings.TrimSpace(word)), after
	}
	return all
}

// statusWords prints a status in columns. differs marks words that are not the
// same everywhere; deletes is how CHMPX prints a server that leaves there.
func (t *lineTool) statusWords(status string, differs []bool, deletes string) string {
	words := wordsOf(status)
	var b strings.Builder
	for i, known := range knownWords {
		word := "UNKNOWN"
		for _, w := range known {
			// CHMPX's tool and old versions of it leave the blanks out.
			if i < len(words) && strings.ReplaceAll(w, " ", "") == strings.ReplaceAll(words[i], " ", "") {
				word = w
			}
		}
		colour := wordColours[word]
		switch {
		case word == "UNKNOWN":
			colour = onRed
		case i < len(differs) && differs[i]:
			colour = bold + blink + backgrounds[colour]
		}
		text := "[" + word + "]"
		fill := strings.Repeat(" ", max(0, statusWidths[i]-len(text)))
		if word == "DELETE" {
			fill = strings.TrimPrefix(deletes, text)
		}
		b.WriteString("[" + paint(t.colour, colour, word) + "]" + fill)
	}
	return b.String()
}
