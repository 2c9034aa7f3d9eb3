package dataplane

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

const (
	// linkReadBytes is the read buffer of a link; a frame larger than it makes it grow.
	linkReadBytes = 256 << 10
	// linkQueueBytesMax bounds the messages that wait in a link's send buffer.
	// At the bound the core is told "no room" and the messages stay in their out-rings.
	linkQueueBytesMax = 1 << 20
	// linkAnswerBytesMax bounds acknowledgements and refusals on top of it. A
	// peer that lets so many pile up is not reading: the link is cut.
	linkAnswerBytesMax = 16 << 20
	// tablePullEvery bounds how often a link asks for a table.
	tablePullEvery = 20 * time.Millisecond
)

// link is one TCP connection to another node, ours (dialled) or theirs
// (accepted). Its read goroutine forwards what arrives; whoever has set writing
// owns the spare buffer and the writing side of the connection.
type link struct {
	p        *Plane
	peer     *flow.Peer
	id       ring.ID // of the node at the other end
	name     string
	accepted bool
	conn     net.Conn // to ask who is there
	sock     socket   // of conn, which it owns
	in       intake
	blocked  chan []byte // what is left to write when the socket is full, capacity 1
	heardNs  atomic.Int64
	pulledNs int64 // read goroutine and core calls, under p.mu

	newerThan uint32 // accepted: this tunnel of its opener, and all before, are older

	// guarded by p.mu
	inc     ring.Incarnation // of the peer, from its hello
	upNs    int64            // accepted: since when it counts
	pending []byte           // frames to write
	spare   []byte           // the other buffer; owned by the writer while writing
	queued  int              // bytes of messages within pending
	relayed int              // bytes of tunnels' messages and of others' tunnels within pending
	writing bool             // somebody writes, and will take what is pending
	urgent  bool             // pending must not wait for more
	dirty   bool             // in p.dirtyLinks
	full    bool             // the core was told "no room"
	dead    error            // why it was killed
}

// newLink wraps a connection whose hellos have been exchanged.
func (p *Plane) newLink(conn net.Conn, id ring.ID, name string, accepted bool) (*link, error) {
	sock, err := newSocket(conn, p.cfg.HotWait)
	if err != nil {
		return nil, err
	}
	l := &link{p: p, id: id, name: name, accepted: accepted, conn: conn, sock: sock, blocked: make(chan []byte, 1)}
	l.heardNs.Store(p.nowNs())
	return l, nil
}

// kill makes the link's goroutines end. It never blocks; p.mu may be held.
func (l *link) kill(why error) {
	if l.dead == nil {
		l.dead = why
	}
	l.sock.interrupt()
}

// run reads until the link ends and says why. It owns the connection and
// closes it. The caller has registered the link as up.
func (l *link) run(ctx context.Context) error {
	done := make(chan struct{})
	l.p.work.Go(func() { l.runWriter(done) })
	err := l.read()
	close(done)
	_ = l.sock.close()
	return err
}

// read is the pump of a link. It says why the link ended.
func (l *link) read() error {
	l.in.l, l.in.buf = l, make([]byte, linkReadBytes)
	err := l.sock.receive(&l.in)
	if why := l.p.killReason(l); why != nil {
		return why
	}
	return err
}

// intake is what a link has read and not forwarded yet. Its read goroutine owns
// it, on a descriptor together with the hot waiter.
type intake struct {
	l     *link
	mu    sync.Mutex // guards what follows, on a descriptor; before p.mu
	fd    uintptr
	gate  *gate // of fd; nil: no hot waiter reads
	ended bool  // the descriptor must not be read any more
	b     batch
	buf   []byte
	have  int // bytes of buf that are read
}

// space returns where to read to; never empty.
func (in *intake) space() []byte { return in.buf[in.have:] }

// arrived forwards the complete frames after n more bytes were read into space.
func (in *intake) arrived(n int) error {
	in.have += n
	used, need, err := in.l.forward(in.buf[:in.have], &in.b)
	if err != nil {
		return err
	}
	in.have = copy(in.buf, in.buf[used:in.have])
	if need > len(in.buf) {
		in.buf = append(make([]byte, 0, need), in.buf[:in.have]...)[:need]
	}
	return nil
}

