package config

import (
	"slices"
	"time"
)

// load is Load with another way to read files.
func load(s Source, read reader) (*Config, []Warning, error) {
	l := loader{read: read}
	root := pos{file: &file{name: s.String()}} // where things are missing from
	if s.Text != "" {
		if len(s.Text) > configBytesMax {
			return nil, nil, refusef("%s: it is larger than %d bytes", s, configBytesMax)
		}
		l.add(root.file, parseYAML, s.Text)
	} else if err := l.open(s.Path, pos{}); err != nil {
		return nil, nil, refusal{err}
	}
	n := &l.notes
	global := keys{section: sectionGlobal, at: root}
	var servers, slaves []keys
	var steps int64
	for _, s := range l.sections {
		if steps > stepsMax {
			n.errorf(s.at, "[%s]: all NAMEs together stand for more than %d names and steps of regular expressions", s.name, stepsMax)
			n.partial = true
			break
		}
		switch s.name {
		case sectionGlobal:
			global.add(n, s)
		case sectionServer:
			servers = append(servers, newKeys(n, s))
			steps += servers[len(servers)-1].get("NAME").n
		case sectionSlave:
			slaves = append(slaves, newKeys(n, s))
			steps += slaves[len(slaves)-1].get("NAME").n
		default:
			n.warnf(s.at, "[%s] is not a section of this file and has no effect%s", s.name, nearest(s.name, sectionNames))
		}
	}
	ini := isINI(s)
	if len(servers) == 0 {
		n.missingf(root, "[SVRNODE] is missing: at least one is required")
	}
	if ini && len(slaves) == 0 {
		n.missingf(root, "[SLVNODE] is missing: at least one is required; it says which hosts may be slaves")
	}
	c := &Config{Source: s, Files: l.files}
	c.setGlobal(n, &global, ini)
	c.setServers(n, global, servers)
	c.setSlaves(n, global, slaves)
	c.settings = global.settings()
	warnings, err := n.result()
	if err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}

// isINI reports whether the first file is an INI file, of which CHMPX asks more.
func isINI(s Source) bool {
	return s.Text == "" && !slices.Contains([]string{".yaml", ".yml", ".json"}, extension(s.Path))
}

// setGlobal takes over [GLOBAL] and settles what depends on each other.
func (c *Config) setGlobal(n *notes, g *keys, ini bool) {
	if !g.at.given() {
		n.missingf(g.at, "[GLOBAL] is missing")
	} else {
		g.require(n, "FILEVERSION")
		g.require(n, "GROUP")
		if ini {
			g.require(n, "DELIVERMODE")
		}
	}
	c.DeliverMode = g.get("DELIVERMODE").text
	if c.DeliverMode == "RANDOM" {
		g.force(n, "REPLICA", "0", "DELIVERMODE = RANDOM keeps no replicas")
		g.force(n, "DOMERGE", "no", "DELIVERMODE = RANDOM merges no data")
		g.force(n, "AUTOMERGE", "yes", "DELIVERMODE = RANDOM needs no command to serve")
	} else if g.get("DOMERGE").n == 0 {
		g.force(n, "AUTOMERGE", "no", "AUTOMERGE needs DOMERGE = on")
	}
	if replica, limit := g.get("REPLICA"), g.get("MAXCHMPX"); replica.n > limit.n {
		g.force(n, "REPLICA", limit.text, "it is above MAXCHMPX")
	}
	c.Group = g.get("GROUP").text
	c.Revision = int(g.get("FILEVERSION").n)
	if date := g.get("DATE"); date.at.given() {
		c.Date = time.Unix(date.n, 0).UTC()
	}
	c.Mode = g.get("MODE").text
	c.IDType = g.get("CHMPXIDTYPE").text
	c.Placement = g.get("PLACEMENT").text
	c.DoMerge = g.get("DOMERGE").n != 0
	c.HotWait = g.get("HOTWAIT").n != 0
	c.AutoMerge = g.get("AUTOMERGE").n != 0
	c.Replica = int(g.get("REPLICA").n)
	c.MergeTimeout = time.Duration(g.get("MERGETIMEOUT").n) * time.Second
	c.Port = int(g.get("PORT").n)
	c.CtlPort = int(g.get("CTLPORT").n)
	c.CtlAllow, _ = parseNetworks(g.get("CTLALLOW").text) // checked when it was read
	c.CtlSlaves = g.get("CTLSLAVES").text
	c.SelfCtlPort = int(g.get("SELFCTLPORT").n)
	c.SelfCUK = g.get("SELFCUK").text
	c.RunDirKey = g.get("RUNDIR").text
	c.DataDirKey = g.get("DATADIR").text
	c.setSizes(n, g)
	c.VotersMax = int(g.get("RAFTMAXVOTERS").n)
	c.DownAfter = time.Duration(g.get("DOWNAFTER").n)
	c.DownOut = time.Duration(g.get("DOWNOUT").n)
	c.SuspendGrace = time.Duration(g.get("SUSPENDGRACE").n)
	c.setLease(n, g)
	c.setStandIn(n, g)
	c.UpBackoffMax = time.Duration(g.get("UPBACKOFFMAX").n)
}

// leaseMargin is how far OWNERLEASE is to be below DOWNAFTER: servers may have
// heard less of each other lately than of their leader.
const leaseMargin = time.Second

// setLease takes OWNERLEASE over.
func (c *Config) setLease(n *notes, g *keys) {
	lease := g.get("OWNERLEASE")
	c.OwnerLease = time.Duration(lease.n)
	if c.OwnerLease != 0 && (c.OwnerLease < time.Second || c.OwnerLease > c.DownAfter-leaseMargin) {
		n.errorf(lease.at, "OWNERLEASE = %s: use 0s (off), or 1s and more that end %s before DOWNAFTER = %s", lease.text, durationString(leaseMargin), durationString(c.DownAfter))
	}
}

// What StandInAfter is beside durations.
const (
	Never time.Duration = -1
	// Auto is at once where the ring keeps no data (its DOMERGE, not the file's), else Never: all
	// nodes of a ring must go by the same.
	Auto time.Duration = -2
)

// setStandIn takes STANDINAFTER over.
func (c *Config) setStandIn(n *notes, g *keys) {
	after := g.get("STANDINAFTER")
	switch {
	case c.OwnerLease == 0 || after.text == neverWord:
	case after.text == autoWord:
		g.force(n, "STANDINAFTER", neverWord, "")
	default:
		n.errorf(after.at, "STANDINAFTER = %s: with OWNERLEASE = %s nobody acts for another server; use %s, or OWNERLEASE = 0s", after.text, durationString(c.OwnerLease), neverWord)
	}
	c.StandInAfter = time.Duration(g.get("STANDINAFTER").n)
}

// setSizes takes over the sizes of shared memory.
func (c *Config) setSizes(n *notes, g *keys) {
	size, limit := g.get("RINGBYTES"), g.get("SHMBYTESMAX")
	c.RingBytes, c.ShmBytesMax = int(size.n), limit.n
	// One program has four rings of this size and small ones beside them.
	if least := 4*size.n + 256<<10; limit.n < least {
		at := limit.at
		if !at.given() {
			at = size.at
		}
		n.errorf(at, "SHMBYTESMAX = %s: with RINGBYTES = %s one program alone needs %s", limit.text, size.text, sizeString(least))
	}
}
