package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// tell sends a command to a node and prints that it was done. done is false when
// it was not; why says what came instead.
func (t *lineTool) tell(ctx context.Context, n lineNode, command string) (done bool, why string) {
	name, _, _ := strings.Cut(command, " ")
	text, err := t.ask(ctx, n, command)
	switch {
	case err != nil:
		return false, err.Error()
	case strings.Contains(text, "SUCCEED"):
		t.print("Succeed to send %s to %s", name, n)
		return true, ""
	}
	return false, strings.TrimSpace(text)
}

// tellAny sends a command to one server after the other until one has done it.
func (t *lineTool) tellAny(ctx context.Context, command string) error {
	name, _, _ := strings.Cut(command, " ")
	why := "no server is known"
	for _, n := range ofType(t.nodes, true) {
		done, reason := t.tell(ctx, n, command)
		if done {
			return nil
		}
		why = fmt.Sprintf("%s: %s", n, reason)
		t.say(lineWarning, "failed to send %s to %s by %s, but retry to send another node", name, n, reason)
	}
	t.print("Failed to send %s to all node, but no node is succeed.", name)
	return errors.New(why)
}

func (t *lineTool) mergeCommand(ctx context.Context, params []string) error {
	names := map[string]string{
		"start": "MERGE", "abort": "ABORTMERGE", "stop": "ABORTMERGE",
		"complete": "COMPMERGE", "comp": "COMPMERGE", "finish": "COMPMERGE", "fin": "COMPMERGE",
	}
	command := ""
	for _, p := range params {
		p = strings.ToLower(p)
		switch {
		case p == "noupdate":
		case command != "" || names[p] == "":
			return fmt.Errorf("unknown parameter(%s) for MERGE command", p)
		default:
			command = names[p]
		}
	}
	if command == "" {
		return errors.New("merge: start, abort or complete is needed")
	}
	if len(params) == 1 {
		t.update(ctx)
	}
	return t.tellAny(ctx, command)
}

func (t *lineTool) suspendCommand(name, command string) func(context.Context, []string) error {
	return func(ctx context.Context, params []string) error {
		if _, err := t.begin(ctx, params, 0); err != nil {
			return fmt.Errorf("%w for %s command", err, name)
		}
		return t.tellAny(ctx, command)
	}
}

func (t *lineTool) serviceInCommand(ctx context.Context, params []string) error {
	g, err := t.begin(ctx, params, 1)
	if err != nil {
		return err
	}
	n, ok := t.one(ctx, g)
	if !ok {
		return t.notFound(n)
	}
	text, err := t.ask(ctx, n, "SERVICEIN")
	switch {
	case err != nil:
		return fmt.Errorf("failed to send SERVICEIN command to %s: %w", n, err)
	case strings.Contains(text, "SUCCEED"):
		t.print("Succeed to send SERVICEIN to %s", n)
	default:
		t.print("Failed to send SERVICEIN to %s, error is %s.", n, text)
	}
	return nil
}

// serviceOutCommand sends SERVICEOUT of the last node to the first one, or, when
// that does not do it, to the others.
func (t *lineTool) serviceOutCommand(ctx context.Context, params []string) error {
	g, err := t.begin(ctx, params, 2)
	if err != nil {
		return err
	}
	if len(g.hosts) == 0 && t.host != nil {
		g.hosts = []lineNode{*t.host}
	}
	if len(g.hosts) == 0 {
		return errors.New("target hostname is not specified, you need to specify this")
	}
	first, what := g.hosts[0], g.hosts[len(g.hosts)-1]
	if n, ok := find(ctx, t.nodes, first); ok {
		first = n
	}
	if first.ctlPort == 0 || what.ctlPort == 0 {
		t.print("Target control port is not specified, you need to specify this.")
		return nil
	}
	command := "SERVICEOUT " + target{what.name, what.ctlPort}.String()
	for _, more := range []string{what.customSeed, what.cuk, what.ctlEndpoints} {
		if more != "" {
			command += ":" + more
			break
		}
	}
	done, why := t.tell(ctx, first, command)
	if done {
		return nil
	}
	t.say(lineWarning, "failed to send SERVICEOUT to %s by %s, but retry to send another node", first, why)
	return t.tellAny(ctx, command)
}

func (t *lineTool) statusUpdateCommand(ctx context.Context, params []string) error {
	g, err := t.begin(ctx, params, 1, "all")
	if err != nil {
		return err
	}
	nodes := ofType(t.nodes, true)
	if len(g.hosts) > 0 {
		n, ok := find(ctx, t.nodes, g.hosts[0])
		if !ok {
			return t.notFound(g.hosts[0])
		}
		if !n.server {
			t.print("%s host is slave node, thus could not send UPDATESTATUS.", n)
			return nil
		}
		nodes = []lineNode{n}
	}
	for _, n := range nodes {
		if done, why := t.tell(ctx, n, "UPDATESTATUS"); !done {
			t.print("Failed to send UPDATESTATUS to %s by \"%s\".", n, why)
		}
	}
	return nil
}