func (p *Plane) killReason(l *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.dead
}

// forward handles the complete frames of buf under the lock. It returns how
// many bytes it used and how large the buffer must be for the next frame.
func (l *link) forward(buf []byte, b *batch) (used, need int, err error) {
	p := l.p
	now := p.nowNs()
	l.heardNs.Store(now)
	var h wire.Header
	p.mu.Lock()
	err = l.dead // a busy socket never lets the deadline be seen
	for err == nil && len(buf)-used >= wire.HeaderBytes {
		if err = h.Get(buf[used:]); err != nil {
			break
		}
		end := used + wire.HeaderBytes + int(h.Length)
		if end > len(buf) {
			need = wire.HeaderBytes + int(h.Length)
			break
		}
		l.handle(now, &h, buf[used+wire.HeaderBytes:end])
		used = end
	}
	p.finishUnlock(b)
	return used, need, err
}

// handle acts on one frame; p.mu is held.
func (l *link) handle(now int64, h *wire.Header, payload []byte) {
	switch h.Type {
	case wire.TypeRelay:
		l.p.envelope(now, l, h, payload)
	case wire.TypeRelayBroken:
		l.p.broken(l, h)
	default:
		l.p.handle(now, l, l.peer, l.name, h, payload)
	}
}

// carrier is what brings frames to a peer: a link or a tunnel. p.mu is held.
type carrier interface {
	put(h *wire.Header, payload []byte, urgent bool)
	pull(now int64)
}

// handle acts on one frame from a peer; mu is held.
func (p *Plane) handle(now int64, from carrier, peer *flow.Peer, name string, h *wire.Header, payload []byte) {
	switch h.Type {
	case wire.TypeHello: // only the first frame is one
	case wire.TypePing:
		p.answerPing(now, from, h)
	case wire.TypePong:
		if h.Flags&wire.FlagStandIn != 0 {
			p.core.StandInAgreed(now, peer, ring.ID(h.Hash), h.Epoch)
		}
		p.comparePeerEpoch(now, from, h.Epoch)
	case wire.TypeTableRequest:
		if t := p.view.Table; t != nil && t.Epoch.Compare(h.Epoch) > 0 {
			if bin := p.store.encoded(t); bin != nil {
				from.put(&wire.Header{Type: wire.TypeTable}, bin, true)
			}
		}
	case wire.TypeTable:
		t, err := ring.UnmarshalTable(payload)
		if err != nil {
			if p.mayLog() {
				p.note(slog.LevelWarn, "ignored a table", "from", name, "error", err)
			}
			return
		}
		p.tableFromPeer(t)
	default:
		p.traceFrame(fault.FrameReceived, from, h)
		p.history.received(h)
		p.core.Frame(now, peer, h, payload)
	}
}

// comparePeerEpoch pulls the table of a peer that has a newer one.
func (p *Plane) comparePeerEpoch(now int64, peer carrier, e ring.Epoch) {
	if e.Compare(p.epoch()) > 0 {
		peer.pull(now)
	}
}

// pull asks the peer for its table; p.mu is held.
func (l *link) pull(now int64) { l.p.pull(now, l, &l.pulledNs) }

// pull asks a peer for its table, at most every tablePullEvery; mu is held.
func (p *Plane) pull(now int64, from carrier, lastNs *int64) {
	if now-*lastNs < int64(tablePullEvery) && *lastNs != 0 {
		return
	}
	*lastNs = now
	from.put(&wire.Header{Type: wire.TypeTableRequest, Epoch: p.epoch()}, nil, true)
}

// epoch returns the epoch of the present table; mu is held.
func (p *Plane) epoch() ring.Epoch {
	if p.view.Table == nil {
		return ring.Epoch{}
	}
	return p.view.Table.Epoch
}

// put queues a frame; p.mu is held. urgent false lets it wait for the next
// urgent one or the next tick.
func (l *link) put(h *wire.Header, payload []byte, urgent bool) {
	if !l.takes() {
		return
	}
	h.Length = uint32(len(payload))
	var head [wire.HeaderBytes]byte
	h.Put(head[:])
	l.pending = append(l.pending, head[:]...)
	l.pending = append(l.pending, payload...)
	l.touch(urgent)
}

