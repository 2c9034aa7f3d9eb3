package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/internal/testring"
	"github.com/chmpx/chmpx/node"
)

// patience is how long anything in these tests may take at most.
const patience = 60 * time.Second

// house is a ring of nodes of this process. The slave comes last.
type house struct {
	*testring.House
	t *testing.T
}

// newHouse starts servers and a slave with these keys.
func newHouse(t *testing.T, servers int, keys string) *house {
	t.Helper()
	h := &house{testring.New(t, servers, keys), t}
	for i := range servers + 1 {
		n, err := node.New(node.Options{Config: config.Source{Path: h.Conf(i)}, Version: "1.2.3"})
		if err != nil {
			t.Fatal(err)
		}
		h.Start(i, n.Run)
	}
	return h
}

// serve attaches a server program to server i until the test ends.
func (h *house) serve(i int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Config: h.Conf(i), Role: client.RoleServer})
	if err != nil {
		h.t.Fatalf("attach to node %d: %v", i, err)
	}
	h.t.Cleanup(func() { c.Close() })
}

// ctl runs a verb with the configuration of node i, which must succeed.
func (h *house) ctl(i int, verb string, options ...string) string {
	h.t.Helper()
	args := append(strings.Fields(verb), append([]string{"-conf", h.Conf(i)}, options...)...)
	out, err := runArgs(h.t, args...)
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Operators bring a ring up by the verbs alone, waiting by chmpxctl itself.
func TestRingByVerbs(t *testing.T) {
	const servers = 2
	h := newHouse(t, servers, "DELIVERMODE = hash\nREPLICA = 1\nDOMERGE = on\nAUTOMERGE = off")
	wait := []string{"-timeout", patience.String()}
	for i := range servers {
		h.ctl(i, "status", append(wait, "-wait", "-live", "up", "-ring", "serviceout", "-suspend")...)
		h.serve(i)
		for k := range servers { // as both see it
			h.ctl(k, "status", append(wait, "-wait", "-of", fmt.Sprintf("localhost:%d", h.Ports[i]), "-live", "up", "-nosuspend")...)
		}
		h.ctl(i, "servicein")
	}
	h.ctl(servers, "status", append(wait, "-wait", "-ring", "slave")...)
	h.ctl(0, "merge start")
	h.untilComplete()
	for i := range servers {
		h.ctl(i, "status", append(wait, "-wait", "-ring", "servicein", "-nosuspend")...)
	}

	for i := range servers + 1 {
		h.untilListed(i, servers+1)
	}
	if out := h.ctl(0, "version"); strings.Count(out, "Version 1.2.3 (commit: ") != servers+1 {
		t.Errorf("version:\n%s", out)
	}
	if out := h.ctl(0, "check"); !strings.Contains(out, "the ring is in order; 0 warnings") || strings.Count(out, "ok\n") != servers+1 {
		t.Errorf("check:\n%s", out)
	}
	h.Stop(1)
	h.ctl(0, "status", append(wait, "-wait", "-of", fmt.Sprintf("localhost:%d", h.Ports[1]), "-live", "down")...)
	h.ctl(1, "status", append(wait, "-wait", "-live", "down")...)
	out, err := runArgs(t, "check", "-conf", h.Conf(0))
	if exitCode(err) != exitFailed || !strings.Contains(out, "is in service and down") {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// untilListed waits until node i lists so many nodes: a slave is one of the ring some
// time after it runs.
func (h *house) untilListed(i, count int) {
	h.t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var nodes nodesAnswer
		if err := json.Unmarshal([]byte(h.ctl(i, "nodes", "-json")), &nodes); err != nil {
			h.t.Fatal(err)
		}
		if len(nodes.Nodes) == count {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			h.t.Fatalf("node %d lists %+v, want %d", i, nodes.Nodes, count)
		}
	}
}

// untilComplete sends COMPMERGE until it is not refused any more: the servers
// have to be Done.
func (h *house) untilComplete() {
	h.t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := runArgs(h.t, "merge", "complete", "-conf", h.Conf(0))
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			h.t.Fatalf("merge complete: %v\n%s", err, out)
		}
	}
}

