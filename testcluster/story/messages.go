package story

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

const optionsOfMessages = "from=PROGRAM key=K kind=hash|random|broadcast|replicate size=BYTES deadline=D"

func messageCommands() []command {
	return []command{
		{usage: "send n=N " + optionsOfMessages, run: (*story).send,
			help: "sends N messages, one after the other, and waits until the ring has accepted them: one of key a from the first program that only sends, if nothing else is said. `deadline`: the ring gives each up when it was not taken so long after it was sent."},
		{usage: "ask n=N timeout=D " + optionsOfMessages, run: (*story).ask,
			help: "sends N requests, each when the one before has ended, and prints who answered how many."},
		{usage: "fill " + optionsOfMessages, run: (*story).fill,
			help: "sends until the library finds no room for a second."},
		{usage: "begin-load NAME every=D " + optionsOfMessages, least: 1, most: 1, run: (*story).beginLoad,
			help: "sends a message every D (10ms) in the background, until end-load. Nothing else can be sent from that program meanwhile."},
		{usage: "end-load NAME", least: 1, most: 1, run: (*story).endLoadCommand,
			help: "ends a load; each of its messages must have been accepted."},
	}
}

// mail is what a command sends: messages that are alike.
type mail struct {
	from     *program
	key      string
	kind     wire.Kind
	size     int
	deadline time.Duration
}

func (s *story) mail(a args) (m mail, err error) {
	m.key = a.text("key", "a")
	kinds := map[string]wire.Kind{"hash": wire.KindHash, "random": wire.KindRandom, "broadcast": wire.KindBroadcast, "replicate": wire.KindReplicate}
	kind, known := kinds[a.text("kind", "hash")]
	if m.kind = kind; !known {
		return m, fmt.Errorf("%w: kinds are %v", ErrScript, slices.Sorted(maps.Keys(kinds)))
	}
	if m.size, err = a.number("size", payloadBytesMin); err != nil {
		return m, err
	}
	if m.deadline, err = a.duration("deadline", 0); err != nil {
		return m, err
	}
	from := a.text("from", "")
	for _, p := range s.programs {
		if p.name == from || from == "" && !p.server {
			m.from = p
			return m, nil
		}
	}
	return m, fmt.Errorf("%w: there is no program %q to send from", ErrScript, from)
}

// sent is what became of one call.
type sent struct {
	message   *message
	receivers int
	reply     string
}

// send sends one message, as a request if ask.
func (m mail) send(ctx context.Context, ask bool) (r sent, err error) {
	p, j := m.from, &m.from.s.judge
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return r, ctx.Err()
	}
	msg, payload := j.sending(p.c.Session(), m.key, m.kind, m.size)
	r.message = msg
	var opts []client.CallOption
	if m.deadline > 0 {
		opts = append(opts, client.Deadline(time.Now().Add(m.deadline)))
	}
	hash, before := ring.Hash([]byte(m.key)), p.c.Stats().Sent
	switch {
	case ask:
		var reply client.Reply
		reply, err = p.c.Request(ctx, hash, payload, opts...)
		r.reply = string(reply.Payload)
	case m.kind == wire.KindRandom:
		err = p.c.SendRandom(ctx, payload, opts...)
	case m.kind == wire.KindBroadcast:
		r.receivers, err = p.c.Broadcast(ctx, payload, opts...)
	case m.kind == wire.KindReplicate:
		r.receivers, err = p.c.Replicate(ctx, hash, payload, opts...)
	default:
		err = p.c.Send(ctx, hash, payload, opts...)
	}
	seq := p.c.Stats().Sent
	j.sent(msg, seq > before, seq)
	if ask && seq > before && err != nil {
		j.failed(msg, errors.Is(err, client.ErrMaybeDelivered))
	}
	return r, err
}

func (s *story) send(a args) error {
	m, err := s.mail(a)
	if err != nil {
		return err
	}
	n, err := a.number("n", 1)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	receivers := make(map[int]int)
	for range n {
		r, err := m.send(ctx, false)
		if err != nil {
			return err
		}
		receivers[r.receivers]++
	}
	s.say("accepted %d", n)
	if m.kind == wire.KindBroadcast || m.kind == wire.KindReplicate {
		for _, to := range slices.Sorted(maps.Keys(receivers)) {
			s.say("%d of them for %d servers each", receivers[to], to)
		}
	}
	return nil
}

func (s *story) ask(a args) error {
	m, err := s.mail(a)
	if err != nil {
		return err
	}
	n, err := a.number("n", 1)
	if err != nil {
		return err
	}
	timeout, err := a.duration("timeout", patience)
	if err != nil {
		return err
	}
	answers := make(map[string]int)
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		r, err := m.send(ctx, true)
		cancel()
		switch {
		case errors.Is(err, client.ErrNotDelivered):
			answers["nobody, and nobody has seen it: "]++
		case err != nil:
			answers["nobody, but somebody may have seen it: "]++
		default:
			answers[r.reply+" answered "]++
		}
	}
	for _, who := range slices.Sorted(maps.Keys(answers)) {
		s.say("%s%d", who, answers[who])
	}
	return nil
}

func (s *story) fill(a args) error {
	m, err := s.mail(a)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := m.send(ctx, false)
		cancel()
		switch {
		case errors.Is(err, client.ErrBackpressure):
			if n == 0 {
				return fmt.Errorf("there was no room to begin with: %w", err)
			}
			s.say("no room")
			return nil
		case err != nil:
			return err
		}
	}
}

// load sends in the background.
type load struct {
	cancel context.CancelFunc
	ended  chan error
}

func (s *story) beginLoad(a args) error {
	name := a.words[0]
	m, err := s.mail(a)
	if err != nil {
		return err
	}
	every, err := a.duration("every", 10*time.Millisecond)
	if err != nil {
		return err
	}
	if s.loads[name] != nil {
		return fmt.Errorf("%w: there is a load %s already", ErrScript, name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, ended: make(chan error, 1)}
	s.loads[name] = l
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				l.ended <- nil
				return
			case <-tick.C:
			}
			send, cancel := context.WithTimeout(context.Background(), patience)
			_, err := m.send(send, false)
			cancel()
			if err != nil {
				l.ended <- err
				return
			}
		}
	}()
	return nil
}

func (s *story) endLoadCommand(a args) error { return s.endLoad(a.words[0]) }

func (s *story) endLoad(name string) error {
	l := s.loads[name]
	if l == nil {
		return fmt.Errorf("%w: there is no load %s", ErrScript, name)
	}
	delete(s.loads, name)
	l.cancel()
	if err := <-l.ended; err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}
