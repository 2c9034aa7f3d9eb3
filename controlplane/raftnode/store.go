package raftnode

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/chmpx/chmpx/internal/fault"
)

// ErrLocked says that another process holds the data directory.
var ErrLocked = errors.New("raftnode: data directory in use")

// Names in the data directory.
const (
	lockFile = "lock"
	idFile   = "raft.id"
	ringFile = "ring.id"
	logFile  = "raft.db"
)

const (
	snapshotsKept  = 2
	logCacheCount  = 512
	boltOpenWait   = time.Second // nobody holds the lock file, so nobody holds the log
	idBytesMax     = 128
	dataDirMode    = 0o750
	dataFileMode   = 0o640
	lockBytesShown = 64
)

// Dir is a node's data directory, held by a lock.
type Dir struct {
	path string
	lock *os.File
}

// OpenDir creates the directory if it is missing and locks it. ErrLocked names
// the process that holds it.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, dataDirMode); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, dataFileMode)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			b := make([]byte, lockBytesShown)
			n, _ := f.ReadAt(b, 0) // the holder's name is a courtesy
			return nil, fmt.Errorf("%w: %s is held by %s (stop it first, or give this node a DATADIR of its own)", ErrLocked, name, strings.TrimSpace(string(b[:n])))
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "process %d\n", os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock file: %w", err)
	}
	return &Dir{path: path, lock: f}, nil
}

// Close gives the lock back. Idempotent.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close() // closing unlocks; the file stays, removing it would race
	d.lock = nil
	return err
}

// Path returns the directory's name.
func (d *Dir) Path() string { return d.path }

// RaftID returns the raft id this directory belongs to, "" when it has none.
func (d *Dir) RaftID() (raft.ServerID, error) {
	id, err := d.read(idFile)
	return raft.ServerID(id), err
}

// SetRaftID records the raft id, durably.
func (d *Dir) SetRaftID(id raft.ServerID) error { return d.write(idFile, string(id)) }

// Realm returns the name of the ring whose log lies here, "" when it is not
// known yet.
func (d *Dir) Realm() (string, error) { return d.read(ringFile) }

// SetRealm records the name of the ring, durably.
func (d *Dir) SetRealm(realm string) error { return d.write(ringFile, realm) }

// read returns the one word in a file, "" if there is no such file.
func (d *Dir) read(file string) (string, error) {
	name := filepath.Join(d.path, file)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read identity: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" || len(id) > idBytesMax {
		return "", fmt.Errorf("read identity: %s holds %d bytes, 1 to %d expected", name, len(id), idBytesMax)
	}
	return id, nil
}

// write replaces a file by one word, durably.
func (d *Dir) write(file, word string) error {
	name := filepath.Join(d.path, file)
	f, err := os.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, dataFileMode)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	_, err = fmt.Fprintln(f, word)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err == nil {
		err = syncDir(d.path)
	}
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// RandomSuffix returns 16 random hexadecimal digits: the part of a raft id
// behind the chmpxid of a server that joins later. Ids are never used twice.
func RandomSuffix() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// Stores is where raft keeps its log, its votes and its snapshots.
type Stores struct {
	log    raft.LogStore
	stable raft.StableStore
	snaps  raft.SnapshotStore
	bolt   *raftboltdb.BoltStore // nil in memory
	writes *writes
}

// OpenStores opens the log and the snapshots of a server.
func (d *Dir) OpenStores(log hclog.Logger, noSync bool) (*Stores, error) {
	name := filepath.Join(d.path, logFile)
	bolt, err := openBolt(raftboltdb.Options{
		Path:   name,
		NoSync: noSync,
		BoltOptions: &bbolt.Options{
			Timeout:        boltOpenWait,
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open raft log %s (if it is damaged, move the directory away and start again: the server joins its ring anew): %w: %w", name, ErrDamaged, err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(d.path, snapshotsKept, log)
	half := halfSnapshots(filepath.Join(d.path, snapshotDir))
	if err == nil {
		err = half.remove("")
	}
	if err != nil {
		bolt.Close()
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	w, snaps := newWrites(bolt, bolt), raft.SnapshotStore(files)
	if fault.Enabled {
		w, snaps = newWrites(faultyLog{bolt}, faultyStable{bolt}), faultySnapshots{files}
	}
	snaps = tidySnapshots{snaps, half}
	cache, err := raft.NewLogCache(logCacheCount, w)
	if err != nil {
		bolt.Close()
		return nil, fmt.Errorf("create log cache: %w", err)
	}
	return &Stores{log: gapless{cache}, stable: w, snaps: snaps, bolt: bolt, writes: w}, nil
}

// MemoryStores returns the stores of a slave: what it knows it gets again from
// the leader after a restart.
func MemoryStores() *Stores {
	s := raft.NewInmemStore()
	return &Stores{log: s, stable: s, snaps: raft.NewInmemSnapshotStore(), writes: newWrites(s, s)}
}

// Intercept puts something between raft and its log; before Start only, and on
// disk only. Tests make disks hang with it.
func (s *Stores) Intercept(f func(raft.LogStore) raft.LogStore) {
	s.writes.LogStore = f(s.writes.LogStore)
}

// HasState reports whether raft has run on these stores. The beginning of a
// bootstrap whose process ended before the first entry was written does not
// count, and is taken back: nobody would ever tell such a member of a ring.
func (s *Stores) HasState() (bool, error) {
	has, err := raft.HasExistingState(s.log, s.stable, s.snaps)
	if err == nil && has {
		var begun bool
		if begun, err = s.onlyBegun(); begun {
			has, err = false, s.stable.SetUint64([]byte(termKey), 0)
		}
	}
	if err != nil {
		return false, fmt.Errorf("look for raft state: %w", err)
	}
	return has, nil
}

// onlyBegun reports whether all there is is the term with which a bootstrap
// begins. Everything else that raft does has a later one.
func (s *Stores) onlyBegun() (bool, error) {
	last, err := s.log.LastIndex()
	if err != nil || last != 0 {
		return false, err
	}
	snaps, err := s.snaps.List()
	if err != nil || len(snaps) != 0 {
		return false, err
	}
	term, err := s.stable.GetUint64([]byte(termKey))
	return term == 1, err
}

// Close closes what is on disk. Idempotent.
func (s *Stores) Close() error {
	if s.bolt == nil {
		return nil
	}
	b := s.bolt
	s.bolt = nil
	return b.Close()
}

// StalledFor returns for how long a write to the log, or of a term or a vote,
// has been under way: a disk that hangs or is full does not cost a leader its
// leadership, so somebody must look.
func (s *Stores) StalledFor() time.Duration {
	began := s.writes.began.Load()
	if began == nil {
		return 0
	}
	return time.Since(*began)
}

// Writing returns since when a write has been under way, zero: none is; and when the
// last one ended that took slowWrite or longer, zero: none did.
func (s *Stores) Writing() (since, slowUntil time.Time) {
	if began := s.writes.began.Load(); began != nil {
		since = *began
	}
	if ended := s.writes.slow.Load(); ended != nil {
		slowUntil = *ended
	}
	return since, slowUntil
}

// Full reports whether a write waits because the disk is full.
func (s *Stores) Full() bool { return s.writes.full.Load() }

// Failed gives the error of a write that failed for another reason than a full
// disk, once (ErrDisk): this member cannot go on.
func (s *Stores) Failed() <-chan error { return s.writes.failed }
