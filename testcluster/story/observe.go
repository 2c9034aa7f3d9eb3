package story

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/node"
	"github.com/chmpx/chmpx/ring"
)

func observeCommands() []command {
	return []command{
		{usage: "advance D", least: 1, most: 1, run: (*story).advanceCommand,
			help: "lets time pass, for example 1.5s."},
		{usage: "settle", run: (*story).settle,
			help: "lets time pass until every running node has seen the same ring for 5 s, in which nothing is under way."},
		{usage: "ring", run: (*story).ring,
			help: "prints the servers as the running nodes see them: status, place among those in service, and place after the merge. Nodes that see different things are printed apart."},
		{usage: "owner key=K", run: (*story).owner,
			help: "prints the server that answers for a key, as each node sees it."},
		{usage: "links NODE", least: 1, most: 1, run: (*story).links,
			help: "prints how a node reaches each server: directly, through another server, or not."},
		{usage: "control NODE WORD...", least: 2, most: -1, run: (*story).control,
			help: "sends a command to a node's control port and prints the answer. A server is called by its name in stories: SERVICEOUT server-2."},
		{usage: "delivered", run: (*story).delivered,
			help: "waits until each accepted message is taken or given up."},
		{usage: "waiting", run: (*story).waiting,
			help: "prints whether accepted messages are neither taken nor given up."},
		{usage: "taken", run: (*story).takenCommand,
			help: "prints how many messages of which key each program has taken since the last time, repeats of one message counted once."},
		{usage: "marked", run: (*story).markedCommand,
			help: "prints how many of the messages that each program has taken carried MaybeRepeat, since the beginning."},
		{usage: "stand-ins", run: (*story).standIns,
			help: "prints which running servers stand in for others, or have and wait for the ring to settle it."},
		{usage: "given-up", run: (*story).givenUpCommand,
			help: "prints how many messages were given up, since the beginning."},
	}
}

func (s *story) advanceCommand(a args) error {
	d, err := time.ParseDuration(a.words[0])
	if err != nil || d < 0 {
		return fmt.Errorf("%w: %q is no duration like 1.5s", ErrScript, a.words[0])
	}
	s.advance(d)
	return nil
}

// running returns the nodes that run.
func (s *story) running() []*process {
	var all []*process
	for _, p := range s.nodes {
		if p.node != nil {
			all = append(all, p)
		}
	}
	return all
}

// calm is for how long nothing must change until a ring has settled.
const calm = 5 * time.Second

func (s *story) settle(args) error {
	last, since := "", time.Now()
	return s.await(patience, func() string {
		now, first, quiet := "", "", true
		for i, p := range s.running() {
			st := p.node.Status()
			view := s.view(&st)
			if i == 0 {
				first = view
			}
			quiet = quiet && st.Merge == nil && view == first
			now += fmt.Sprintln(p.name, st.RingID, st.Epoch, st.Version, st.WaitsFor, view)
		}
		if now != last || !quiet {
			last, since = now, time.Now()
		}
		if time.Since(since) >= calm {
			return ""
		}
		return "the ring has not settled:\n" + now
	})
}

