package config

import (
	"errors"
	"slices"
	"strconv"
)

// CheckReload returns nil if a node that runs as self with c may go on with
// next. Else the error wraps ErrConfig and has a line for each key that cannot
// change while the node runs, with both values. What has no effect may change;
// so may everything about other nodes.
func (c *Config) CheckReload(next *Config, self Self) error {
	var errs []error
	refuse := func(key, is, wanted, possible string) {
		if is != wanted {
			errs = append(errs, refusef("%s: %s = %s cannot change while the node runs; it has %s%s", next.Source, key, shown(wanted), shown(is), possible))
		}
	}
	frozen := func(key, is, wanted string) { refuse(key, is, wanted, "") }
	for _, s := range specs {
		switch {
		case !s.in(sectionGlobal), s.live == liveAll, s.effect == noEffect, s.name == keyInclude:
		case s.allows == nil:
			frozen(s.name, c.Value(s.name), next.Value(s.name))
		case !s.allows(c, next):
			refuse(s.name, c.Value(s.name), next.Value(s.name), ", and may take "+s.live)
		}
	}
	if now, err := next.entryOf(self); err != nil {
		errs = append(errs, err)
	} else {
		frozen("PORT", portText(self.Port), portText(now.Port))
		frozen("CUK", self.CUK, now.CUK)
		frozen("CTLENDPOINTS", self.CtlEndpoints, now.CtlEndpoints)
		frozen("CUSTOM_ID_SEED", self.CustomSeed, now.CustomSeed)
	}
	return errors.Join(errs...)
}

// entryOf returns what the configuration has at the place of a node: a server's
// is its name with its control port, a slave may be any that matches it.
func (c *Config) entryOf(self Self) (Self, error) {
	for _, s := range c.Servers {
		if s.Name != self.Name || s.CtlPort != self.CtlPort {
			continue
		}
		if !self.Server {
			return Self{}, refusef("%s: [SVRNODE] %s:%d is this node, which runs as a slave", c.Source, s.Name, s.CtlPort)
		}
		return Self{true, s.Name, s.Port, s.CtlPort, s.CUK, s.CtlEndpoints, s.CustomSeed}, nil
	}
	if self.Server {
		return Self{}, refusef("%s: [SVRNODE] %s:%d is missing; it is this node, which runs", c.Source, self.Name, self.CtlPort)
	}
	fits := func(s Slave) bool { return s.CtlPort == self.CtlPort && s.Matches(self.Name) }
	same := func(s Slave) bool {
		return fits(s) && (s.CUK == "" || s.CUK == self.CUK) && s.CtlEndpoints == self.CtlEndpoints && s.CustomSeed == self.CustomSeed
	}
	switch i := slices.IndexFunc(c.Slaves, fits); {
	case slices.ContainsFunc(c.Slaves, same):
		return self, nil
	case i >= 0:
		s := c.Slaves[i]
		return Self{false, self.Name, 0, s.CtlPort, s.CUK, s.CtlEndpoints, s.CustomSeed}, nil
	}
	return Self{}, refusef("%s: no [SLVNODE] with CTLPORT %d matches %s; this node, which runs, needs one", c.Source, self.CtlPort, self.Name)
}

// shown is a value for a message.
func shown(value string) string {
	if value == "" {
		return "nothing"
	}
	return clip(value)
}

// portText is a port for a message; 0 is none.
func portText(port int) string {
	if port == 0 {
		return ""
	}
	return strconv.Itoa(port)
}
