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
	ln   *net.UnixListener
	once sync.Once
}

// listenAttachIn claims the first directory of the list that can be used.
func listenAttachIn(dirs []string, self ring.ID) (*attachServer, error) {
	var errs []error
	for _, dir := range dirs {
		s, err := listenAttach(dir, self)
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
func listenAttach(dir string, self ring.ID) (*attachServer, error) {
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
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = lock.Close()
		return nil, fmt.Errorf("remove old attach socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("listen for programs: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = ln.Close()
		_ = lock.Close()
		return nil, fmt.Errorf("set mode of attach socket: %w", err)
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
		conn, err := s.ln.AcceptUnix()
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
				p.logRefusal("refused a program", "error", err)
				_ = conn.Close()
				return
			}
			a.run()
		})
	}
}

// accept reads the request of a program, makes its segment and answers. On an
// error the caller closes conn.
func (p *Plane) accept(conn *net.UnixConn) (*attachment, error) {
	if err := conn.SetDeadline(time.Now().Add(attachTimeout)); err != nil {
		return nil, fmt.Errorf("set deadline of attach: %w", err)
	}
	rep := wire.AttachReply{Node: p.self, NodeRole: wire.NodeServer, RingBytes: uint32(p.cfg.RingBytes)}
	if p.cfg.Slave {
		rep.NodeRole = wire.NodeSlave
	}
	req, code, err := readRequest(conn)
	var a *attachment
	var fds []int
	if err == nil {
		a, fds, code, err = p.prepare(conn, req)
	}
	if err == nil {
		code, err = p.attach(a)
	}
	defer closeFds(fds)
	if err != nil {
		if a != nil {
			p.mu.Lock()
			a.free()
			p.mu.Unlock()
		}
		rep.Code, rep.Text = code, err.Error()
		return nil, errors.Join(err, answer(conn, &rep, nil))
	}
	rep.Session = a.id
	err = answer(conn, &rep, fds)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		a.kill(fmt.Errorf("answer attach request: %w", err)) // run sees it and detaches
	}
	p.log.Info("program attached", "program", a.name, "session", a.id, "server", a.server, "pid", req.PID)
	p.mu.Lock()
	p.finishUnlock(&batch{})
	return a, nil
}

// readRequest reads the one message of a program.
func readRequest(conn *net.UnixConn) (*wire.AttachRequest, wire.AttachCode, error) {
	var prefix [wire.AttachPrefixBytes]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		return nil, wire.AttachRefusedMalformed, fmt.Errorf("read attach request: %w", err)
	}
	n, err := wire.AttachLength(prefix[:])
	if err != nil {
		return nil, wire.AttachRefusedMalformed, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, wire.AttachRefusedMalformed, fmt.Errorf("read attach request: %w", err)
	}
	req, err := wire.DecodeAttachRequest(body)
	switch {
	case errors.Is(err, wire.ErrVersion):
		return nil, wire.AttachRefusedVersion, err
	case err != nil:
		return nil, wire.AttachRefusedMalformed, err
	}
	return req, wire.AttachOK, nil
}

// answer sends the reply of an attach, with its descriptors if it succeeded.
func answer(conn *net.UnixConn, rep *wire.AttachReply, fds []int) error {
	if len(rep.Text) > wire.AttachTextBytesMax {
		rep.Text = rep.Text[:wire.AttachTextBytesMax]
	}
	b, err := rep.Encode()
	if err != nil {
		return fmt.Errorf("encode attach reply: %w", err)
	}
	if err := shm.SendFds(conn, b, fds...); err != nil {
		return fmt.Errorf("send attach reply: %w", err)
	}
	return nil
}

// prepare makes the segment and the doorbells of a new attachment. fds are the
// program's copies; the caller closes them after sending.
func (p *Plane) prepare(conn *net.UnixConn, req *wire.AttachRequest) (_ *attachment, fds []int, _ wire.AttachCode, err error) {
	size := shm.SegmentBytes(p.cfg.RingBytes)
	p.mu.Lock()
	used := p.shmBytes
	if p.shmBytes+int64(size) <= p.cfg.ShmBytesMax {
		p.shmBytes += int64(size)
	}
	p.mu.Unlock()
	if used+int64(size) > p.cfg.ShmBytesMax {
		return nil, nil, wire.AttachRefusedRoom, fmt.Errorf("segments use %d bytes, SHMBYTESMAX is %d", used, p.cfg.ShmBytesMax)
	}
	a := &attachment{p: p, id: req.Session, server: req.Role == wire.RoleServer, name: req.Name, conn: conn}
	if a.id == (wire.SessionID{}) {
		_, _ = rand.Read(a.id[:]) // never fails
	}
	fail := func(what string, err error) (*attachment, []int, wire.AttachCode, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if a.mem != nil {
			a.free()
			return nil, fds, wire.AttachRefusedRoom, fmt.Errorf("%s: %w", what, err)
		}
		p.shmBytes -= int64(size)
		return nil, fds, wire.AttachRefusedRoom, fmt.Errorf("%s: %w", what, err)
	}
	memfd, mem, err := shm.CreateMemfd(size)
	if err != nil {
		return fail("create segment", err)
	}
	fds = append(fds, memfd)
	a.mem = mem
	if a.seg, err = shm.Format(mem, a.id, p.cfg.RingBytes); err != nil {
		return fail("format segment", err)
	}
	for _, bell := range []*shm.Doorbell{&a.theirs, &a.own} {
		fd, err := shm.NewEventfd()
		if err != nil {
			return fail("create doorbell", err)
		}
		fds = append(fds, fd)
		mine, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fail("share doorbell", err)
		}
		if *bell, err = shm.NewEventfdDoorbell(mine); err != nil {
			return fail("create doorbell", err)
		}
	}
	return a, fds, wire.AttachOK, nil
}

func closeFds(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
