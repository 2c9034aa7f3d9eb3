package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/chmpx/chmpx/cmd/internal/console"
)

// commands are those of the line tool beside what every console has.
func (t *lineTool) commands() []console.Command {
	updating := []string{"noupdate"}
	return []console.Command{
		{Names: []string{"help", "h"}, Run: func(context.Context, []string) error { t.print("%s", lineHelp); return nil }},
		{Names: []string{"update", "up", "u"}, Run: func(ctx context.Context, _ []string) error {
			t.update(ctx)
			t.printNodes(t.nodes, true, true)
			return nil
		}},
		{Names: []string{"nodes", "node", "n"}, Max: 2, Words: []string{"nodyna", "noupdate", "server", "slave"}, Run: t.nodesCommand},
		{Names: []string{"status"}, Max: 2, Words: []string{"self", "all"}, Run: t.statusCommand},
		{Names: []string{"check"}, Max: 2, Words: []string{"noupdate", "all"}, Run: t.checkCommand},
		{Names: []string{"statusupdate", "statusup", "stsup", "updatestatus", "upstatus", "upsts"}, Max: 2, Words: []string{"noupdate", "all"}, Run: t.statusUpdateCommand},
		{Names: []string{"servicein", "svcin", "sin"}, Max: 2, Words: updating, Run: t.serviceInCommand},
		{Names: []string{"serviceout", "svcout", "sout"}, Max: 3, Words: updating, Run: t.serviceOutCommand},
		{Names: []string{"merge"}, Min: 1, Max: 2, Words: []string{"start", "abort", "complete", "noupdate"}, Run: t.mergeCommand},
		{Names: []string{"suspend", "sus"}, Max: 1, Words: updating, Run: t.suspendCommand("suspend", "SUSPENDMERGE")},
		{Names: []string{"nosuspend", "nosus"}, Max: 1, Words: updating, Run: t.suspendCommand("nosuspend", "NOSUSPENDMERGE")},
		{Names: []string{"dump"}, Max: 2, Words: updating, Run: t.dumpCommand},
		{Names: []string{"version", "ver", "v"}, Max: 1, Words: []string{"nodyna", "noupdate"}, Run: t.versionCommand},
		{Names: []string{"dbglevel"}, Max: 1, Words: []string{"slt", "err", "wan", "msg", "dmp"}, Run: t.levelCommand},
		{Names: []string{"dchmpx"}, Max: 1, Words: []string{"on", "off"}, Run: t.libraryCommand},
	}
}

// given is what stands behind a command.
type given struct {
	words []string // those that the command knows, in lower case
	hosts []lineNode
}

func (g given) has(word string) bool {
	for _, w := range g.words {
		if w == word {
			return true
		}
	}
	return false
}

// parse reads parameters: words that the command knows, and up to hosts others,
// which are nodes.
func parse(params []string, hosts int, words ...string) (given, error) {
	var g given
	for _, p := range params {
		known := false
		for _, w := range words {
			known = known || strings.EqualFold(p, w)
		}
		switch {
		case known:
			g.words = append(g.words, strings.ToLower(p))
		case len(g.hosts) == hosts:
			return g, fmt.Errorf("unknown parameter(%s)", p)
		default:
			g.hosts = append(g.hosts, parseHost(p))
		}
	}
	return g, nil
}

// begin reads parameters and asks for the nodes of the ring, unless it is told not to.
func (t *lineTool) begin(ctx context.Context, params []string, hosts int, words ...string) (given, error) {
	g, err := parse(params, hosts, append(words, "noupdate")...)
	if err == nil && !g.has("noupdate") {
		t.update(ctx)
	}
	return g, err
}

// notFound prints that there is no such node.
func (t *lineTool) notFound(n lineNode) error {
	number := int(n.ctlPort)
	if number == 0 {
		number = -1
	}
	t.print("Not found %s(:%d) in dynamic host list which is included from configuration file.", n.name, number)
	return nil
}

// one returns the node that a command is for: the given one, else that of -host.
func (t *lineTool) one(ctx context.Context, g given) (lineNode, bool) {
	var want lineNode
	if t.host != nil {
		want = *t.host
		want.cuk, want.customSeed, want.ctlEndpoints = "", "", ""
	}
	if len(g.hosts) > 0 {
		want = g.hosts[0]
	}
	if n, ok := find(ctx, t.nodes, want); ok {
		return n, true
	}
	return want, false
}

