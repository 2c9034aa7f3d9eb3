package flow

import (
	"slices"

	"github.com/chmpx/chmpx/wire"
)

// Session is one attachment of one program of this node. Make it with Core.Attach.
type Session struct {
	Handle any // for the owner of the core; not looked at

	id       wire.SessionID
	server   bool // takes messages
	detached bool // its program has ended
	ended    bool // forgotten, SessionEnded was called
	left     bool // its program has ended by itself: it will not attach again

	withdrawn bool // Withdraw was called

	// Sending.
	requests  window
	chains    *[chainBuckets]uint64 // newest sequence per bucket of hashes
	pairs     []pair                // by Peer.dest
	firstTry  uint32                // attempts of new records count from here
	lastTry   uint32                // highest attempt ever
	repeatEnd uint64                // sequences up to this may have been taken before
	places    []place               // where random messages up to repeatEnd are, by sequence

	fanned fanned // copies of messages that go to several servers

	passedOver bool // by the present scan: a message may only be tried after others
	around     bool // the scan has come to those

	// Replying.
	replies window
	stream  uint32 // names the reply stream of this session to peers

	awaits   []await // requests taken, reply outstanding; by sequence
	awaiting int

	program program // receiving
}

// ID returns the session's id.
func (s *Session) ID() wire.SessionID { return s.id }

// Attach registers a program; server says that it takes messages.
//
// A library that lost its socket comes back with the same id. Then the new
// session takes over: the old one ends here and now (SessionEnded, without
// Bye), and the library submits again, in order and under the same sequences,
// what its old out-ring still held. Those go out marked FlagMaybeRepeat, under
// attempt numbers that the old session never used.
func (c *Core) Attach(nowNs int64, id wire.SessionID, server bool) *Session {
	s := &Session{id: id, server: server}
	s.requests.dueNs, s.replies.dueNs = never, never
	s.requests.low, s.replies.low = 1, 1
	c.gone.forget(id)
	if old := c.byID[id]; old != nil {
		c.Withdraw(nowNs, old, false)
		old.left = false
		if s.program.open = old.program.open; !server {
			c.EndReplies(s)
		}
		s.firstTry, s.lastTry, s.repeatEnd = old.lastTry, old.lastTry, max(old.requests.last, old.repeatEnd)
		s.pairs = slices.Clone(old.pairs)
		for i := range s.pairs {
			s.pairs[i].lift()
		}
		s.places = old.placesOut()
		c.end(old)
	}
	c.lastStream++
	s.stream = c.lastStream
	c.byID[id], c.byStream[s.stream], c.lastFound = s, s, s
	c.sessions = append(c.sessions, s)
	if server {
		c.attachProgram(s)
	}
	return s
}

// Detach says that the program of s has ended: what it has not taken (the owner
// tells its last head by Taken before) is refused and goes elsewhere. What it
// has sent goes on; when nothing is left, its peers hear Bye and SessionEnded is
// called, perhaps within this call. The owner submits what its out-ring still
// holds before. Detaching twice is harmless.
func (c *Core) Detach(nowNs int64, s *Session) {
	if s.detached || s.ended {
		return
	}
	c.Withdraw(nowNs, s, false)
	c.EndReplies(s)
	s.detached = true
	s.awaits, s.awaiting = nil, 0
	c.endIfDone(s)
	c.reap()
}

// Withdraw says that the program of s takes no more; what it has sent goes on.
// The owner calls it as soon as a program has ended (after Taken), because
// Detach must wait for an out-ring that holds more than the window, and may
// wait for ever if its messages are for the program itself. Detach withdraws,
// too; doing it twice is harmless. alive says that the owner cut the program
// off, so that it may take records for another moment: they are sent again as
// repeats.
func (c *Core) Withdraw(_ int64, s *Session, alive bool) {
	if !s.withdrawn {
		s.withdrawn, s.left = true, !alive
	}
	if s.server {
		c.withdraw(s, alive)
		s.server = false
	}
}

// endIfDone marks a detached session with nothing left for the end; reap must follow.
func (c *Core) endIfDone(s *Session) {
	if s.detached && !s.ended && s.requests.live == 0 && s.replies.live == 0 {
		c.ending = append(c.ending, s)
	}
}

