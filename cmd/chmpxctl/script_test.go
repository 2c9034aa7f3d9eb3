package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// scripted is a control port that answers as a test says: texts to commands
// (by their first word), and one status after the other, of which the last one stays.
type scripted struct {
	port     string
	mu       sync.Mutex // guards what follows
	texts    map[string]string
	statuses []controlplane.Status
	code     int      // of HTTP; 0: 200
	commands []string // that came
}

func newScripted(t *testing.T, texts map[string]string, statuses ...controlplane.Status) *scripted {
	t.Helper()
	return newScriptedAt(t, "127.0.0.1", texts, statuses...)
}

// listenUnlike listens on a port of a host whose digits are nowhere in the texts: where
// they are hidden in what is printed, nothing else is.
func listenUnlike(t *testing.T, host string, texts ...string) (ln net.Listener, port string) {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		if _, port, err = net.SplitHostPort(ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, port) }) {
			return ln, port
		}
		defer ln.Close() // behind the choice of another one
	}
}

func newScriptedAt(t *testing.T, host string, texts map[string]string, statuses ...controlplane.Status) *scripted {
	t.Helper()
	s := &scripted{texts: texts, statuses: statuses}
	shown, err := json.Marshal(statuses)
	if err != nil {
		t.Fatal(err)
	}
	ln, port := listenUnlike(t, host, append(slices.Collect(maps.Values(texts)), string(shown))...)
	s.port = port
	var wg sync.WaitGroup
	wg.Go(func() { // ended by the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return s
}

func (s *scripted) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	line, _ := r.ReadString('\n')
	line = strings.TrimSpace(line)
	if line == "" { // who asked was out of time
		return
	}
	http := strings.HasPrefix(line, "GET ")
	for head := line; http && head != ""; head = strings.TrimSpace(head) {
		head, _ = r.ReadString('\n')
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !http {
		s.commands = append(s.commands, line)
		word, _, _ := strings.Cut(line, " ")
		_, _ = io.WriteString(conn, s.texts[word])
		return
	}
	body, _ := json.Marshal(s.statuses[0])
	if len(s.statuses) > 1 {
		s.statuses = s.statuses[1:]
	}
	fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", cmp.Or(s.code, 200), len(body), body)
}

// sent returns the commands that came since it was called last.
func (s *scripted) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.commands
	s.commands = nil
	return all
}

// answer sets what is answered to a command.
func (s *scripted) answer(command, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[command] = text
}

// at returns the options that lead to the port.
func (s *scripted) at() []string { return []string{"-host", "127.0.0.1", "-ctlport", s.port} }

// run runs a verb against the port; it hides the port in what was printed.
func (s *scripted) run(t *testing.T, verb string, options ...string) (string, error) {
	t.Helper()
	args := append(append(strings.Fields(verb), s.at()...), options...)
	out, err := runArgs(t, args...)
	return strings.ReplaceAll(out, s.port, "PORT"), err
}

// golden compares with a file in testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// exampleRing is a ring of two servers and a slave, as the server a sees it.
func exampleRing() controlplane.Status {
	const in = "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]"
	server := func(id ring.ID, name string, number int32) controlplane.ServerStatus {
		return controlplane.ServerStatus{
			ID: ring.HexID(id), CtlPort: 8021, Name: name, Addr: name + ":8020", Status: in, Service: "in", Up: true, Action: "none", Operate: "nothing",
			Incarnation: 3, BaseHash: number, PendingHash: number, StatusTime: 1795403316221536, Link: "alive", Raft: "voter", Leader: number == 0,
		}
	}
	st := controlplane.Status{
		ID: 7, Name: "a", Group: "TEST", Role: "server", RingID: 77, Version: 9, Index: 40, Incarnation: 3, Programs: 1,
		Level: 1, LevelHeldBy: []string{"b:8021"},
		Params:  &fsm.Params{Placement: "slots", DeliverMode: "hash", Replica: 1, DoMerge: true, MaxVoters: 5},
		Quorum:  controlplane.QuorumStatus{OK: true, Voters: 1, Have: 1, Need: 1},
		Servers: []controlplane.ServerStatus{server(7, "a", 0), server(8, "b", 1)},
		Slaves:  []controlplane.SlaveStatus{{ID: 9, Name: "s", CtlPort: 8022}},
	}
	st.Servers[0].Link = "self"
	st.Epoch.Index = 38
	return st
}