// Every command that the documentation shows works on a ring as it stands there.
func TestDocumentedCommands(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "chmpxctl.md"))
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, 1, "DELIVERMODE = hash\nDOMERGE = on\nAUTOMERGE = on")
	h.serve(0)
	h.ctl(0, "status", "-wait", "-ring", "servicein", "-nosuspend", "-settled", "-timeout", patience.String())
	files := strings.NewReplacer("test_server.ini", h.Conf(0), "commands.txt", h.file("commands.txt", documented(string(text), "# commands.txt")),
		"lines.txt", h.file("lines.txt", "nodes\ncheck\nquit\n"), "8021", strconv.Itoa(h.Ports[0]))
	shown := 0
	for line := range strings.Lines(string(text)) {
		line, ok := strings.CutPrefix(line, "    $ ")
		if !ok {
			continue
		}
		shown++
		args := strings.Fields(files.Replace(line))
		if args[0] == statusToolName {
			var out, errs strings.Builder
			if code := runStatusTool(t.Context(), args[1:], &out, &errs); code != 0 || errs.String() != "" ||
				!strings.Contains(out.String(), "SAFE -> [SERVICE IN][UP]") && out.String() != "SUCCEED\n" {
				t.Errorf("%s: code %d\n%s%s", line, code, out.String(), errs.String())
			}
			continue
		}
		if args[0] == lineToolName {
			var out, errs strings.Builder
			tool := &lineTool{in: strings.NewReader(""), out: &out, errs: &errs}
			if code := runLineTool(t.Context(), args[1:], tool); code != 0 || !strings.Contains(out.String(), "\nOK   ") || errs.String() != "" {
				t.Errorf("%s: code %d\n%s%s", line, code, out.String(), errs.String())
			}
			continue
		}
		out, err := runArgs(t, args[1:]...)
		refused := args[1] == "servicein" || args[1] == "serviceout" // of a server that is in service, of one that there is not
		if refused && exitCode(err) != exitFailed || !refused && err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if shown < 20 {
		t.Errorf("%d commands are shown", shown)
	}
}

// documented returns the block of a document that begins with a line.
func documented(text, first string) string {
	_, block, _ := strings.Cut(text, "    "+first)
	block, _, _ = strings.Cut(block, "\n\n")
	return "#" + strings.ReplaceAll(block, "\n    ", "\n") + "\n"
}

// file writes a file into the directory of the ring and returns its path.
func (h *house) file(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// CHMPX's line tool works on our ring: it finds all nodes, its check is content,
// and its commands take a server in and out.
func TestLineToolOnRing(t *testing.T) {
	const servers = 2
	h := newHouse(t, servers, "DELIVERMODE = hash\nREPLICA = 1\nDOMERGE = on\nAUTOMERGE = off")
	wait := []string{"-timeout", patience.String(), "-wait", "-settled"}
	run := func(lines ...string) string {
		t.Helper()
		var out, errs strings.Builder
		tool := &lineTool{in: strings.NewReader(strings.Join(lines, "\n") + "\nquit\n"), out: &out, errs: &errs}
		if code := runLineTool(t.Context(), []string{"-conf", h.Conf(0), "-nocolor"}, tool); code != 0 || errs.String() != "" {
			t.Fatalf("%q: code %d\n%s%s", lines, code, out.String(), errs.String())
		}
		_, text, _ := strings.Cut(out.String(), "CLT> ") // behind the welcome
		return text
	}
	var lines []string
	for i := range servers {
		h.serve(i)
		h.ctl(i, "status", append(wait, "-nosuspend")...)
		lines = append(lines, fmt.Sprintf("servicein localhost:%d", h.Ports[i]))
	}
	out := run(append(lines, "merge start")...)
	for i := range servers {
		if want := fmt.Sprintf("Succeed to send SERVICEIN to localhost:%d\n", h.Ports[i]); !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	h.untilComplete()
	h.ctl(servers, "status", append(wait, "-ring", "slave")...)
	check := func(want string, times int) string { // until all nodes show the same
		t.Helper()
		for late := time.After(patience); ; {
			out := "\n" + run("check")
			if strings.Count(out, want) == times {
				return out
			}
			select {
			case <-late:
				t.Fatalf("%q is not %d times in\n%s", want, times, out)
			default:
			}
		}
	}
	out = check("\nOK   ", servers+1)
	for _, want := range []string{"[SERVICE IN] [UP]    [n/a]    [Nothing][NoSuspend]", "[SLAVE]      [UP]", "hash(pending)     = 0x1(0x1)"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	out = run("nodes", "version", fmt.Sprintf("status 127.0.0.1:%d", h.Ports[1]), fmt.Sprintf("status self localhost:%d", h.Ports[0]),
		fmt.Sprintf("dump localhost:%d", h.Ports[1]), "statusupdate", "suspend", "nosuspend", fmt.Sprintf("serviceout localhost:%d", h.Ports[1]))
	for _, want := range []string{
		fmt.Sprintf(" Chmpx server nodes             : %d\n", servers), " Chmpx slave nodes              : 1\n", "Version 1.2.3",
		" HOUSE = {\n     localhost = {\n", "     RING Name                 = HOUSE\n", "chmpx_man{\n",
		fmt.Sprintf("Succeed to send UPDATESTATUS to localhost:%d\n", h.Ports[1]), "Succeed to send SUSPENDMERGE to ", "Succeed to send NOSUSPENDMERGE to ",
		fmt.Sprintf("Succeed to send SERVICEOUT to localhost:%d\n", h.Ports[1]),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	check("[SERVICE IN] [UP]    [DELETE]  [Pending][NoSuspend]\n", 1)
}

// The name that it is called by decides what this binary is.
func TestNames(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{confTestName: "Usage: chmpxconftest ", lineToolName: "       chmpxlinetool -help\n", statusToolName: "Usage: chmpxstatus -h\n"} {
		link := filepath.Join(t.TempDir(), name)
		if err := os.Symlink(self, link); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(link, "-help").Output(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestMain runs the tool instead of the tests when a link calls this binary so.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case confTestName, lineToolName, statusToolName:
		main()
	}
	os.Exit(m.Run())
}