func (t *lineTool) nodesCommand(ctx context.Context, params []string) error {
	g, err := parse(params, 0, "nodyna", "noupdate", "server", "slave")
	if err != nil {
		return err
	}
	nodes, err := t.listed(ctx, g)
	if err != nil {
		return err
	}
	both := g.has("server") == g.has("slave")
	if both {
		t.printNodes(nodes, true, true)
	} else {
		t.printType(nodes, g.has("server"))
	}
	return nil
}

// listed returns the nodes that nodyna and noupdate ask for.
func (t *lineTool) listed(ctx context.Context, g given) ([]lineNode, error) {
	switch {
	case g.has("nodyna") && g.has("noupdate"):
		return nil, errors.New("could not specify both \"nodyna\" and \"noupdate\" parameters")
	case g.has("nodyna"):
		return t.initial, nil
	case !g.has("noupdate"):
		t.update(ctx)
	}
	return t.nodes, nil
}

func ofType(nodes []lineNode, server bool) []lineNode {
	var all []lineNode
	for _, n := range nodes {
		if n.server == server {
			all = append(all, n)
		}
	}
	return all
}

// nodeHeads are the lines before the nodes of a type.
var nodeHeads = map[bool]string{true: " Chmpx server nodes             : %d", false: " Chmpx slave nodes              : %d"}

func (t *lineTool) printNodes(nodes []lineNode, servers, slaves bool) {
	for _, server := range []bool{true, false} {
		if server && !servers || !server && !slaves {
			continue
		}
		n := len(ofType(nodes, server))
		t.print(nodeHeads[server], n)
		if n > 0 {
			t.print(" {")
			t.printType(nodes, server)
			t.print(" }")
		}
	}
}

func (t *lineTool) printType(nodes []lineNode, server bool) {
	for i, n := range ofType(nodes, server) {
		t.print("    [%d] = {\n        Chmpxid                 : 0x%016x\n        Hostname                : %s\n        Control Port            : %d\n"+
			"        CUK                     : %s\n        Control Endpoints       : %s\n        Custom ID Seed          : %s\n    }",
			i, uint64(n.id), n.name, n.ctlPort, n.cuk, n.ctlEndpoints, n.customSeed)
	}
}

func (t *lineTool) versionCommand(ctx context.Context, params []string) error {
	g, err := parse(params, 0, "nodyna", "noupdate")
	if err != nil {
		return err
	}
	nodes, err := t.listed(ctx, g)
	if err != nil {
		return err
	}
	for _, server := range []bool{true, false} {
		some := ofType(nodes, server)
		t.print(nodeHeads[server], len(some))
		if len(some) == 0 {
			continue
		}
		t.print(" {")
		for _, n := range some {
			text, err := t.ask(ctx, n, "VERSION")
			text = strings.TrimSuffix(text, "\n")
			if err != nil {
				text = "Could not get VERSION"
			} else if text == "Unknown command(VERSION)" {
				text = "This chmpx version is old version, VERSION command supports after 1.0.57"
			}
			t.print("    %s\t= %s", n, text)
		}
		t.print(" }")
	}
	return nil
}

func (t *lineTool) dumpCommand(ctx context.Context, params []string) error {
	g, err := t.begin(ctx, params, 1)
	if err != nil {
		return err
	}
	n, ok := t.one(ctx, g)
	if !ok {
		return t.notFound(n)
	}
	text, err := t.ask(ctx, n, "DUMP")
	if err != nil {
		return fmt.Errorf("failed to send DUMP command to %s: %w", n, err)
	}
	t.print("%s", text)
	return nil
}

func (t *lineTool) levelCommand(_ context.Context, params []string) error {
	if len(params) == 0 {
		t.level = (t.level + 1) % (lineDump + 1)
		return nil
	}
	level, ok := lineLevels[strings.ToUpper(params[0])]
	if !ok {
		return fmt.Errorf("unknown parameter(%s) for dbglevel command", params[0])
	}
	t.level = level
	return nil
}

