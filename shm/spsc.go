package shm

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/chmpx/chmpx/internal/fault"
)

// Producer is the writing end of a ring. It belongs to one goroutine at a time.
type Producer struct {
	ring
	next      uint64 // end of what was committed
	reserved  uint64 // begin of the record that was reserved, after any pad
	length    int    // of the record that was reserved, -1 = none
	published uint64
	seenHead  uint64 // newest head read and found good
}

// Reserve returns n bytes to write a record into. ok false: there is no room
// now. The error is ErrTooLarge, or ErrCorrupt when the consumer wrote
// nonsense into its cursor. A further Reserve before Commit takes the place of
// the first.
func (p *Producer) Reserve(n int) (rec []byte, ok bool, err error) {
	if p.corrupt != nil {
		return nil, false, p.corrupt
	}
	size := len(p.buf)
	if n < 0 || n > RecordBytesMax(size) {
		return nil, false, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, RecordBytesMax(size))
	}
	need := recordHeaderBytes + align(n)
	off := int(p.next) & (size - 1)
	pad := 0
	if off+need > size {
		pad = size - off
	}
	end := p.next + uint64(pad+need)
	if end-p.seenHead > uint64(size) {
		if !p.look() {
			return nil, false, p.corrupt
		}
		if end-p.seenHead > uint64(size) {
			return nil, false, nil
		}
	}
	if pad > 0 {
		putHeader(p.buf[off:], pad-recordHeaderBytes, markPad)
		fault.Crash(fault.RingPadded)
		off = 0
	}
	p.reserved, p.length = p.next+uint64(pad), n
	return p.buf[off+recordHeaderBytes : off+recordHeaderBytes+n : off+recordHeaderBytes+n], true, nil
}

// look reads the consumer's cursor and checks it.
// sync: released (acquire, pairs with Consumer.Release)
func (p *Producer) look() bool {
	head := atomic.LoadUint64(p.head)
	if head < p.seenHead || head > p.published || head%recordAlign != 0 {
		if p.corrupt == nil {
			p.corrupt = fmt.Errorf("%w: head %d is not within %d to %d", ErrCorrupt, head, p.seenHead, p.published)
		}
		return false
	}
	p.seenHead = head
	return true
}

// Commit ends the record that was reserved and returns the cursor that the
// consumer's head reaches when it has passed it. The consumer sees it after
// Publish. Commit without a successful Reserve before it is a bug and panics.
func (p *Producer) Commit() (end uint64) {
	if p.length < 0 {
		panic("BUG: Commit without Reserve")
	}
	putHeader(p.buf[int(p.reserved)&(len(p.buf)-1):], p.length, markRecord)
	p.next = p.reserved + uint64(recordHeaderBytes+align(p.length))
	p.length = -1
	return p.next
}

// Publish makes all committed records visible to the consumer.
// sync: published (release, pairs with Consumer.Next)
func (p *Producer) Publish() {
	if p.next != p.published {
		p.published = p.next
		atomic.StoreUint64(p.tail, p.next)
		fault.Crash(fault.RingPublished)
	}
}

// Head returns the consumer's cursor; when the consumer wrote nonsense, the
// last good one (Err tells).
func (p *Producer) Head() uint64 {
	p.look()
	return p.seenHead
}

// Tail returns the end of what was committed.
func (p *Producer) Tail() uint64 { return p.next }

// Free returns how many bytes of the ring are free. A record takes its own
// size, 8 bytes and, at the end of the ring, up to a quarter of the ring more.
func (p *Producer) Free() int {
	p.look()
	return len(p.buf) - int(p.next-p.seenHead)
}

// Err returns why the ring cannot be used any more, nil while it can.
func (p *Producer) Err() error { return p.corrupt }

func putHeader(b []byte, length int, mark uint32) {
	binary.NativeEndian.PutUint64(b[:recordHeaderBytes], uint64(length)|uint64(mark)<<32)
}

// Consumer is the reading end of a ring. It belongs to one goroutine at a time.
type Consumer struct {
	ring
	pos      uint64 // read up to here
	seenTail uint64 // newest tail read and found good
	released uint64
}

// Next returns the next record and its cursors. ok false: there is none now.
// rec aliases the ring: its bytes are the peer's until they are copied, and it
// is valid until end is released. Nothing is released. Void records are passed
// over: Read tells how far. The error is ErrCorrupt and stays.
func (c *Consumer) Next() (rec []byte, pos, end uint64, ok bool, err error) {
	for { // each round comes nearer to the tail, which is at most a ring away
		if c.corrupt != nil {
			return nil, 0, 0, false, c.corrupt
		}
		if c.pos == c.seenTail && !c.look() {
			return nil, 0, 0, false, c.corrupt
		}
		n, mark := c.header(c.pos, c.seenTail)
		if c.corrupt != nil {
			continue
		}
		pos = c.pos
		c.pos += uint64(recordHeaderBytes + align(n))
		if mark == markRecord {
			off := int(pos)&(len(c.buf)-1) + recordHeaderBytes
			return c.buf[off : off+n : off+n], pos, c.pos, true, nil
		}
	}
}

