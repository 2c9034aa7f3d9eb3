package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// handshakeTimeout bounds the exchange of attach messages.
const handshakeTimeout = 5 * time.Second

// attachment is one connection to a node: a socket that lives as long as it,
// a segment, and the doorbells. Who may touch the segment: see Client.
type attachment struct {
	sys      shm.System
	conn     shm.Conn
	reply    *wire.AttachReply
	mem      []byte // nil until it is taken over, if resumed
	memfd    int    // of mem: the next node may want it back
	seg      *shm.Segment
	bell     shm.Doorbell // ours
	nodeBell shm.Doorbell
	resumed  bool // the node goes on with the segment of the attachment before

	// The leader's. Of requests it reads the cursor only.
	control, replies, requests *shm.Consumer
	requestsSeen               uint64 // tail of requests that receivers were told of

	once sync.Once // guards why
	why  error     // why it ended; read by the keeper after watch
}

// dial attaches through one of the paths. back, unless it is nil, is the ended
// attachment whose segment is handed back.
func dial(ctx context.Context, sys shm.System, paths []string, req *wire.AttachRequest, back *attachment) (*attachment, error) {
	var errs []error
	for _, path := range paths {
		at, err := dialPath(ctx, sys, path, req, back)
		if err == nil {
			return at, nil
		}
		errs = append(errs, err)
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrNoRoom) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func dialPath(ctx context.Context, sys shm.System, path string, req *wire.AttachRequest, back *attachment) (*attachment, error) {
	if err := safeDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := sys.Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	at, err := handshake(sys, conn, req, back)
	if !stop() && err == nil {
		at.end()
		at.free()
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("attach through %s: %w", path, err)
	}
	return at, nil
}

func handshake(sys shm.System, conn shm.Conn, req *wire.AttachRequest, back *attachment) (*attachment, error) {
	r, handed := *req, []int(nil)
	if back != nil {
		r.Flags |= wire.AttachHandBack
		handed = []int{back.memfd}
	}
	b, err := r.Encode()
	if err != nil {
		return nil, err
	}
	if err := conn.Send(b, handed...); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	if back == nil {
		fault.Crash(fault.AttachSent)
	} else {
		fault.Crash(fault.HandBackSent)
	}
	reply, fds, err := readReply(sys, conn)
	if err != nil {
		return nil, err
	}
	fault.Crash(fault.AttachAnswered)
	return newAttachment(sys, conn, reply, fds, back)
}

// readReply returns an accepting reply and its three descriptors.
func readReply(sys shm.System, conn shm.Conn) (*wire.AttachReply, []int, error) {
	const descriptors = 3
	buf := make([]byte, wire.AttachBytesMax)
	n, fds, err := conn.Receive(buf, descriptors)
	if err != nil {
		return nil, nil, fmt.Errorf("read reply: %w", err)
	}
	reply, err := decodeReply(conn, buf, n)
	switch {
	case err != nil:
	case reply.Code == wire.AttachRefusedRoom:
		err = fmt.Errorf("%w: %s", ErrNoRoom, reply.Text)
	case reply.Code != wire.AttachOK:
		err = &refusal{reply.Code, reply.Text}
	case len(fds) != descriptors:
		err = fmt.Errorf("read reply: %w: none came", shm.ErrDescriptors)
	default:
		return reply, fds, nil
	}
	closeFds(sys, fds)
	return nil, nil, err
}

// decodeReply reads what is missing of a message whose first n bytes are in buf.
func decodeReply(conn io.Reader, buf []byte, n int) (*wire.AttachReply, error) {
	if n < wire.AttachPrefixBytes {
		if _, err := io.ReadFull(conn, buf[n:wire.AttachPrefixBytes]); err != nil {
			return nil, fmt.Errorf("read reply: %w", err)
		}
		n = wire.AttachPrefixBytes
	}
	length, err := wire.AttachLength(buf)
	if err != nil {
		return nil, err
	}
	end := wire.AttachPrefixBytes + length
	if n < end {
		if _, err := io.ReadFull(conn, buf[n:end]); err != nil {
			return nil, fmt.Errorf("read reply: %w", err)
		}
	}
	return wire.DecodeAttachReply(buf[wire.AttachPrefixBytes:end])
}

// refusal is a node's refusal; it is ErrRefused.
type refusal struct {
	code wire.AttachCode
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("%v: %v: %s", ErrRefused, r.code, r.text) }

func (r *refusal) Unwrap() error { return ErrRefused }

// newAttachment maps and checks what came with a reply: a new segment, or that
// of back. It owns the descriptors.
func newAttachment(sys shm.System, conn shm.Conn, reply *wire.AttachReply, fds []int, back *attachment) (at *attachment, err error) {
	at = &attachment{sys: sys, conn: conn, reply: reply, memfd: -1, resumed: reply.Resumed}
	var mem []byte
	switch {
	case !reply.Resumed:
		if mem, err = sys.Map(fds[0]); err == nil {
			at.mem, at.memfd, fds = mem, fds[0], fds[1:]
		}
	case back == nil:
		err = fmt.Errorf("%w: resumed, and nothing was handed back", wire.ErrAttach)
	default:
		mem = back.mem
	}
	if at.mem == nil { // an error, or we have our own descriptor
		_ = sys.Close(fds[0])
		fds = fds[1:]
	}
	if err != nil {
		closeFds(sys, fds)
		return nil, err
	}
	if at.bell, err = sys.Doorbell(fds[0]); err != nil {
		closeFds(sys, fds)
		at.free()
		return nil, err
	}
	if at.nodeBell, err = sys.Doorbell(fds[1]); err != nil {
		closeFds(sys, fds[1:])
		_ = at.bell.Close()
		at.free()
		return nil, err
	}
	if err = shm.Guard(func() error { return at.open(mem) }); err != nil {
		at.end()
		at.free()
		return nil, err
	}
	return at, nil
}

// takeOver makes at, which is resumed, the owner of the segment of old.
func (at *attachment) takeOver(old *attachment) {
	at.mem, at.memfd = old.mem, old.memfd
	old.mem, old.memfd = nil, -1
}

func (at *attachment) open(mem []byte) (err error) {
	if at.seg, err = shm.Open(mem); err != nil {
		return err
	}
	if id := wire.SessionID(at.seg.Session()); id != at.reply.Session || id == (wire.SessionID{}) {
		return fmt.Errorf("%w: segment of session %v, attached as %v", shm.ErrCorrupt, id, at.reply.Session)
	}
	if n := at.seg.RingBytes(); n != int(at.reply.RingBytes) {
		return fmt.Errorf("%w: rings of %d bytes, announced %d", shm.ErrCorrupt, n, at.reply.RingBytes)
	}
	at.control = at.seg.Consumer(shm.ToProgram, shm.Control)
	at.replies = at.seg.Consumer(shm.ToProgram, shm.Reply)
	at.requests = at.seg.Consumer(shm.ToProgram, shm.Request)
	return nil
}

// watch returns when the socket has ended: the node is gone, or fail or end
// was called. The node sends nothing after its reply.
func (at *attachment) watch() {
	var b [1]byte
	_, err := at.conn.Read(b[:])
	if err == nil {
		err = errors.New("the node sent more than a reply on the attach socket")
	}
	at.fail(err)
}

// fail ends the attachment because of err; any goroutine.
func (at *attachment) fail(err error) {
	at.once.Do(func() { at.why = err })
	_ = at.conn.Close()
}

// end closes socket and doorbells; idempotent, any goroutine.
func (at *attachment) end() {
	at.fail(os.ErrClosed)
	_ = at.bell.Close()
	_ = at.nodeBell.Close()
}

// free gives the segment back, if there is one. Nobody uses it any more.
func (at *attachment) free() {
	if at.mem != nil {
		_ = at.sys.Unmap(at.mem)
		_ = at.sys.Close(at.memfd)
		at.mem, at.memfd = nil, -1
	}
}

func closeFds(sys shm.System, fds []int) {
	for _, fd := range fds {
		_ = sys.Close(fd)
	}
}
