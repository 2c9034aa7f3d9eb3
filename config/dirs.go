package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RunDirs returns the directories in which the socket of a node may be, best
// first: RUNDIR alone if the file has it, else /run/chmpx,
// $XDG_RUNTIME_DIR/chmpx and chmpx-<uid> in the temporary directory. A node
// takes the first it can create or write to; programs try them all.
func (c *Config) RunDirs() []string {
	if c.RunDirKey != "" {
		return []string{c.RunDirKey}
	}
	dirs := []string{"/run/chmpx"}
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		dirs = append(dirs, filepath.Join(xdg, "chmpx"))
	}
	return append(dirs, filepath.Join(os.TempDir(), "chmpx-"+strconv.Itoa(os.Geteuid())))
}

// DataDir returns the directory that a node keeps its data in:
// <group>-<ctlport> below DATADIR or $STATE_DIRECTORY if one of them is set,
// else below the first of /var/lib/chmpx, $XDG_STATE_HOME/chmpx and
// ~/.local/state/chmpx that this process may write to. It creates nothing; the
// directory and some above it may not exist yet.
func (c *Config) DataDir(self Self) (string, error) {
	name := c.Group + "-" + strconv.Itoa(self.CtlPort)
	state, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":") // systemd may give several
	for _, given := range []struct{ from, base string }{{"DATADIR", c.DataDirKey}, {"STATE_DIRECTORY", state}} {
		if given.base == "" {
			continue
		}
		dir := filepath.Join(given.base, name)
		if err := writable(dir); err != nil {
			return "", refusef("data directory from %s: %w", given.from, err)
		}
		return dir, nil
	}
	bases := []string{"/var/lib/chmpx"}
	if xdg := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(xdg) {
		bases = append(bases, filepath.Join(xdg, "chmpx"))
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		bases = append(bases, filepath.Join(home, ".local", "state", "chmpx"))
	}
	var errs []error
	for _, base := range bases {
		dir := filepath.Join(base, name)
		err := writable(dir)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", refusef("no place for data, set DATADIR: %w", errors.Join(errs...))
}

// writable says why this process cannot write in dir, or create it.
func writable(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if errors.Is(err, os.ErrNotExist) && at != filepath.Dir(at) {
			continue // it can be made if the one above it lets us
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return &os.PathError{Op: "write in", Path: at, Err: syscall.ENOTDIR}
		}
		const cwd, write, search, effective = -100, 2, 1, 0x200 // AT_FDCWD, W_OK, X_OK, AT_EACCESS
		if err := syscall.Faccessat(cwd, at, write|search, effective); err != nil {
			return &os.PathError{Op: "write in", Path: at, Err: err}
		}
		return nil
	}
}

// Digest returns a text that is equal for two files exactly when their nodes
// agree on the ring: its name, its servers with what makes their ids, and its
// parameters. It does not depend on SELF* keys, directories, sizes of local
// memory, or the order of sections.
func (c *Config) Digest() string {
	type server struct {
		Name, CUK, CtlEndpoints, CustomSeed string
		Port, CtlPort                       int
	}
	ring := struct {
		Version                               int // of this list
		Group, DeliverMode, IDType, Placement string
		Replica, VotersMax                    int
		DoMerge, AutoMerge                    bool
		MergeTimeout                          time.Duration
		Servers                               []server
	}{1, c.Group, c.DeliverMode, c.IDType, c.Placement, c.Replica, c.VotersMax, c.DoMerge, c.AutoMerge, c.MergeTimeout, nil}
	for _, s := range c.Servers {
		ring.Servers = append(ring.Servers, server{s.Name, s.CUK, s.CtlEndpoints, s.CustomSeed, s.Port, s.CtlPort})
	}
	text, err := json.Marshal(ring)
	if err != nil {
		panic("BUG: config: " + err.Error()) // texts and numbers only
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
