package netem

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// forwarder carries the connections that one host opens to another.
type forwarder struct {
	network     *Network
	addr        string // where it listens
	target      string
	there, back *path // of what the opener writes, of what it reads
	work        sync.WaitGroup

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]struct{}
	refusing bool // connections end at once
	closed   bool
}

const dialWait = 5 * time.Second

// listen begins.
func (f *forwarder) listen(l net.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.accept(l)
}

// accept takes connections from l until it is closed; mu is held.
func (f *forwarder) accept(l net.Listener) {
	f.listener = l
	f.work.Go(func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !f.add(c) {
				continue
			}
			f.work.Go(func() { f.carry(c) })
		}
	})
}

// add notes a connection that refuse and close must end; after them it is ended at once.
func (f *forwarder) add(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.refusing {
		reset(c)
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

// end closes a connection in order, if it is still there.
func (f *forwarder) end(c net.Conn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
	_ = c.Close() // reset or closed already: both are fine
}

// reset ends a connection with RST.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // fails only on a connection that is gone
	}
	_ = c.Close()
}

// refuse resets all connections and stops listening, or does the latter alone,
// or listens.
func (f *forwarder) refuse(all, deaf bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusing = all
	switch {
	case f.closed:
	case all:
		f.drop()
	case deaf && f.listener != nil:
		_ = f.listener.Close() // a listener that is open can be closed
		f.listener = nil
	case !deaf && f.listener == nil:
		l, err := net.Listen("tcp", f.addr)
		if err != nil {
			return fmt.Errorf("forward to %s again: %w", f.target, err)
		}
		f.accept(l)
	}
	return nil
}

// drop closes the listener and resets all connections; mu is held.
func (f *forwarder) drop() {
	if f.listener != nil {
		_ = f.listener.Close()
		f.listener = nil
	}
	for c := range f.conns {
		reset(c)
	}
	clear(f.conns)
}

func (f *forwarder) close() {
	f.mu.Lock()
	f.closed = true
	f.drop()
	f.mu.Unlock()
	f.work.Wait()
}

// carry carries one connection until both directions have ended.
func (f *forwarder) carry(near net.Conn) {
	defer f.end(near)
	l := newLink(f, near)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer l.stop()
	reading.Go(func() { l.there.read(near) }) // already: who gives up before it is let through never came
	if !l.enter() {
		return
	}
	far, err := net.DialTimeout("tcp", f.target, dialWait)
	if err != nil || !f.add(far) {
		return // nobody listens: the opener sees its connection reset
	}
	defer f.end(far)
	l.setFar(far)
	var rest sync.WaitGroup
	rest.Go(func() { l.there.write(far) })
	rest.Go(func() { l.back.read(far) })
	l.back.write(near)
	rest.Wait()
	l.finish()
}
