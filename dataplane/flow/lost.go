package flow

import (
	"encoding/binary"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// A request whose reply will not come: the program that took it has ended, or
// its reply found no way. The asker's node is told (TypeRequestLost) and sends
// the frame back when it knows; until then it is told again on each new link.

// request names a request at the node of the program that was given it.
type request struct {
	node    ring.ID        // of the asker
	session wire.SessionID // of the asker
	seq     uint64         // 0 = none
	given   uint8          // times the program was given it: a node that forgot its session gives it again
}

// openRequests are the requests that a program was given and has not answered.
// When a bucket is full the oldest of some eight is forgotten; nobody hears of
// its loss then.
type openRequests struct {
	buckets []openBucket // made at the first request
	n       int
}

type openBucket struct {
	slots [8]request
	next  uint8 // that is overwritten when all are in use
}

const openBuckets = 512 // of 8: 4,096 requests per program

func (o *openRequests) bucket(session *wire.SessionID, seq uint64) *openBucket {
	return &o.buckets[mix(binary.LittleEndian.Uint64(session[:])+seq*0x9e3779b97f4a7c15)%openBuckets]
}

// add notes that the program has been given a request.
func (o *openRequests) add(node ring.ID, session *wire.SessionID, seq uint64) {
	if o.buckets == nil {
		o.buckets = make([]openBucket, openBuckets)
	}
	b := o.bucket(session, seq)
	free := -1
	for i := range b.slots {
		switch r := &b.slots[i]; {
		case r.seq == seq && r.session == *session:
			r.given = min(r.given, 254) + 1
			return
		case r.seq == 0 && free < 0:
			free = i
		}
	}
	if free < 0 {
		free = int(b.next)
		b.next = (b.next + 1) % uint8(len(b.slots))
		o.n--
	}
	o.n++
	b.slots[free] = request{node, *session, seq, 1}
}

// del notes that a request was answered, or with untaken that the program has
// not taken it, where it has not taken it before.
func (o *openRequests) del(session *wire.SessionID, seq uint64, untaken bool) {
	if o.n == 0 {
		return
	}
	b := o.bucket(session, seq)
	for i := range b.slots {
		if r := &b.slots[i]; r.seq == seq && r.session == *session {
			if r.given--; !untaken || r.given == 0 {
				*r = request{}
				o.n--
			}
			return
		}
	}
}

// EndReplies says that the program of s has ended and that every reply it wrote
// has been submitted: what it took and did not answer is lost, and the askers
// hear of it. The owner calls it after Withdraw; Detach does it, too, but has
// to wait for the messages that the program sent. Doing it twice is harmless.
func (c *Core) EndReplies(s *Session) {
	o := s.program.open
	s.program.open = openRequests{}
	for i := range o.buckets {
		for _, r := range o.buckets[i].slots {
			c.lose(r)
		}
	}
}

// lostMax bounds the lost requests whose asker's node has not said that it
// knows. Beyond it the oldest is forgotten: its asker waits for its deadline.
const lostMax = 4096

// lostRequests are those, oldest first. Whether a message is among them is
// asked for each one that is taken while there are any.
type lostRequests struct {
	list  []request
	known map[lostKey]struct{}
}

type lostKey struct {
	session wire.SessionID
	seq     uint64
}

func (l *lostRequests) has(session *wire.SessionID, seq uint64) bool {
	if len(l.list) == 0 {
		return false
	}
	_, ok := l.known[lostKey{*session, seq}]
	return ok
}

func (l *lostRequests) add(r request) {
	if l.has(&r.session, r.seq) {
		return
	}
	if l.known == nil {
		l.known = map[lostKey]struct{}{}
	}
	if len(l.list) == lostMax {
		delete(l.known, lostKey{l.list[0].session, l.list[0].seq})
		l.list = l.list[1:]
	}
	l.list = append(l.list, r)
	l.known[lostKey{r.session, r.seq}] = struct{}{}
}

// drop forgets one lost request, or with seq 0 all of a session.
func (l *lostRequests) drop(session *wire.SessionID, seq uint64) {
	if len(l.list) == 0 || seq != 0 && !l.has(session, seq) {
		return
	}
	kept := l.list[:0]
	for _, r := range l.list {
		if r.session != *session || seq != 0 && r.seq != seq {
			kept = append(kept, r)
		} else {
			delete(l.known, lostKey{r.session, r.seq})
		}
	}
	l.list = kept
}

// lose notes that a request will not be answered, and tells its asker's node.
func (c *Core) lose(r request) {
	if r.seq == 0 || c.peers[r.node] == nil {
		return
	}
	c.stats.RequestsLost++
	c.lost.add(r)
	c.tellLost(&r)
}

// tellLost tells a node that a request is lost, after all acknowledgements.
func (c *Core) tellLost(r *request) {
	c.Flush()
	c.answer(c.peers[r.node], wire.Header{Type: wire.TypeRequestLost, Session: r.session, Seq: r.seq}, true)
}

// tellLostAgain tells a node that has a new link.
func (c *Core) tellLostAgain(p *Peer) {
	for i := range c.lost.list {
		if r := &c.lost.list[i]; r.node == p.id {
			c.tellLost(r)
		}
	}
}

// recallLost tells again that a request is lost, together with the
// acknowledgement of its message.
func (c *Core) recallLost(session *wire.SessionID, seq uint64) {
	if !c.lost.has(session, seq) {
		return
	}
	for i := range c.lost.list {
		if r := &c.lost.list[i]; r.seq == seq && r.session == *session {
			c.tellLost(r)
			return
		}
	}
}

// requestLost handles TypeRequestLost: at the asker's node news, and at the
// node that lost the request the answer to it.
func (c *Core) requestLost(p *Peer, h *wire.Header) {
	if p.dest < 0 { // no server: it answers
		c.lost.drop(&h.Session, h.Seq)
		return
	}
	s := c.session(&h.Session)
	if ended := s != nil && s.left || s == nil && c.gone.has(h.Session); !ended {
		if s == nil || s.detached {
			return // its program may be about to attach again
		}
		if e := s.requests.at(h.Seq); e != nil && e.state != settled && (e.fan == nil || e.fan.copyAt(p) != nil) {
			return // its acknowledgement was lost: this comes again with the next one
		}
		c.failAwait(s, h.Seq, p)
	}
	c.answer(p, wire.Header{Type: wire.TypeRequestLost, Session: h.Session, Seq: h.Seq}, false)
}
