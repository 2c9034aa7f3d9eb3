package shm

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Heap is a System within one process: segments on the heap, where the race
// detector sees them, doorbells of channels and connections of pipes, so that
// fake time runs. For tests, of nodes and of programs. The zero value is ready.
type Heap struct {
	mu        sync.Mutex  // guards what follows; leaf lock
	things    map[int]any // *heapMemory or Doorbell, by descriptor
	next      int         // the descriptor given out next
	memories  uint64      // made so far
	listeners map[string]*heapListener
}

// heapFirst is the first descriptor of a Heap: none that the kernel gives out,
// so that one that goes astray is an error.
const heapFirst = 1 << 24

type heapMemory struct {
	id  MemfdID
	mem []byte
}

// Open returns how many descriptors are not closed.
func (h *Heap) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.things)
}

func (h *Heap) add(thing any) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.things == nil {
		h.things, h.next = make(map[int]any), heapFirst
	}
	h.next++
	h.things[h.next] = thing
	return h.next
}

// look returns what a descriptor stands for.
func look[T any](h *Heap, fd int) (thing T, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	thing, ok := h.things[fd].(T)
	if !ok {
		return thing, fmt.Errorf("descriptor %d: %w", fd, syscall.EBADF)
	}
	return thing, nil
}

// Create implements System.
func (h *Heap) Create(size int) (fd int, mem []byte, err error) {
	if size <= 0 {
		return -1, nil, fmt.Errorf("%w: %d bytes", ErrSize, size)
	}
	h.mu.Lock()
	h.memories++
	m := &heapMemory{id: MemfdID{inode: h.memories}, mem: make([]byte, size)}
	h.mu.Unlock()
	return h.add(m), m.mem, nil
}

// Check implements System.
func (h *Heap) Check(fd int) (size int, err error) {
	m, err := look[*heapMemory](h, fd)
	if err != nil {
		return 0, err
	}
	if !validSegmentBytes(int64(len(m.mem))) {
		return 0, fmt.Errorf("%w: memory of %d bytes", ErrSize, len(m.mem))
	}
	return len(m.mem), nil
}

// Identify implements System.
func (h *Heap) Identify(fd int) (MemfdID, error) {
	m, err := look[*heapMemory](h, fd)
	if err != nil {
		return MemfdID{}, err
	}
	return m.id, nil
}

// Map implements System.
func (h *Heap) Map(fd int) ([]byte, error) {
	if _, err := h.Check(fd); err != nil {
		return nil, err
	}
	m, err := look[*heapMemory](h, fd)
	if err != nil {
		return nil, err
	}
	return m.mem, nil
}

// Remap implements System.
func (h *Heap) Remap(fd int) ([]byte, error) { return h.Map(fd) }

// Unmap implements System: the memory lasts as long as somebody refers to it.
func (h *Heap) Unmap([]byte) error { return nil }

// NewBell implements System.
func (h *Heap) NewBell() (fd int, err error) { return h.add(NewChanDoorbell()), nil }

// Doorbell implements System. What is one's own is the descriptor: the bell
// rings for the other side, too, so only this end of it is closed.
func (h *Heap) Doorbell(fd int) (Doorbell, error) {
	bell, err := look[*chanDoorbell](h, fd)
	if err != nil {
		return nil, err
	}
	return &heapDoorbell{chanDoorbell: &chanDoorbell{rung: bell.rung, closed: make(chan struct{})}, release: func() { _ = h.Close(fd) }}, nil
}

// heapDoorbell is one end of a doorbell.
type heapDoorbell struct {
	*chanDoorbell
	once    sync.Once
	release func()
}

// Close implements Doorbell.
func (d *heapDoorbell) Close() error {
	d.once.Do(d.release)
	return d.chanDoorbell.Close()
}

// Duplicate implements System.
func (h *Heap) Duplicate(fd int) (int, error) {
	thing, err := look[any](h, fd)
	if err != nil {
		return -1, err
	}
	return h.add(thing), nil
}

// Close implements System.
func (h *Heap) Close(fd int) error {
	if _, err := look[any](h, fd); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.things, fd)
	return nil
}

// Listen implements System. The path is a name only, nothing is made there.
func (h *Heap) Listen(path string) (Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = make(map[string]*heapListener)
	}
	l := &heapListener{h: h, path: path, conns: make(chan Conn), closed: make(chan struct{})}
	h.listeners[path] = l
	return l, nil
}

// Dial implements System.
func (h *Heap) Dial(ctx context.Context, path string) (Conn, error) {
	h.mu.Lock()
	l := h.listeners[path]
	h.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("connect to node at %s: %w", path, syscall.ECONNREFUSED)
	}
	near, far := newHeapConns(h)
	var err error
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		err = syscall.ECONNREFUSED
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = near.Close(), far.Close()
	return nil, fmt.Errorf("connect to node at %s: %w", path, err)
}

type heapListener struct {
	h      *Heap
	path   string
	conns  chan Conn // unbuffered
	closed chan struct{}
	once   sync.Once
}

func (l *heapListener) Accept() (Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *heapListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		if l.h.listeners[l.path] == l {
			delete(l.h.listeners, l.path)
		}
	})
	return nil
}

// heapConn is one end of a connection. Descriptors come with the bytes that
// are read first after they were sent.
type heapConn struct {
	net.Conn
	h    *Heap
	peer *heapConn

	mu     sync.Mutex // guards what follows; leaf lock
	fds    []int      // on their way to this end
	closed bool       // of this end: what is sent to it is lost
}

func newHeapConns(h *Heap) (near, far *heapConn) {
	a, b := net.Pipe()
	near, far = &heapConn{Conn: a, h: h}, &heapConn{Conn: b, h: h}
	near.peer, far.peer = far, near
	return near, far
}

// Send implements Conn.
func (c *heapConn) Send(data []byte, fds ...int) error {
	if err := c.peer.push(fds); err != nil {
		return err
	}
	if _, err := c.Write(data); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// push puts copies of descriptors on their way to this end.
func (c *heapConn) push(fds []int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fd := range fds {
		other, err := c.h.Duplicate(fd)
		if err != nil {
			return fmt.Errorf("send descriptors: %w", err)
		}
		c.fds = append(c.fds, other)
	}
	if c.closed {
		c.drop()
	}
	return nil
}

// drop closes what is on its way. c.mu is held.
func (c *heapConn) drop() {
	for _, fd := range c.fds {
		_ = c.h.Close(fd)
	}
	c.fds = nil
}

// Receive implements Conn.
func (c *heapConn) Receive(buf []byte, want int) (n int, fds []int, err error) {
	n, err = c.Read(buf)
	if err != nil {
		return 0, nil, fmt.Errorf("receive descriptors: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := len(c.fds); got != 0 && got != want {
		c.drop()
		return n, nil, fmt.Errorf("%w: %d came, %d expected", ErrDescriptors, got, want)
	}
	fds, c.fds = c.fds, nil
	return n, fds, nil
}

// Close implements net.Conn.
func (c *heapConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.drop()
	c.mu.Unlock()
	return c.Conn.Close()
}