// putEnvelope queues a frame within an envelope; p.mu is held.
func (l *link) putEnvelope(env, h *wire.Header, payload []byte, urgent bool) {
	if !l.takes() {
		return
	}
	h.Length = uint32(len(payload))
	env.Length = wire.HeaderBytes + h.Length
	var heads [2 * wire.HeaderBytes]byte
	env.Put(heads[:])
	h.Put(heads[wire.HeaderBytes:])
	l.pending = append(l.pending, heads[:]...)
	l.pending = append(l.pending, payload...)
	l.touch(urgent)
}

// takes reports whether frames may be queued, and cuts a link whose answers
// pile up; p.mu is held.
func (l *link) takes() bool {
	if l.dead == nil && len(l.pending)-l.queued-l.relayed > linkAnswerBytesMax {
		l.kill(errors.New("the peer does not read its acknowledgements"))
	}
	return l.dead == nil
}

// touch notes that there is something to write; p.mu is held.
func (l *link) touch(urgent bool) {
	l.urgent = l.urgent || urgent
	if !l.dirty {
		l.dirty = true
		l.p.dirtyLinks = append(l.p.dirtyLinks, l)
	}
}

// hasRoom reports whether a message may be queued; p.mu is held. After false
// the core hears of room from the writer.
func (l *link) hasRoom() bool {
	if l.dead != nil || l.queued > linkQueueBytesMax {
		l.full = true
		return false
	}
	return true
}

// claim makes the caller the writer of what is pending; p.mu is held and
// nobody writes.
func (l *link) claim() {
	l.writing, l.urgent, l.queued, l.relayed = true, false, 0, 0
	l.pending, l.spare = l.spare[:0], l.pending
}

// written ends a claim: what gathered meanwhile becomes dirty again, and the
// core hears that there is room; p.mu is held.
func (l *link) written() {
	p := l.p
	l.writing = false
	if cap(l.spare) > 2*linkQueueBytesMax {
		l.spare = nil // a burst made it grow; do not keep it
	}
	if len(l.pending) > 0 && !l.dirty {
		l.dirty = true
		p.dirtyLinks = append(p.dirtyLinks, l)
	}
	if l.full && l.dead == nil {
		l.full = false
		p.core.PeerRoom(p.nowNs(), l.peer)
	}
}

// runWriter waits for the socket on behalf of those who must not.
func (l *link) runWriter(done <-chan struct{}) {
	b := &batch{}
	for {
		select {
		case <-done:
			return
		case rest := <-l.blocked:
			if err := l.sock.write(rest); err != nil {
				l.p.killLink(l, err)
				return
			}
			l.p.mu.Lock()
			l.written()
			l.p.finishUnlock(b)
		}
	}
}

// killLink is kill for callers without the lock.
func (p *Plane) killLink(l *link, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.kill(why)
}

// loop is the link of a node to itself: frames wait in memory until the end of
// the batch. It is bounded like a link: messages by hasRoom, answers by the
// windows of the sessions.
type loop struct {
	peer  *flow.Peer
	buf   []byte
	spare []byte
	full  bool
}

func (o *loop) empty() bool { return len(o.buf) == 0 }

func (o *loop) put(h *wire.Header, payload []byte) {
	h.Length = uint32(len(payload))
	var head [wire.HeaderBytes]byte
	h.Put(head[:])
	o.buf = append(append(o.buf, head[:]...), payload...)
}

// deliver hands the waiting frames to the core as from the given peer.
func (o *loop) deliver(p *Plane, from *flow.Peer) {
	if len(o.buf) == 0 {
		return
	}
	o.buf, o.spare = o.spare[:0], o.buf
	now := p.nowNs()
	var h wire.Header
	for b := o.spare; len(b) > 0; b = b[wire.HeaderBytes+int(h.Length):] {
		if err := h.Get(b); err != nil {
			panic("BUG: own frame does not decode: " + err.Error())
		}
		p.traceFrame(fault.FrameReceived, o, &h)
		p.core.Frame(now, from, &h, b[wire.HeaderBytes:wire.HeaderBytes+int(h.Length)])
	}
	if o.full {
		o.full = false
		p.core.PeerRoom(now, o.peer)
	}
}
