package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/chmpx/chmpx/client"
)

func programCommands() []command {
	return []command{
		{usage: "join-program NODE [idle] [ack-on-done] [client] name=NAME", least: 1, most: 1, run: (*story).joinProgram,
			help: "attaches a program to a node: to a server one that takes messages (and can send), to a slave, or with `client`, one that only sends. It is called program-K on server-K and client-K on slave-K, unless a name says otherwise. `idle`: it takes nothing yet. `ack-on-done`: it declares messages done."},
		{usage: "leave-program PROGRAM", least: 1, most: 1, run: (*story).leaveProgram,
			help: "closes a program's attachment. What it was given and has not declared done is open for others."},
		{usage: "stop-reading PROGRAM", least: 1, most: 1, run: (*story).stopReading,
			help: "makes a program take no more messages."},
		{usage: "hold PROGRAM", least: 1, most: 1, run: (*story).hold,
			help: "makes a program with ack-on-done go on taking and declare nothing done."},
		{usage: "resume PROGRAM", least: 1, most: 1, run: (*story).resume,
			help: "ends `idle`, `stop-reading` and `hold`."},
	}
}

// program is an attached program.
type program struct {
	s      *story
	name   string
	node   *process
	c      *client.Client
	server bool
	onDone bool
	turn   chan struct{}     // token: one sends at a time, so that sequences are known
	held   []*client.Message // taken, not done; owned by the reader, or nobody while there is none
	stop   func()            // ends the reader; nil: nobody reads
}

func (s *story) joinProgram(a args) error {
	found, err := s.processes(a.words, true)
	if err != nil {
		return err
	}
	p := &program{s: s, node: found[0], server: found[0].server && !a.has("client"), onDone: a.has("ack-on-done"), turn: make(chan struct{}, 1)}
	kind, number := "client", strings.TrimLeft(p.node.name, "serv-la")
	role := client.RoleClient
	if p.server {
		kind, role = "program", client.RoleServer
	}
	p.name = a.text("name", kind+"-"+number)
	if s.findProgram(p.name) != nil {
		return fmt.Errorf("%w: there is a program %s already", ErrScript, p.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.c, err = client.Attach(ctx, client.Options{
		Config: p.node.conf(), Role: role, Name: p.name, Logger: s.log.logger(p.name), AckOnDone: p.onDone, System: s.heap,
		Undelivered: func(u client.Undelivered) { s.judge.givenUp(p.c.Session(), u) },
	})
	if err != nil {
		return err
	}
	s.programs = append(s.programs, p)
	if p.server && !a.has("idle") {
		p.read(false)
	}
	return nil
}

func (s *story) findProgram(name string) *program {
	if i := slices.IndexFunc(s.programs, func(p *program) bool { return p.name == name }); i >= 0 {
		return s.programs[i]
	}
	return nil
}

// program finds one that takes messages.
func (s *story) program(name string) (*program, error) {
	p := s.findProgram(name)
	switch {
	case p == nil:
		return nil, fmt.Errorf("%w: there is no program %s", ErrScript, name)
	case !p.server:
		return nil, fmt.Errorf("%w: %s takes no messages", ErrScript, name)
	}
	return p, nil
}

// read starts a reader; hold: it declares nothing done.
func (p *program) read(hold bool) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := p.c.Receive(ctx)
			if err != nil {
				return
			}
			p.s.judge.taken(p.name, m)
			p.work(ctx, m, hold)
		}
	}()
	p.stop = func() { cancel(); <-ended; p.stop = nil }
}

// work replies, and declares done.
func (p *program) work(ctx context.Context, m *client.Message, hold bool) {
	if m.WantsReply {
		if err := p.c.Reply(ctx, m, []byte(p.name)); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, client.ErrClosed) {
			p.s.judge.wrong("%s could not reply: %v", p.name, err)
		}
	}
	switch {
	case hold:
		p.held = append(p.held, m)
	case p.onDone:
		p.c.Done(m)
	}
}

func (s *story) leaveProgram(a args) error {
	p := s.findProgram(a.words[0])
	if p == nil {
		return fmt.Errorf("%w: there is no program %s", ErrScript, a.words[0])
	}
	return s.endProgram(p)
}

func (s *story) endProgram(p *program) error {
	err := p.c.Close() // first: a reader that ended before could not be told from one that took nothing more
	if p.stop != nil {
		p.stop()
	}
	s.programs = slices.DeleteFunc(s.programs, func(q *program) bool { return q == p })
	return err
}

func (s *story) stopReading(a args) error {
	p, err := s.program(a.words[0])
	if err != nil {
		return err
	}
	if p.stop != nil {
		p.stop()
	}
	return nil
}

func (s *story) hold(a args) error {
	p, err := s.program(a.words[0])
	if err != nil {
		return err
	}
	if !p.onDone {
		return fmt.Errorf("%w: %s has not joined with ack-on-done", ErrScript, p.name)
	}
	if p.stop != nil {
		p.stop()
	}
	p.read(true)
	return nil
}

func (s *story) resume(a args) error {
	p, err := s.program(a.words[0])
	if err != nil {
		return err
	}
	if p.stop != nil {
		p.stop()
	}
	for _, m := range p.held {
		p.c.Done(m)
	}
	p.held = nil
	p.read(false)
	return nil
}
