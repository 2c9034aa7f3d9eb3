package dataplane

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

const (
	attachTimeout = 5 * time.Second // from connect to the request
	attachingMax  = 64              // connections that have not attached yet
)

// ErrInUse says that another process serves this node's attach socket.
var ErrInUse = errors.New("dataplane: another chmpx process runs this node")

// attachServer listens on the node's unix socket. The lock file is held for
// the life of the process, so that a ring never has two consumers.
type attachServer struct {
	path string
	lock *os.File
	ln   shm.Listener
	once sync.Once
}

// listenAttachIn claims the first directory of the list that can be used.
func listenAttachIn(sys shm.System, dirs []string, self ring.ID) (*attachServer, error) {
	var errs []error
	for _, dir := range dirs {
		s, err := listenAttach(sys, dir, self)
		if err == nil || errors.Is(err, ErrInUse) {
			return s, err
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no usable run directory (key RUNDIR): %w", errors.Join(errs...))
}

// ErrForeignDir says that somebody else could put a socket of their own into
// the run directory.
var ErrForeignDir = errors.New("dataplane: the run directory is not safe")

// ownDirectory checks that a directory belongs to this user or root and that
// strangers may not write to it: in a temporary directory anybody could have
// made it first.
func ownDirectory(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("look at run directory: %w", err)
	}
	if st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%w: %s belongs to user %d", ErrForeignDir, dir, st.Uid)
	}
	if st.Mode&0o002 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, others must not write there", ErrForeignDir, dir, st.Mode&0o7777)
	}
	return nil
}

// listenAttach claims the run directory for this node. A socket that a dead
// process left is replaced: the lock says that nobody serves it.
func listenAttach(sys shm.System, dir string, self ring.ID) (*attachServer, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("create run directory: %w", err)
	}
	if err := ownDirectory(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, self.String()+".sock")
	lock, err := os.OpenFile(filepath.Join(dir, self.String()+".lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open lock of attach socket: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%w: %s is locked", ErrInUse, lock.Name())
	}
	ln, err := sys.Listen(path)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &attachServer{path: path, lock: lock, ln: ln}, nil
}

// Close stops listening and gives the node up to another process. Idempotent.
func (s *attachServer) Close() error {
	var err error
	s.once.Do(func() { err = errors.Join(s.ln.Close(), s.lock.Close()) })
	return err
}

// run accepts programs until the listener closes.
func (s *attachServer) run(ctx context.Context, p *Plane) {
	slots := make(chan struct{}, attachingMax)
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				p.log.Error("cannot accept programs", "error", err)
				select { // for example out of descriptors: wait for some to come free
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close() // the library comes back
			continue
		}
		p.work.Go(func() {
			a, err := p.accept(conn)
			<-slots
			if err != nil {
				p.logRefusal("refused a program", "this host", err)
				_ = conn.Close()
				return
			}
			a.run()
		})
	}
}

// accept reads the request of a program, makes its segment and answers. On an
// error the caller closes conn.
func (p *Plane) accept(conn shm.Conn) (*attachment, error) {
	if err := conn.SetDeadline(time.Now().Add(attachTimeout)); err != nil {
		return nil, fmt.Errorf("set deadline of attach: %w", err)
	}
	rep := wire.AttachReply{Node: p.self, NodeRole: wire.NodeServer, RingBytes: uint32(p.cfg.RingBytes)}
	if p.cfg.Slave {
		rep.NodeRole = wire.NodeSlave
	}
	who, err := peerProcess(conn)
	if err != nil {
		return nil, err
	}
	req, memfd, code, err := p.readRequest(conn)
	var a *attachment
	var fds []int
	if err == nil {
		a, fds, code, err = p.prepare(conn, req, memfd)
	}
	defer func() { p.closeFds(fds) }()
	if err == nil {
		a.process = who
		code, err = p.attach(a)
	}
	if err != nil {
		who.close()
		if a != nil {
			p.mu.Lock()
			a.free()
			p.mu.Unlock()
		}
		rep.Code, rep.Text = code, err.Error()
		return nil, errors.Join(err, answer(conn, &rep, nil))
	}
	fault.Crash(fault.NodeAttached)
	rep.Session, rep.RingBytes, rep.Resumed = a.id, uint32(a.seg.RingBytes()), a.handed != nil
	a.handed = nil
	err = answer(conn, &rep, fds)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	p.mu.Lock()
	if err != nil {
		a.kill(fmt.Errorf("answer attach request: %w", err)) // run sees it and detaches
	}
	p.finishUnlock(&batch{})
	p.log.Info("program attached", "program", a.name, "session", a.id, "server", a.server, "resumed", rep.Resumed, "pid", who.pid, "uid", who.uid)
	return a, nil
}