// look reads the producer's cursor, checks it, and reports whether there is more.
// sync: published (acquire, pairs with Producer.Publish)
func (c *Consumer) look() bool {
	tail := atomic.LoadUint64(c.tail)
	if tail < c.seenTail || tail-c.released > uint64(len(c.buf)) || tail%recordAlign != 0 {
		c.corrupt = fmt.Errorf("%w: tail %d after %d, released %d, size %d", ErrCorrupt, tail, c.seenTail, c.released, len(c.buf))
		return false
	}
	c.seenTail = tail
	return tail != c.pos
}

// header reads the header at pos once and checks that what it announces ends
// within the ring and within limit.
func (c *Consumer) header(pos, limit uint64) (n int, mark uint32) {
	off := int(pos) & (len(c.buf) - 1)
	h := binary.NativeEndian.Uint64(c.buf[off : off+recordHeaderBytes])
	length, mark := h&0xffff_ffff, uint32(h>>32)
	room := uint64(len(c.buf) - off - recordHeaderBytes)
	switch {
	case (mark == markRecord || mark == markVoid) && length <= uint64(RecordBytesMax(len(c.buf))) && length <= room:
	case mark == markPad && length == room && off != 0:
	default:
		c.corrupt = fmt.Errorf("%w: record at %d has length %d, mark %#x", ErrCorrupt, pos, length, mark)
		return 0, 0
	}
	if pos+recordHeaderBytes+uint64(align(int(length))) > limit {
		c.corrupt = fmt.Errorf("%w: record at %d of length %d reaches past %d", ErrCorrupt, pos, length, limit)
		return 0, 0
	}
	return int(length), mark
}

// At returns a record again that Next returned at pos and that was not
// released. It is checked again: its content and even its length may have
// changed if the producer is not honest.
func (c *Consumer) At(pos uint64) (rec []byte, err error) {
	if c.corrupt != nil {
		return nil, c.corrupt
	}
	if pos < c.released || pos >= c.pos || pos%recordAlign != 0 {
		return nil, fmt.Errorf("%w: no record at %d, unreleased are %d to %d", ErrCorrupt, pos, c.released, c.pos)
	}
	n, mark := c.header(pos, c.pos)
	if c.corrupt != nil {
		return nil, c.corrupt
	}
	if mark != markRecord {
		c.corrupt = fmt.Errorf("%w: record at %d has mark %#x now", ErrCorrupt, pos, mark)
		return nil, c.corrupt
	}
	off := int(pos)&(len(c.buf)-1) + recordHeaderBytes
	return c.buf[off : off+n : off+n], nil
}

// Void strikes out a record that Next returned at pos and that was not
// released: whoever reads the ring from its head later passes over it. Only who
// produces into the ring may do so, through a Consumer that releases nothing,
// and only while the true consumer stands still: it has handed the segment back.
func (c *Consumer) Void(pos uint64) error {
	rec, err := c.At(pos)
	if err != nil {
		return err
	}
	putHeader(c.buf[int(pos)&(len(c.buf)-1):], len(rec), markVoid)
	return nil
}

// Release gives everything up to the cursor end back to the producer. An end
// before what was released is ignored; one past what Next returned is a bug
// and panics.
// sync: released (release, pairs with Producer.Reserve)
func (c *Consumer) Release(end uint64) {
	if end > c.pos {
		panic("BUG: release of a record that was not read")
	}
	if end > c.released {
		c.released = end
		atomic.StoreUint64(c.head, end)
		fault.Crash(fault.RingReleased)
	}
}

// Released returns the cursor up to which everything was given back.
func (c *Consumer) Released() uint64 { return c.released }

// Read returns the cursor up to which Next has come. It lies past the last
// record that Next returned when void records follow: Release(Read()) gives
// their room back, too.
func (c *Consumer) Read() uint64 { return c.pos }

// Err returns why the ring cannot be used any more, nil while it can.
func (c *Consumer) Err() error { return c.corrupt }

// Tail returns the producer's cursor, unchecked: good for seeing that it
// changed. Any goroutine.
func (c *Consumer) Tail() uint64 { return atomic.LoadUint64(c.tail) }

// Empty reports whether Next would find nothing. Like Next, it
// belongs to the consumer's goroutine.
func (c *Consumer) Empty() bool { return atomic.LoadUint64(c.tail) == c.pos }
