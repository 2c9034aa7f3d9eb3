package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/ring"
)

// node restart returns when the server is another process, and says when the
// ring has given it up.
func TestNodeRestart(t *testing.T) {
	asked, down, back, given := exampleRing(), exampleRing(), exampleRing(), exampleRing()
	asked.Servers[1].Restarting = true
	down.Servers[1].Restarting, down.Servers[1].Up = true, false
	back.Servers[1].Incarnation = 9
	given.Servers[1].Up = false
	down.Servers[0].Incarnation = 9 // which was started again by somebody else
	if done, err := restarted(exampleRing(), down); done || err != nil {
		t.Errorf("while b is down: %t, %v", done, err)
	}
	for name, c := range map[string]struct {
		statuses []controlplane.Status
		code     int
		want     string // in the output, or the error
	}{
		"back":     {[]controlplane.Status{exampleRing(), asked, down, down, back}, exitDone, "SUCCEED"},
		"at once":  {[]controlplane.Status{exampleRing(), back}, exitDone, "SUCCEED"},
		"given up": {[]controlplane.Status{exampleRing(), asked, down, given}, exitFailed, "the ring waits for it no longer"},
		"ignored":  {[]controlplane.Status{exampleRing(), asked, exampleRing()}, exitFailed, "the ring waits for it no longer"},
	} {
		s := newScripted(t, map[string]string{"NODERESTART": "SUCCEED\n"}, c.statuses...)
		out, err := s.run(t, "node restart", "b:8021")
		if err != nil {
			out += err.Error()
		}
		if exitCode(err) != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: code %d, want %d with %q: %s", name, exitCode(err), c.code, c.want, out)
		}
		if sent, want := s.sent(), []string{"NODERESTART b:8021 30s"}; !slices.Equal(sent, want) {
			t.Errorf("%s: sent %q", name, sent)
		}
	}
	s := newScripted(t, map[string]string{"NODERESTART": "SUCCEED\n"}, exampleRing(), asked, down, back)
	if out, err := s.run(t, "node restart", "-hold", "20s"); err != nil || out != "SUCCEED\n" || !slices.Equal(s.sent(), []string{"NODERESTART 20s"}) {
		t.Errorf("of the node that is asked: %q, %v", out, err)
	}
	s = newScripted(t, map[string]string{"NODERESTART": "ERROR: Failed to change server status.\nREASON: another server restarts: a:8021\n"}, exampleRing())
	if _, err := s.run(t, "node restart", "b:8021"); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "another server restarts") {
		t.Errorf("refused: %v", err)
	}
}

// node forget returns when the ring no longer lists the server.
func TestNodeForget(t *testing.T) {
	wanted, gone := exampleRing(), exampleRing()
	wanted.Servers[1].Forget = true
	gone.Servers = gone.Servers[:1]
	s := newScripted(t, map[string]string{"NODEFORGET": "SUCCEED\n"}, exampleRing(), wanted, wanted, gone)
	if out, err := s.run(t, "node forget", "b:8021"); err != nil || out != "SUCCEED\n" || len(s.statuses) != 1 {
		t.Errorf("%q, %v, with %d statuses left to ask for", out, err, len(s.statuses)-1)
	}
}

// node forget waits for the server that it was asked for, also if that was asked
// before, and for no other one.
func TestToForget(t *testing.T) {
	of := func(marks string) (st controlplane.Status) { // ! is to be forgotten, - is gone
		for i, m := range marks {
			if m != '-' {
				st.Servers = append(st.Servers, controlplane.ServerStatus{ID: ring.HexID(i + 1), Name: string(rune('a' + i)), CtlPort: 1, Forget: m == '!'})
			}
		}
		return st
	}
	for _, c := range []struct{ before, now, want string }{
		{"...", ".!.", "b:1"},
		{"...", ".-.", ""},
		{"..!", ".!!", "b:1"},
		{"..!", ".-!", ""},
		{"..!", ".!-", "b:1"},
		{"..!", "..!", "c:1"},
		{"..!", "..-", ""},
		{"....", ".!!.", "b:1 c:1"},
	} {
		if got := strings.Join(toForget(of(c.before), of(c.now)), " "); got != c.want {
			t.Errorf("%s, then %s: %q, want %q", c.before, c.now, got, c.want)
		}
	}
}

// What is missing or too much behind the options is said, and nothing is sent.
func TestNodeUsage(t *testing.T) {
	for _, line := range []string{"node", "node b:8021", "node forget", "node forget a:1 b:1", "node replace a:1", "node restart", "node restart a:1 b:1", "node restart b:8021 -hold 3s"} {
		if out, err := runArgs(t, strings.Fields(line)...); exitCode(err) != exitUsage || out != "" {
			t.Errorf("%s: %q, %v", line, out, err)
		}
	}
	if _, err := runArgs(t, "node", "forget", "a b:1"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "no blanks") {
		t.Errorf("with a blank: %v", err)
	}
}