// readRequest reads the one message of a program, and the memfd that comes with
// its first bytes if the program hands a segment back; -1 if not.
func (p *Plane) readRequest(conn shm.Conn) (req *wire.AttachRequest, memfd int, code wire.AttachCode, err error) {
	buf := make([]byte, wire.AttachPrefixBytes)
	n, fds, err := conn.Receive(buf, 1)
	defer func() {
		if err != nil {
			p.closeFds(fds)
		}
	}()
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		_, err = io.ReadFull(conn, buf[n:])
	}
	if err != nil {
		return nil, -1, wire.AttachRefusedMalformed, fmt.Errorf("read attach request: %w", err)
	}
	if n, err = wire.AttachLength(buf); err != nil {
		return nil, -1, wire.AttachRefusedMalformed, err
	}
	body := make([]byte, n)
	if _, err = io.ReadFull(conn, body); err != nil {
		return nil, -1, wire.AttachRefusedMalformed, fmt.Errorf("read attach request: %w", err)
	}
	req, err = wire.DecodeAttachRequest(body)
	switch handsBack := err == nil && req.Flags&wire.AttachHandBack != 0; {
	case errors.Is(err, wire.ErrVersion):
		return nil, -1, wire.AttachRefusedVersion, err
	case err != nil:
		return nil, -1, wire.AttachRefusedMalformed, err
	case handsBack && len(fds) == 1 && req.Session != (wire.SessionID{}):
		return req, fds[0], wire.AttachOK, nil
	case handsBack || len(fds) != 0:
		err = fmt.Errorf("%w: %d came with flags %#x of session %v", shm.ErrDescriptors, len(fds), uint32(req.Flags), req.Session)
		return nil, -1, wire.AttachRefusedMalformed, err
	}
	return req, -1, wire.AttachOK, nil
}

// answer sends the reply of an attach, with its descriptors if it succeeded.
func answer(conn shm.Conn, rep *wire.AttachReply, fds []int) error {
	if len(rep.Text) > wire.AttachTextBytesMax {
		rep.Text = rep.Text[:wire.AttachTextBytesMax]
	}
	b, err := rep.Encode()
	if err != nil {
		return fmt.Errorf("encode attach reply: %w", err)
	}
	if err := conn.Send(b, fds...); err != nil {
		return fmt.Errorf("send attach reply: %w", err)
	}
	return nil
}

// prepare makes, or takes back, the segment of a new attachment, and makes its
// doorbells. fds are the program's copies; the caller closes them after sending,
// or frees the attachment, unless it is nil, and closes them on an error.
func (p *Plane) prepare(conn shm.Conn, req *wire.AttachRequest, memfd int) (a *attachment, fds []int, code wire.AttachCode, err error) {
	size, code := shm.SegmentBytes(p.cfg.RingBytes), wire.AttachRefusedRoom
	if memfd >= 0 {
		fds = append(fds, memfd)
		if size, err = p.cfg.System.Check(memfd); err != nil {
			return nil, fds, wire.AttachRefusedSegment, fmt.Errorf("take segment back: %w", err)
		}
	}
	if err := p.reserve(size, req.Session); err != nil {
		return nil, fds, wire.AttachRefusedRoom, err
	}
	a = &attachment{p: p, id: req.Session, server: req.Role == wire.RoleServer, onDone: req.Flags&wire.AttachAckOnDone != 0, name: req.Name, conn: conn, reserved: int64(size)}
	if a.id == (wire.SessionID{}) {
		_, _ = rand.Read(a.id[:]) // never fails
	}
	if memfd >= 0 {
		err, code = a.reopen(memfd), wire.AttachRefusedSegment
	} else {
		memfd, err = a.create(size)
		fds = append(fds, memfd)
	}
	if err == nil {
		a.memory, err = p.cfg.System.Identify(memfd)
	}
	if err != nil {
		return a, fds, code, err
	}
	for _, bell := range []*shm.Doorbell{&a.theirs, &a.own} {
		fd, err := p.cfg.System.NewBell()
		if err != nil {
			return a, fds, wire.AttachRefusedRoom, fmt.Errorf("create doorbell: %w", err)
		}
		fds = append(fds, fd)
		mine, err := p.cfg.System.Duplicate(fd)
		if err != nil {
			return a, fds, wire.AttachRefusedRoom, fmt.Errorf("share doorbell: %w", err)
		}
		if *bell, err = p.cfg.System.Doorbell(mine); err != nil {
			_ = p.cfg.System.Close(mine)
			return a, fds, wire.AttachRefusedRoom, fmt.Errorf("create doorbell: %w", err)
		}
	}
	return a, fds, wire.AttachOK, nil
}

// reserve counts the memory of a new segment. What an ended attachment of the
// same session holds comes free when its place is taken.
func (p *Plane) reserve(size int, session wire.SessionID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.shmBytes
	if old := p.attached[session]; old != nil && old.ended {
		used -= old.reserved
	}
	if used+int64(size) > p.cfg.ShmBytesMax {
		return fmt.Errorf("segments use %d bytes, one of %d more exceeds SHMBYTESMAX %d", used, size, p.cfg.ShmBytesMax)
	}
	p.shmBytes += int64(size)
	return nil
}

// create makes a fresh segment; memfd is the program's, -1 if there is none.
func (a *attachment) create(size int) (memfd int, err error) {
	if memfd, a.mem, err = a.p.cfg.System.Create(size); err != nil {
		return -1, fmt.Errorf("create segment: %w", err)
	}
	if a.seg, err = shm.Format(a.mem, a.id, a.p.cfg.RingBytes); err != nil {
		return memfd, fmt.Errorf("format segment: %w", err)
	}
	return memfd, nil
}

// reopen maps and checks a segment that the program hands back.
func (a *attachment) reopen(memfd int) (err error) {
	if a.mem, err = a.p.cfg.System.Remap(memfd); err == nil {
		err = shm.Guard(func() (err error) { a.seg, err = shm.Open(a.mem); return err })
	}
	if err == nil {
		a.handed, err = checkHandedBack(a.seg, a.id)
	}
	if err != nil {
		return fmt.Errorf("take segment back: %w", err)
	}
	fault.Crash(fault.NodeHandBackChecked)
	return nil
}

func (p *Plane) closeFds(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = p.cfg.System.Close(fd)
		}
	}
}
