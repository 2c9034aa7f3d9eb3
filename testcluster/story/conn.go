package story

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection. Everything is guarded by the network's mutex.
type conn struct {
	n               *network
	host            *host
	here, there     address
	in, out         *stream
	closed          bool
	readBy, writeBy deadline
}

// stream is one way of a connection.
type stream struct {
	path  [2]string // from, to
	moved *sync.Cond
	buf   []byte
	ended bool // its writer is gone: after buf comes the end
	deaf  bool // its reader is gone
}

// deadline is a time at which waiting ends, and what wakes those who wait.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

// connect makes both ends of a connection; n.mu is held.
func (n *network) connect(a, b *host, addrA, addrB address) (near, far *conn) {
	out := &stream{path: [2]string{a.name, b.name}, moved: sync.NewCond(&n.mu)}
	back := &stream{path: [2]string{b.name, a.name}, moved: sync.NewCond(&n.mu)}
	near = &conn{n: n, host: a, here: addrA, there: addrB, in: back, out: out}
	far = &conn{n: n, host: b, here: addrB, there: addrA, in: out, out: back}
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, far
}

// passes reports whether anything goes that way; n.mu is held.
func (n *network) passes(s *stream) bool { return !n.cuts[s.path] }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for {
		switch passes := c.n.passes(c.in); {
		case c.closed:
			return 0, net.ErrClosed
		case c.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case passes && len(c.in.buf) > 0:
			n := copy(b, c.in.buf)
			c.in.buf = c.in.buf[n:]
			if len(c.in.buf) == 0 {
				c.in.buf = nil
			}
			c.in.moved.Broadcast()
			return n, nil
		case passes && c.in.ended:
			return 0, io.EOF
		}
		c.in.moved.Wait()
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (written int, err error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return written, net.ErrClosed
		case c.writeBy.passed():
			return written, os.ErrDeadlineExceeded
		case c.out.deaf && c.n.passes(c.in):
			return written, syscall.EPIPE
		}
		n := min(len(b), max(0, streamBytesMax-len(c.out.buf)))
		c.out.buf = append(c.out.buf, b[:n]...)
		written += n
		if n > 0 {
			c.out.moved.Broadcast()
		}
		if b = b[n:]; len(b) == 0 {
			return written, nil
		}
		c.out.moved.Wait()
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.shut()
	return nil
}

// shut closes this end; n.mu is held.
func (c *conn) shut() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.n.conns, c)
	c.readBy.stop()
	c.writeBy.stop()
	c.out.ended, c.in.deaf = true, true
	c.in.buf = nil
	c.in.moved.Broadcast()
	c.out.moved.Broadcast()
}

func (c *conn) LocalAddr() net.Addr  { return c.here }
func (c *conn) RemoteAddr() net.Addr { return c.there }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.limit(&c.readBy, c.in, t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.limit(&c.writeBy, c.out, t) }

func (c *conn) limit(d *deadline, s *stream, t time.Time) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	d.stop()
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			c.n.mu.Lock()
			defer c.n.mu.Unlock()
			s.moved.Broadcast()
		})
	}
	s.moved.Broadcast()
	return nil
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
