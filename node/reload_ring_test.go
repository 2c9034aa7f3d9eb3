package node

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// file returns the configuration of node i, without the entry of a server if
// that is not -1.
func (h *house) file(i, without int) string {
	h.t.Helper()
	b, err := os.ReadFile(h.Conf(i))
	if err != nil {
		h.t.Fatal(err)
	}
	text := string(b)
	if without >= 0 {
		servers := len(h.nodes) - 1
		entry := fmt.Sprintf("[SVRNODE]\nNAME = localhost\nPORT = %d\nCTLPORT = %d\n", h.Ports[servers+1+without], h.Ports[without])
		if !strings.Contains(text, entry) {
			h.t.Fatalf("no %q in\n%s", entry, text)
		}
		text = strings.Replace(text, entry, "", 1)
	}
	return text
}

// reloaded waits until node i has so many servers in its configuration.
func (h *house) reloaded(i, servers int) {
	h.t.Helper()
	until(h.t, fmt.Sprintf("%d servers in the file of node %d: %+v", servers, i, h.nodes[i].Status().Config),
		func() bool { return len(h.nodes[i].conf().Servers) == servers })
}

// revision waits until every node runs with this FILEVERSION.
func (h *house) revision(want int) {
	h.t.Helper()
	until(h.t, fmt.Sprintf("revision %d on all nodes", want), func() bool {
		for _, n := range h.nodes {
			if c := n.Status().Config; c.Revision != want || c.Refused != "" {
				return false
			}
		}
		return true
	})
}

// linked waits until node i has its own link to server j.
func (h *house) linked(i, j int) {
	h.t.Helper()
	to := h.nodes[j].id
	until(h.t, fmt.Sprintf("a link from node %d to %d", i, j), func() bool {
		for _, l := range h.nodes[i].Status().Data.Links {
			if ring.ID(l.Peer) == to && !l.Accepted && l.Socket >= 0 {
				return true
			}
		}
		return false
	})
}

// A server that is added to the files of a running ring joins it, gets keys, and
// the slave reaches it, without a restart of anybody and without a message lost.
// When the files lack it again it stays a member, also over a restart.
func TestReloadAddsServer(t *testing.T) {
	h := newHouse(t, 3, "DELIVERMODE = HASH\nREPLICA = 1\nDOMERGE = on\nAUTOMERGE = on")
	all := make([]string, 4)
	for i := range 4 {
		if all[i] = h.file(i, -1); i != 2 {
			rewrite(t, h.Conf(i), h.file(i, 2))
			h.start(i)
		}
	}
	h.serve(0)
	h.serve(1)
	h.inService("ab")
	end := h.load(1)
	h.start(2)
	until(t, "that c is refused", func() bool { return strings.Contains(h.nodes[2].Status().WaitsFor, "not in our configuration") })
	for _, i := range []int{0, 1, 3} {
		rewrite(t, h.Conf(i), all[i])
		h.reloaded(i, 3)
	}
	h.serve(2)
	h.inService("abc")
	h.linked(3, 2)
	if end() == 0 {
		t.Error("nothing was answered")
	}
	for _, i := range []int{0, 1, 3} {
		replace(t, h.Conf(i), h.file(i, 2))
		h.reloaded(i, 2)
	}
	h.inService("abc")
	h.stop(2)
	h.start(2)
	h.inService("abc")
	for _, i := range []int{0, 1, 3} {
		h.linked(i, 2)
	}
	h.linked(2, 0)
	h.linked(2, 1)
	if text := ask(t, h.Ports[3], "ALLSTATUS"); !strings.Contains(text, "No.3\n") {
		t.Errorf("the slave shows\n%s", text)
	}
}

// Files that are written anew in their place, 30 times on each of four nodes that
// have work to do, harm nothing: all runs on, no message and no answer of a
// control port is lost, and SUSPENDMERGE stays as it was.
func TestReloadUnderLoad(t *testing.T) {
	h := newHouse(t, 3, "DELIVERMODE = HASH\nREPLICA = 1\nDOMERGE = on\nAUTOMERGE = on")
	for i := range 4 {
		h.start(i)
	}
	for i := range 3 {
		h.serve(i)
	}
	h.inService("abc")
	if reply := ask(t, h.Ports[1], "SUSPENDMERGE"); reply != "SUCCEED\n" {
		t.Fatal(reply)
	}
	end := h.load(1)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asked := make([]int, 4)
	for i := range 4 {
		asking.Go(func() {
			for ; ; asked[i]++ {
				select {
				case <-stop:
					return
				default:
				}
				if text, err := tell(h.Ports[i], "ALLSTATUS"); err != nil || !strings.HasSuffix(text, "\n") || strings.Count(text, "Server Name") < 3 {
					t.Errorf("node %d answered %v:\n%s", i, err, text)
					return
				}
			}
		})
	}
	var texts []string
	for i := range 4 {
		texts = append(texts, h.file(i, -1))
	}
	for n := 2; n <= 31; n++ {
		for i, text := range texts {
			next := strings.Replace(text, "FILEVERSION = 1", fmt.Sprintf("FILEVERSION = %d", n), 1)
			if n%2 == 0 { // with an entry that comes and goes
				next += fmt.Sprintf("[SVRNODE]\nNAME = 127.0.0.1\nPORT = %d\nCTLPORT = %d\n", 2*n, 2*n+1)
			}
			rewrite(t, h.Conf(i), next)
		}
		if n%5 == 0 { // else the next ones come while these are read
			h.revision(n)
		}
	}
	h.revision(31)
	close(stop)
	asking.Wait()
	if answered := end(); answered == 0 || asked[0]*asked[1]*asked[2]*asked[3] == 0 {
		t.Errorf("%d messages, %v commands were answered", answered, asked)
	}
	h.inService("abc")
	for i, n := range h.nodes {
		if st := n.Status(); !st.SuspendMerge {
			t.Errorf("node %d shows SUSPENDMERGE off", i)
		}
	}
}
