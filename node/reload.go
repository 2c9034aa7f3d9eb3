package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/dataplane"
	"github.com/chmpx/chmpx/internal/fault"
)

// ConfigStatus says which configuration a node runs with.
type ConfigStatus struct {
	Source   string    `json:"source"`
	Files    []string  `json:"files"`
	Revision int       `json:"revision"`          // FILEVERSION
	Since    time.Time `json:"since"`             // when it took effect
	Refused  string    `json:"refused,omitempty"` // why what the files say now is not in effect; empty: it is
}

// Reloaded is what a reload has changed.
type Reloaded struct {
	Revision int      `json:"revision"`       // FILEVERSION
	Keys     []string `json:"keys,omitempty"` // of [GLOBAL] that have other values
	Added    []string `json:"added,omitempty"`
	Gone     []string `json:"gone,omitempty"` // servers that the files name no longer; members of the ring stay so

	nodes bool // something about other nodes is different
}

func (r Reloaded) changed() bool { return r.nodes || len(r.Keys) > 0 }

// String says it in one line.
func (r Reloaded) String() string {
	var parts []string
	for _, p := range []struct {
		what string
		all  []string
	}{{"changed", r.Keys}, {"new servers", r.Added}, {"no longer named, yet not removed from the ring", r.Gone}} {
		if len(p.all) > 0 {
			parts = append(parts, p.what+": "+strings.Join(p.all, ", "))
		}
	}
	switch {
	case len(parts) == 0 && r.nodes:
		return "other nodes are described otherwise"
	case len(parts) == 0:
		return "nothing has changed"
	}
	return strings.Join(parts, "; ")
}

// reloads is what a node remembers of reading its configuration again.
type reloads struct {
	one sync.Mutex // held by the one that is under way

	mu      sync.Mutex // guards what follows, and changes of Node.cfg; nothing blocks under it
	since   time.Time
	refused string
}

// Reload reads the configuration again and goes on with it, or says why not: then
// everything stays as it was. Programs, links and what operators told the ring are
// not touched. Any goroutine, after New.
func (n *Node) Reload() (Reloaded, error) {
	n.reloads.one.Lock()
	defer n.reloads.one.Unlock()
	next, warnings, err := config.Load(n.opts.Config)
	if err == nil {
		err = n.conf().CheckReload(next, n.self)
	}
	var r Reloaded
	if err == nil {
		r, err = n.takeOver(next)
	}
	if err != nil {
		err = config.WithWarnings(err, warnings)
		if text := strings.ReplaceAll(err.Error(), "\n", "; "); n.reloads.refuse(text) {
			n.log.Error("the configuration that the node finds now cannot take effect, it goes on with the one it has", "error", text)
		}
		return r, err
	}
	news := n.install(next, r.changed())
	n.hosts.set(n.newHosts())
	if news || r.changed() {
		n.log.Info("the configuration was read again", "revision", r.Revision, "result", r.String())
		for _, w := range warnings {
			n.log.Warn("configuration", "warning", w.String())
		}
	}
	return r, nil
}

// refuse remembers why a configuration cannot take effect, and reports whether
// the last one was refused for something else, or not at all.
func (r *reloads) refuse(why string) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.refused != why
	r.refused = why
	return news
}

// install makes a configuration the one that counts, and reports whether the
// last one was refused.
func (n *Node) install(next *config.Config, changed bool) (news bool) {
	r := &n.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.refused != ""
	r.refused = ""
	n.cfg.Store(next)
	if changed {
		r.since = fault.Now()
	}
	return news
}

// takeOver gives what may change of a configuration that was checked to the planes.
func (n *Node) takeOver(next *config.Config) (Reloaded, error) {
	before := n.conf()
	members, servers := n.listed(next)
	if err := n.control.SetServers(members); err != nil {
		if errors.Is(err, controlplane.ErrNoRingYet) {
			err = fmt.Errorf("%s: the list of [SVRNODE] cannot change now: %w; restart the node, or wait until it has a ring", next.Source, err)
		}
		return Reloaded{}, err
	}
	n.data.SetServers(servers)
	n.data.SetLimits(limitsOf(next))
	n.control.SetTimes(timesOf(next))
	return compared(before, next), nil
}

// limitsOf returns what a configuration says to the data plane that may change.
func limitsOf(c *config.Config) dataplane.Limits {
	l := dataplane.Limits{ShmBytesMax: c.ShmBytesMax, HistoryMax: number(c.Value("MAXHISTLOG")), DownAfter: c.DownAfter}
	l.StandInAfter, l.StandInNoMerge = standIn(c)
	return l
}

// timesOf returns what a configuration says to the control plane that may change.
// To that 0 means its default, to the configuration at once.
func timesOf(c *config.Config) controlplane.Times {
	return controlplane.Times{
		OwnerLease: c.OwnerLease, SuspendGrace: max(c.SuspendGrace, 1), DownOut: max(c.DownOut, 1), UpBackoffMax: max(c.UpBackoffMax, 1),
		AwaitStandIns: c.StandInAfter >= 0, // where Auto has servers stand in, no data is kept
	}
}

// compared says in what two configurations differ.
func compared(before, next *config.Config) Reloaded {
	r := Reloaded{Revision: next.Revision}
	was := before.Settings()
	for i, s := range next.Settings() { // the same keys in the same order
		if s.Value != was[i].Value {
			r.Keys = append(r.Keys, s.Key)
		}
	}
	names := func(c *config.Config) (all []string) {
		for _, s := range c.Servers {
			all = append(all, fmt.Sprintf("%s:%d", s.Name, s.CtlPort))
		}
		return all
	}
	without := func(all, some []string) (rest []string) {
		for _, name := range all {
			if !slices.Contains(some, name) {
				rest = append(rest, name)
			}
		}
		return rest
	}
	old, now := names(before), names(next)
	r.Added, r.Gone = without(now, old), without(old, now)
	r.nodes = !slices.Equal(before.Servers, next.Servers) || !slices.EqualFunc(before.Slaves, next.Slaves, config.Slave.Same)
	return r
}

// reloadNow is POST /v1/reload.
func (n *Node) reloadNow(context.Context, []byte) (any, error) {
	r, err := n.Reload()
	if err != nil {
		return nil, err
	}
	return struct {
		Reloaded
		Reply string `json:"reply"` // in words
	}{r, r.String()}, nil
}

// configStatus says which configuration is in effect.
func (n *Node) configStatus() ConfigStatus {
	n.reloads.mu.Lock()
	defer n.reloads.mu.Unlock()
	c := n.conf()
	return ConfigStatus{Source: c.Source.String(), Files: c.Files, Revision: c.Revision, Since: n.reloads.since, Refused: n.reloads.refused}
}
