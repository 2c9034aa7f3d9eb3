package client

import (
	"fmt"
	"path/filepath"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ring"
)

// socketPaths returns where the node's attach socket may be, best first.
func socketPaths(o *Options) ([]string, error) {
	if o.Socket != "" {
		return []string{o.Socket}, nil
	}
	cfg, _, err := config.Load(config.Source{Path: o.Config, Text: o.JSON})
	if err != nil {
		return nil, fmt.Errorf("find node: %w", err)
	}
	self, err := cfg.SelfNode(o.CtlPort, o.CUK)
	if err != nil {
		return nil, fmt.Errorf("find node: %w", err)
	}
	idType, err := ring.ParseIDType(cfg.IDType)
	if err != nil {
		return nil, fmt.Errorf("find node: %w", err)
	}
	id := ring.NodeID(cfg.Group, idType, ring.Identity{Name: self.Name, CtlPort: uint16(self.CtlPort), CUK: self.CUK,
		CtlEndpoints: self.CtlEndpoints, CustomSeed: self.CustomSeed})
	var paths []string
	for _, dir := range cfg.RunDirs() {
		paths = append(paths, filepath.Join(dir, id.String()+".sock"))
	}
	return paths, nil
}