func (t *lineTool) libraryCommand(_ context.Context, params []string) error {
	on := !t.library
	if len(params) > 0 {
		switch strings.ToLower(params[0]) {
		case "on", "yes", "y":
			on = true
		case "off", "no", "n":
			on = false
		default:
			return fmt.Errorf("unknown parameter(%s) for dchmpx command", params[0])
		}
		if on == t.library {
			return fmt.Errorf("already dchmpx is %s", map[bool]string{true: "enabled", false: "disabled"}[on])
		}
	}
	t.library = on
	t.print("%s chmpx debugging message.", map[bool]string{true: "Enable", false: "Disable"}[on])
	return nil
}

// lineHelp is what "help" prints.
const lineHelp = `
Command: [command] [parameters...]

help(h)        print help
quit(q)/exit   quit
update(u)      update dynamic target chmpx nodes
nodes [nodyna | noupdate] [server | slave]
               print all/server/slave chmpx nodes. if noupdate parameter
               is specified, do not update before doing. if nodyna
               parameter is specified, only initially chmpx nodes.
status [self | all] [host(*1)]
               If the "self" parameter is specified, the status of the
               target node is returned. This is the same as the SELFSTATUS
               control command.
               If the "all" parameter is specified, the server node
               status that the target node knows is output. This is
               equivalent to the ALLSTATUS control command.
               The target node is specified as a parameter after self/all
               parameter. If omitted, this tool must be started with the
               "-host" option etc specified.
check [noupdate] [all | host(*1)]
               check and print all nodes status/hash/socket connection
               count. if host and control port is specified, check only
               that host and print target node status/etc which are
               looked by other nodes. if noupdate parameter is
               specified, do not update before doing.
statusupdate [noupdate] [all | host(*1)]
               push status of all/one node(s) to other nodes.
               if host and control port is specified, push only that
               host. if noupdate parameter is specified, do not update
               before doing.
servicein [noupdate] [host(*1)]
               service in node to RING by SERVICEIN.
               if tool runs with host option, target node is specified
               host. if noupdate parameter is specified, do not update
               before doing.
serviceout [noupdate] [host(*1)] {[target host(*1)]}
               service out node to RING by SERVICEOUT.
               if tool runs with host option, target node is specified
               host. if noupdate parameter is specified, do not update
               before doing.
merge [noupdate] [start | abort | complete]
               control merging, start/stop/complete(finish) to RING by
               MERGE/ABORTMERGE/COMPMERGE.
suspend [noupdate]
               suspend auto merging to RING by SUSPENDMERGE
nosuspend [noupdate]
               not suspend auto merging to RING by NOSUSPENDMERGE
dump [noupdate] [host(*1)]
               print target node all information by DUMP.
               if tool runs with host option, target node is specified
               host. if tool runs with conf option, must specify host
               and control port in nodes list. if noupdate parameter
               is specified, do not update before doing.
version [nodyna | noupdate]
               print all chmpx nodes version. if noupdate parameter is
               specified, do not update before doing. if nodyna
               parameter is specified, only initially chmpx nodes.
loop [second] [loop limit count]
               loop command input specified with interval second
               enter a series of commands to be executed continuously
               after this command. to end the input, enter "." character
               on "CLT LOOP>" prompt. after the sequence commands are
               complete, they are executed immediately. when a series of
               command execution is completed, it waits for the specified
               number of seconds and then re-executes them. if loop limit
               count is omitted, it loops until it stops.
loopcmd [command...]
               command in loop command.
               this command is used to specify successive commands to be
               executed by the loop and can be used only in the command
               file. this can only be specified immediately after the
               loop command and the loopcmd command after the loop
               command.
dbglevel [slt | err | wan | msg | dmp]
               bumpup debugging level or specify level
dchmpx [on | off]
               toggle or enable/disable chmpx debug msg
history(his)
               display all history, you can use a command linein history
               by "!<number>".
save <file path>
               save command history to command file.
load <file path>
               load command from file and run those.
shell          exit shell(same as "!" command).
echo <string>  echo specified string(after echo command).
sleep <second> sleep specified(decimal) seconds.

(*1) How to specify the target host
"hostname(IP address)":"control port"[:"cuk"[:"custom_seed"[:"control endpoints..."]]]
`
