package netem

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	chunkBytes = 32 << 10 // read at once
	chunksMost = 64       // on their way in one direction of a connection; who writes more waits
)

// link is one connection that is carried.
type link struct {
	there, back *pipe
	broken      chan struct{} // closed by stop
	gaveUp      chan struct{} // closed when its opener has closed its side

	mu    sync.Mutex // guards what follows
	ends  []net.Conn
	ended bool
}

func newLink(f *forwarder, near net.Conn) *link {
	random := rand.New(rand.NewPCG(f.network.draw()))
	l := &link{broken: make(chan struct{}), gaveUp: make(chan struct{}), ends: []net.Conn{near}}
	l.there, l.back = newPipe(l, f.there, random.Uint64()), newPipe(l, f.back, random.Uint64())
	l.there.closed = l.gaveUp
	return l
}

// enter waits until the link may begin; false: it never will.
func (l *link) enter() bool {
	for _, p := range []*path{l.there.path, l.back.path} {
		for {
			c, changed := p.get()
			if !c.Hold {
				break
			}
			select {
			case <-changed:
			case <-l.gaveUp:
				return false
			case <-l.broken:
				return false
			}
		}
	}
	return true
}

// setFar adds the second end.
func (l *link) setFar(far net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, far)
	if l.ended {
		reset(far)
	}
}

// stop resets both ends, so that nobody waits for them any longer. It may be called again.
func (l *link) stop() { l.end(reset) }

// finish closes both ends in order: both directions have ended.
func (l *link) finish() { l.end(func(c net.Conn) { _ = c.Close() }) }

// end does what is to be done with each end, once.
func (l *link) end(do func(net.Conn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.broken)
	for _, c := range l.ends {
		do(c)
	}
}

// chunk is what was written at once, and when it is to arrive.
type chunk struct {
	bytes []byte
	due   time.Time
	last  bool // the writer has closed its side
	lost  bool // the connection breaks here
}

// pipe is one direction of a link: one goroutine reads, one writes.
type pipe struct {
	link   *link
	path   *path
	chunks chan chunk
	closed chan struct{} // if not nil: closed when the writer has closed its side

	// of the reader
	random *rand.Rand
	spread float64   // of 1
	due    time.Time // of the newest chunk
	free   time.Time // when the line is free again
}

func newPipe(l *link, p *path, seed uint64) *pipe {
	random := rand.New(rand.NewPCG(seed, 0))
	return &pipe{link: l, path: p, chunks: make(chan chunk, chunksMost), random: random, spread: random.Float64()}
}

// read takes what src writes and says when it is to arrive. It ends with src.
func (p *pipe) read(src net.Conn) {
	buf := make([]byte, chunkBytes)
	for {
		most, ok := p.pace()
		if !ok {
			return
		}
		n, err := src.Read(buf[:most])
		c := p.plan(n)
		c.bytes, c.last = bytes.Clone(buf[:n]), errors.Is(err, io.EOF)
		c.lost = c.lost || err != nil && !c.last
		if c.last && p.closed != nil {
			close(p.closed)
		}
		select {
		case p.chunks <- c:
		case <-p.link.broken:
			return
		}
		if err != nil {
			return
		}
	}
}

// A narrow line holds lineQueue of what is on its way, in chunks of lineChunk,
// at least lineBytesLeast: what is more stays with who writes, and goes at once
// when the line is wide again.
const (
	lineQueue      = 200 * time.Millisecond
	lineChunk      = 50 * time.Millisecond
	lineBytesLeast = 256
)

// pace waits until there is room on the line and returns how much may be read
// at once; false: the link has broken.
func (p *pipe) pace() (most int, ok bool) {
	for {
		c, changed := p.path.get()
		if c.Rate == 0 {
			p.free = time.Time{}
			return chunkBytes, true
		}
		wait := time.Until(p.free.Add(-lineQueue))
		if wait <= 0 {
			return min(chunkBytes, max(lineBytesLeast, int(float64(c.Rate)*lineChunk.Seconds()))), true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-p.link.broken:
			timer.Stop()
			return 0, false
		}
		timer.Stop()
	}
}

// What a lost packet costs: the first repeat comes after this, each further one
// after twice as long.
const (
	repeatAfter = 200 * time.Millisecond
	repeatsMost = 4
	breaksOneIn = 50
)

// plan says when n bytes that are written now arrive.
func (p *pipe) plan(n int) (out chunk) {
	c, _ := p.path.get()
	now := time.Now()
	late := c.Delay + time.Duration(p.spread*float64(c.Spread))
	if c.Jitter > 0 {
		late += time.Duration(p.random.Int64N(int64(c.Jitter)))
	}
	if c.Loss > 0 {
		for wait, i := repeatAfter, 0; i < repeatsMost && p.random.Float64() < c.Loss; wait, i = 2*wait, i+1 {
			late += wait
			out.lost = out.lost || p.random.IntN(breaksOneIn) == 0
		}
	}
	if c.Rate > 0 {
		if p.free.Before(now) {
			p.free = now
		}
		p.free = p.free.Add(time.Duration(float64(n) / float64(c.Rate) * float64(time.Second)))
		late += p.free.Sub(now)
	}
	if due := now.Add(late); due.After(p.due) {
		p.due = due // order is kept
	}
	out.due = p.due
	return out
}

// write carries chunks to dst when they are due, until the writer has closed
// its side, which dst is told, or the link breaks.
func (p *pipe) write(dst net.Conn) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var c chunk
		select {
		case c = <-p.chunks:
		case <-p.link.broken:
			return
		}
		if !p.await(c.due, timer) {
			return
		}
		if c.lost {
			p.link.stop()
			return
		}
		if _, err := dst.Write(c.bytes); err != nil {
			p.link.stop()
			return
		}
		if c.last {
			if t, ok := dst.(*net.TCPConn); ok {
				_ = t.CloseWrite() // fails only when the link has broken
			}
			return
		}
	}
}

// await waits until a chunk is due and nothing is held; false: the link has broken.
func (p *pipe) await(due time.Time, timer *time.Timer) bool {
	if wait := time.Until(due); wait > 0 {
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.link.broken:
			return false
		}
	}
	for {
		c, changed := p.path.get()
		if !c.Hold {
			return true
		}
		select {
		case <-changed:
		case <-p.link.broken:
			return false
		}
	}
}
