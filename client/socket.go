package client

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ring"
)

// socketPaths returns where the node's attach socket may be, best first. It
// takes over what else the configuration says of programs.
func socketPaths(o *Options) ([]string, error) {
	if o.Socket != "" {
		return []string{o.Socket}, nil
	}
	cfg, warnings, err := config.Load(config.Source{Path: o.Config, Text: o.JSON})
	if err != nil {
		return nil, config.WithWarnings(err, warnings)
	}
	self, err := cfg.SelfNode(o.CtlPort, o.CUK)
	if err != nil {
		return nil, fmt.Errorf("find node: %w", config.WithWarnings(err, warnings))
	}
	idType, err := ring.ParseIDType(cfg.IDType)
	if err != nil {
		return nil, fmt.Errorf("find node: %w", err)
	}
	id := ring.NodeID(cfg.Group, idType, ring.Identity{Name: self.Name, CtlPort: uint16(self.CtlPort), CUK: self.CUK,
		CtlEndpoints: self.CtlEndpoints, CustomSeed: self.CustomSeed})
	o.ColdWait = o.ColdWait || !cfg.HotWait
	var paths []string
	for _, dir := range cfg.RunDirs() {
		paths = append(paths, filepath.Join(dir, id.String()+".sock"))
	}
	return paths, nil
}

// safeDirectory checks that nobody but root, this user or who owns the machine's
// directories can have put the socket where it is: whoever is taken for the
// node reads every message. A directory of another user counts if only its
// owner could have made it, as systemd does it; in a temporary directory anybody
// could.
func safeDirectory(dir string) error {
	var st, up unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("look at run directory: %w", err)
	}
	if st.Mode&0o002 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, others must not write there", ErrForeignDir, dir, st.Mode&0o7777)
	}
	if st.Uid == 0 || st.Uid == uint32(os.Geteuid()) {
		return nil
	}
	if err := unix.Stat(filepath.Dir(dir), &up); err != nil {
		return fmt.Errorf("look at run directory: %w", err)
	}
	if up.Mode&0o002 != 0 {
		return fmt.Errorf("%w: %s belongs to user %d and lies where anybody can write", ErrForeignDir, dir, st.Uid)
	}
	return nil
}