// reap ends the sessions that are marked. It is called last in every event,
// because ending one changes the lists that events walk over.
func (c *Core) reap() {
	for len(c.ending) > 0 {
		s := c.ending[len(c.ending)-1]
		c.ending = c.ending[:len(c.ending)-1]
		if s.ended {
			continue
		}
		for i := range s.pairs {
			if s.pairs[i].heard {
				c.answer(c.dests[i], wire.Header{Type: wire.TypeBye, Session: s.id}, false)
			}
		}
		c.end(s)
	}
}

// end forgets a session.
func (c *Core) end(s *Session) {
	s.ended, s.detached = true, true
	if s.left {
		c.gone.add(s.id)
	}
	delete(c.byID, s.id)
	delete(c.byStream, s.stream)
	if c.lastFound == s {
		c.lastFound = nil
	}
	if i := slices.Index(c.sessions, s); i >= 0 {
		c.sessions = slices.Delete(c.sessions, i, i+1)
	}
	c.ports.SessionEnded(s)
}

// session finds a session of this node.
func (c *Core) session(id *wire.SessionID) *Session {
	if s := c.lastFound; s != nil && s.id == *id {
		return s
	}
	s := c.byID[*id]
	if s != nil {
		c.lastFound = s
	}
	return s
}

// waiting reports whether a message or a copy of one is pending.
func (s *Session) waiting() bool { return s.requests.waiting > 0 || s.fanned.waiting > 0 }

// Accepts returns how many more records of the stream may be submitted now, if
// their sequences have no gaps. The owner leaves the rest in the ring; after
// Settled there may be more room.
func (c *Core) Accepts(s *Session, st Stream) int {
	switch {
	case s.ended:
		return 0
	case st == Replies:
		return s.replies.accepts()
	}
	return s.requests.accepts()
}

// Submit hands a record over for delivery; r is copied. The errors are
// ErrSequence, ErrWindow and ErrEnded; then nothing has happened.
func (c *Core) Submit(nowNs int64, s *Session, st Stream, r *Record) error {
	if s.ended {
		return ErrEnded
	}
	if st == Replies {
		return c.submitReply(nowNs, s, r)
	}
	e, err := s.requests.push(r)
	if err != nil {
		return err
	}
	c.stats.Submitted++
	c.begin(nowNs, s, e)
	if e.state == settled { // expired, or given up before
		c.release(s, Requests)
		c.reap()
	}
	return nil
}

// begin does what can be done at once with a message that has been pushed.
func (c *Core) begin(nowNs int64, s *Session, e *entry) {
	if e.rec.Flags&wire.FlagGivenUp != 0 { // nobody may get it, and who sent it may not have heard yet
		c.giveUpMessage(s, e)
		return
	}
	e.attempt = s.firstTry
	if e.rec.Seq <= s.repeatEnd {
		e.rec.Flags |= wire.FlagMaybeRepeat
		s.placed(e)
	}
	if isFan(e.rec.Kind) {
		c.submitFan(nowNs, s, e)
		return
	}
	if e.rec.Kind == wire.KindHash {
		s.link(e)
	}
	c.forward(nowNs, s, e)
}

// release tells the owner how far the out-ring may be released, if further than before.
func (c *Core) release(s *Session, st Stream) {
	w := &s.requests
	if st == Replies {
		w = &s.replies
	}
	if w.advance() {
		c.ports.Settled(s, st, w.end)
	}
	if s.detached {
		c.endIfDone(s)
	}
}

// goneMax is how many ended sessions are remembered, so that what is still on
// its way to them is dropped at once.
const goneMax = 1024

// goneSessions are the sessions that ended last with their programs.
type goneSessions struct {
	ids  map[wire.SessionID]struct{}
	last []wire.SessionID // circular once it has goneMax entries
	next int
}

func (g *goneSessions) has(id wire.SessionID) bool {
	_, ok := g.ids[id]
	return ok
}

// forget takes an id out; its place in last is used up as the others'.
func (g *goneSessions) forget(id wire.SessionID) { delete(g.ids, id) }

func (g *goneSessions) add(id wire.SessionID) {
	if g.has(id) {
		return
	}
	if g.ids == nil {
		g.ids = map[wire.SessionID]struct{}{}
	}
	if len(g.last) < goneMax {
		g.last = append(g.last, id)
	} else {
		delete(g.ids, g.last[g.next])
		g.last[g.next] = id
		g.next = (g.next + 1) % goneMax
	}
	g.ids[id] = struct{}{}
}
