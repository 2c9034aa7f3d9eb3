package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fileBytesMax is far above any real file and bounds what a wrong -conf costs.
const fileBytesMax = 1 << 20

// Load reads a configuration. The warnings are for the log and come with or
// without an error; the error joins everything that is wrong with the source,
// one line each with file, line, key, value and what is allowed, and wraps
// ErrConfig. The extension of a file must be .ini or missing.
func Load(s Source) (*Config, []Warning, error) {
	switch {
	case (s.Path == "") == (s.Text == ""):
		return nil, nil, fmt.Errorf("%w: a source is a file or a text, one of them", ErrConfig)
	case s.Text != "":
		return nil, nil, fmt.Errorf("%w: %s: not available in this version; use an .ini file", ErrConfig, s)
	}
	path := s.Path
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".ini", "":
	case ".yaml", ".yml", ".json":
		return nil, nil, fmt.Errorf("%w: %s: %s files are not available in this version; use .ini", ErrConfig, path, ext)
	default:
		return nil, nil, fmt.Errorf("%w: %s: the extension %s is unknown; use .ini", ErrConfig, path, ext)
	}
	text, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: read the file: %w", ErrConfig, err)
	}
	return load(path, text)
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err == nil && len(text) > fileBytesMax {
		err = fmt.Errorf("%s is larger than %d bytes", path, fileBytesMax)
	}
	return string(text), err
}

// load is Load without the disk.
func load(path, text string) (*Config, []Warning, error) {
	p := parse(path, text, func(section string) bool { return slices.Contains(sectionNames, section) })
	n := &p.notes
	global := keys{section: sectionGlobal}
	var servers, slaves []keys
	for _, s := range p.sections {
		switch s.name {
		case sectionGlobal:
			global.add(n, s)
		case sectionServer:
			servers = append(servers, newKeys(n, s))
		case sectionSlave:
			slaves = append(slaves, newKeys(n, s))
		default:
			n.warnf(s.line, "[%s] is not a section of this file and has no effect%s", s.name, nearest(s.name, sectionNames))
		}
	}
	if global.line == 0 {
		n.errorf(0, "[GLOBAL] is missing")
	}
	if len(servers) == 0 {
		n.errorf(0, "[SVRNODE] is missing: at least one is required")
	}
	if len(slaves) == 0 {
		n.errorf(0, "[SLVNODE] is missing: at least one is required; it says which hosts may be slaves")
	}
	c := &Config{Path: path}
	c.setGlobal(n, global)
	c.setServers(n, global, servers)
	c.setSlaves(n, global, slaves)
	warnings, err := n.result()
	if err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}

// setGlobal takes over [GLOBAL] and settles what depends on each other.
func (c *Config) setGlobal(n *notes, g keys) {
	for _, key := range []string{"FILEVERSION", "GROUP", "DELIVERMODE"} {
		g.require(n, key)
	}
	c.Group = g.get("GROUP").text
	c.Revision = int(g.get("FILEVERSION").n)
	if date := g.get("DATE"); date.line > 0 {
		c.Date = time.Unix(date.n, 0).UTC()
	}
	c.Mode = g.get("MODE").text
	c.DeliverMode = g.get("DELIVERMODE").text
	if c.IDType = g.get("CHMPXIDTYPE").text; c.IDType == "CTLEPS" {
		c.IDType = "CTLENDPOINTS"
	}
	c.Placement = g.get("PLACEMENT").text
	c.DoMerge = g.get("DOMERGE").n != 0
	c.AutoMerge = g.get("AUTOMERGE").n != 0
	if auto := g.get("AUTOMERGE"); c.AutoMerge && !c.DoMerge {
		n.warnf(auto.line, "AUTOMERGE needs DOMERGE = on: it is taken for off")
		c.AutoMerge = false
	}
	c.Replica = int(g.get("REPLICA").n)
	if replica, limit := g.get("REPLICA"), int(g.get("MAXCHMPX").n); c.Replica > limit {
		n.warnf(replica.line, "REPLICA = %d is above MAXCHMPX and becomes %d", c.Replica, limit)
		c.Replica = limit
	}
	c.MergeTimeout = max(0, time.Duration(g.get("MERGETIMEOUT").n)*time.Second)
	c.Port = int(g.get("PORT").n)
	c.CtlPort = int(g.get("CTLPORT").n)
	c.SelfCtlPort = int(g.get("SELFCTLPORT").n)
	c.SelfCUK = g.get("SELFCUK").text
	c.RunDirKey = g.get("RUNDIR").text
	c.DataDirKey = g.get("DATADIR").text
	c.RingBytes = int(g.get("RINGBYTES").n)
	c.ShmBytesMax = g.get("SHMBYTESMAX").n
	// One program has four rings of this size and small ones beside them.
	if least := 4*int64(c.RingBytes) + 256<<10; c.ShmBytesMax < least {
		n.errorf(g.get("SHMBYTESMAX").line, "SHMBYTESMAX = %s: with RINGBYTES = %s one program alone needs %s",
			sizeString(c.ShmBytesMax), sizeString(int64(c.RingBytes)), sizeString(least))
	}
	c.VotersMax = int(g.get("RAFTMAXVOTERS").n)
	c.DownAfter = time.Duration(g.get("DOWNAFTER").n)
	c.SuspendGrace = time.Duration(g.get("SUSPENDGRACE").n)
}