// view prints the servers of a status.
func (s *story) view(st *node.Status) string {
	var lines []string
	for _, srv := range st.Servers {
		line := fmt.Sprintf("%s %s", s.nameOf(srv.Name), srv.Status)
		switch {
		case srv.BaseHash >= 0 && srv.BaseHash == srv.PendingHash:
			line += fmt.Sprintf(" place %d", srv.BaseHash)
		case srv.BaseHash >= 0 || srv.PendingHash >= 0:
			line += fmt.Sprintf(" place %d, then %d", srv.BaseHash, srv.PendingHash)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return "no ring"
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// nameOf returns what a story calls a server of the configuration.
func (s *story) nameOf(configured string) string {
	for _, p := range s.nodes {
		if p.addr == configured {
			return p.name
		}
	}
	return configured
}

// said prints what nodes say, once for all that say the same.
func (s *story) said(all []*process, say func(p *process) (string, error)) error {
	var order []string
	by := make(map[string][]string)
	for _, p := range all {
		text, err := say(p)
		if err != nil {
			return fmt.Errorf("ask %s: %w", p.name, err)
		}
		if by[text] == nil {
			order = append(order, text)
		}
		by[text] = append(by[text], p.name)
	}
	for _, text := range order {
		if len(order) > 1 {
			s.say("%s:", strings.Join(by[text], " "))
		}
		for line := range strings.Lines(text) {
			s.say("%s", strings.TrimSuffix(line, "\n"))
		}
	}
	return nil
}

func (s *story) ring(args) error {
	return s.said(s.running(), func(p *process) (string, error) { st := p.node.Status(); return s.view(&st), nil })
}

func (s *story) owner(a args) error {
	path := fmt.Sprintf("/v1/owners?hash=%d", ring.Hash([]byte(a.text("key", "a"))))
	return s.said(s.running(), func(p *process) (string, error) {
		var o ctlport.Owners
		if err := p.get(path, &o); err != nil {
			return "", err
		}
		for _, owner := range o.Owners {
			if owner.Acting {
				return s.nameOf(owner.Name), nil
			}
		}
		return "nobody", nil
	})
}

// operatorAddr is no node's, and local to all as the loopback is.
const operatorAddr = "127.0.1.1"

// operator is where commands to control ports come from.
func (p *process) operator(request string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := p.s.net.host("operator", operatorAddr).dial(ctx, fmt.Sprintf("%s:%d", p.addr, p.ctl))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// get asks a control port for a resource.
func (p *process) get(path string, into any) error {
	answer, err := p.operator("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (s *story) links(a args) error {
	found, err := s.processes(a.words, true)
	if err != nil {
		return err
	}
	for _, l := range found[0].node.Status().Data.Links {
		how := "not reached"
		switch {
		case l.Accepted:
			continue
		case l.State == ring.LinkAlive.String():
			how = "directly"
		case l.Via != "":
			how = "through another server"
		}
		s.say("%s %s", s.nameOf(l.Name), how)
	}
	slices.Sort(s.out)
	return nil
}

func (s *story) control(a args) error {
	found, err := s.processes(a.words[:1], true)
	if err != nil {
		return err
	}
	words := slices.Clone(a.words[1:])
	for i, w := range words {
		for _, p := range s.nodes {
			if p.name == w {
				words[i] = fmt.Sprintf("%s:%d", p.addr, p.ctl)
			}
		}
	}
	answer, err := found[0].operator(strings.Join(words, " ") + "\n")
	if err != nil {
		return err
	}
	for line := range strings.Lines(strings.TrimRight(answer, "\n\x00")) {
		line = strings.TrimRight(line, "\r\n")
		for _, p := range s.nodes {
			line = strings.ReplaceAll(line, fmt.Sprintf("%s:%d", p.addr, p.ctl), p.name)
			line = strings.ReplaceAll(line, fmt.Sprintf("%s:%d", p.addr, p.port), p.name)
		}
		s.say("%s", line)
	}
	return nil
}

// errWaiting says that messages did not arrive in time.
var errWaiting = errors.New("story: not everything is delivered")

func (s *story) delivered(args) error {
	if err := s.await(patience, s.judge.missing); err != nil {
		return fmt.Errorf("%w: %w", errWaiting, err)
	}
	return nil
}

func (s *story) waiting(args) error {
	if s.judge.missing() == "" {
		s.say("nothing waits")
	} else {
		s.say("messages wait")
	}
	return nil
}

func (s *story) takenCommand(args) error {
	counts := s.judge.counts()
	for _, by := range slices.Sorted(maps.Keys(counts)) {
		for _, key := range slices.Sorted(maps.Keys(counts[by])) {
			s.say("%s took %d of %s", by, counts[by][key], key)
		}
	}
	if len(counts) == 0 {
		s.say("nobody took anything")
	}
	return nil
}

func (s *story) markedCommand(args) error {
	marked, taken := s.judge.marks()
	for _, by := range slices.Sorted(maps.Keys(taken)) {
		s.say("%s: %d of %d", by, marked[by], taken[by])
	}
	return nil
}

func (s *story) standIns(args) error {
	for _, p := range s.running() {
		for _, n := range p.node.Status().Data.StandIns {
			does := "stood in for"
			if n.Active {
				does = "stands in for"
			}
			s.say("%s %s %s", p.name, does, s.nameOf(n.Name[:strings.LastIndex(n.Name, ":")]))
		}
	}
	slices.Sort(s.out)
	if len(s.out) == 0 {
		s.say("nobody")
	}
	return nil
}

func (s *story) givenUpCommand(args) error {
	accepted, gaveUp := s.judge.numbers()
	s.say("%d of %d given up", gaveUp, accepted)
	return nil
}
