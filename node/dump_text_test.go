package node

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
)

// toolUnit is a node as chmpxlinetool reads it from DUMP.
type toolUnit struct{ id, name, base, pending, ctlPort, sock, status string }

// toolDump is what chmpxlinetool reads from DUMP.
type toolDump struct {
	self            toolUnit
	servers, slaves []toolUnit
}

// toolReader reads as chmpxlinetool does: without blanks, each key is looked for
// from where the one before ended, as far as it takes.
type toolReader struct {
	t    *testing.T
	rest string
}

func (r *toolReader) key(name string) string {
	r.t.Helper()
	_, after, found := strings.Cut(r.rest, name+"=")
	if !found {
		r.t.Fatalf("no %s= in what follows:\n%s", name, r.rest)
	}
	value, rest, _ := strings.Cut(after, "\n")
	r.rest = rest
	return value
}

func (r *toolReader) expect(text string) {
	r.t.Helper()
	rest, found := strings.CutPrefix(r.rest, text)
	if !found {
		r.t.Fatalf("%q does not follow:\n%s", text, r.rest)
	}
	r.rest = rest
}

func (r *toolReader) unit() toolUnit {
	r.t.Helper()
	u := toolUnit{id: r.key("chmpxid"), name: r.key("name"), base: r.key("base_hash"), pending: r.key("pending_hash"), ctlPort: r.key("ctlport")}
	r.key("cuk")
	r.key("custom_seed")
	r.key("ctlendpoints")
	u.sock = r.key("sock")
	r.key("last_status_time")
	_, u.status, _ = strings.Cut(r.key("status"), "->")
	r.expect("}\n")
	return u
}

func (r *toolReader) list(name string) (all []toolUnit) {
	r.t.Helper()
	if r.key(name) == "0" {
		return nil
	}
	for r.expect("{\n"); strings.HasPrefix(r.rest, "["); r.expect("}\n") {
		_, r.rest, _ = strings.Cut(r.rest, "chmpx{\n")
		all = append(all, r.unit())
	}
	r.expect("}\n")
	return all
}

func readDump(t *testing.T, text string) (d toolDump) {
	t.Helper()
	_, man, found := strings.Cut(text, "chmpx_man{\n")
	if !found {
		t.Fatalf("no chmpx_man in\n%s", text)
	}
	r := &toolReader{t, strings.NewReplacer(" ", "", "\t", "").Replace(man)}
	r.key("chmpx_self")
	r.expect("{\n")
	d.self = r.unit()
	d.servers, d.slaves = r.list("chmpx_servers"), r.list("chmpx_slaves")
	return d
}

// toolCheck is the command check of chmpxlinetool: what does not fit together.
func toolCheck(dumps map[string]toolDump) (wrong []string) {
	socket := func(units []toolUnit, of string) (count int) {
		for _, u := range units {
			if u.id == of && u.sock != "-1" {
				count++
			}
		}
		return count
	}
	for a, dump := range dumps {
		in, out, theirOut, theirIn := 0, 0, 0, 0
		for _, u := range dump.slaves {
			in += socket([]toolUnit{u}, u.id)
		}
		for _, u := range dump.servers {
			out += socket([]toolUnit{u}, u.id)
		}
		for b, other := range dumps {
			theirOut += socket(other.servers, a)
			theirIn += socket(other.slaves, a)
			said := append(other.servers, other.slaves...)
			known := false
			for _, u := range said {
				if u.id != a {
					continue
				}
				if !known && (u.status != dump.self.status || u.base != dump.self.base || u.pending != dump.self.pending) {
					wrong = append(wrong, fmt.Sprintf("%s says %+v, %s is %+v", b, u, a, dump.self))
				}
				known = true // a server may be a slave as well
			}
		}
		if in != theirOut || out != theirIn {
			wrong = append(wrong, fmt.Sprintf("%s has %d links in of %d, %d out of %d", a, in, theirOut, out, theirIn))
		}
	}
	return wrong
}

// DUMP of every node of a ring can be read as chmpxlinetool reads it, and its
// check finds nothing wrong: statuses, hash numbers and links fit together.
func TestDumpChecks(t *testing.T) {
	h := newHouse(t, 3, "DELIVERMODE = RANDOM\nREPLICA = 0\nMAXHISTLOG = 77")
	for i := range 4 {
		h.start(i)
	}
	h.serve(0)
	h.serve(1)
	h.inService("ab")
	asking := h.attach(3, client.RoleClient)
	defer asking.Close()
	program := fmt.Sprintf("client_pids          = 0x1\n{\n  [0] = {\n    pid  = %d\n", os.Getpid())
	late := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var dumps map[string]toolDump
	var wrong []string
	for { // what is under way settles
		dumps = map[string]toolDump{}
		links := 0
		for i := range 4 {
			text := ask(t, h.Ports[i], "DUMP")
			if !strings.Contains(text, "history log count    = 77\n") || strings.Contains(text, program) != (i != 2) {
				t.Fatalf("node %d:\n%s", i, text)
			}
			d := readDump(t, text)
			dumps[d.self.id] = d
			links += len(d.slaves)
		}
		if wrong = toolCheck(dumps); len(wrong) == 0 && links == 3*2+3 { // servers among themselves, and the slave to each
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d links, wrong: %q", links, wrong)
		}
	}
	for id, d := range dumps {
		if len(dumps) != 4 || len(d.servers) != 3 || id != d.self.id || d.self.name != "localhost" {
			t.Errorf("%d nodes, %+v", len(dumps), d)
		}
	}
}
