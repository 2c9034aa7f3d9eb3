package config

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
)

// place is what makes two entries the same server.
type place struct {
	name    string
	ctlPort int64
}

// setServers expands the names, puts sections of the same server together and
// checks that no two servers stand in each other's way.
func (c *Config) setServers(n *notes, global keys, sections []keys) {
	found := map[place]keys{}
	for _, k := range sections {
		named := k.require(n, "NAME")
		ctlPort := k.getOr(global, "CTLPORT").n
		requirePort(n, global, k, "CTLPORT")
		if !named {
			continue
		}
		names, _ := expand(k.get("NAME").text) // checked when it was read
		if len(found)+len(names) > namesMax {
			n.errorf(k.at, "[%s]: more than %d servers", sectionServer, namesMax)
			return
		}
		said := false // once for a section of many names
		for _, name := range names {
			at := place{name, ctlPort}
			earlier, again := found[at]
			if !again {
				found[at] = k
				continue
			}
			if found[at] = earlier.overlay(k); !said && !earlier.at.file.includedBy(k.at.file) {
				n.warnf(k.at, "[%s] %s:%d is also in %s; the keys given here count", sectionServer, name, ctlPort, earlier.at.seenFrom(k.at))
				said = true
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(found), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.ctlPort, b.ctlPort))
	})
	if limit := global.limitOfServers(); len(order) > limit {
		n.errorf(global.place("MAXCHMPX"), "%d servers, but MAXCHMPX allows %d", len(order), limit)
	}
	type lines struct{ first, last pos } // of the sections that a server is made of
	checked := map[lines]bool{}          // looked at for another of their names
	clashing := map[lines]bool{}         // have an error about taken
	taken := map[string]string{}         // a port of a host, or an id -> whose it is
	for _, at := range order {
		k := found[at]
		made := lines{k.at, k.last}
		if !checked[made] {
			checked[made] = true
			requirePort(n, global, k, "PORT")
			c.checkID(n, k)
		}
		s := newServer(global, k, at)
		c.Servers = append(c.Servers, s)
		for _, claim := range s.claims(c.IDType) {
			if other, ok := taken[claim]; ok {
				if !clashing[made] {
					n.errorf(k.at, "[%s] %s:%d: %s is already %s", sectionServer, s.Name, s.CtlPort, claim, other)
				}
				clashing[made] = true
				continue
			}
			taken[claim] = fmt.Sprintf("that of %s:%d (%s)", s.Name, s.CtlPort, k.at)
		}
	}
}

func (k keys) limitOfServers() int {
	if !k.at.given() {
		return namesMax // noted as missing
	}
	return int(k.get("MAXCHMPX").n)
}

// place returns where a key is, or else the section.
func (k keys) place(key string) pos {
	if at, ok := k.tried[key]; ok {
		return at
	}
	return k.at
}

// requirePort notes a port that is neither in the node's section nor in [GLOBAL].
func requirePort(n *notes, global, k keys, key string) {
	_, here := k.tried[key]
	_, there := global.tried[key]
	if !here && !there {
		n.missingf(k.at, "[%s]: %s is missing: give it here or in [GLOBAL], 1 to 65535", k.section, key)
	}
}

// idKeys are the keys that a node's id is made of, by CHMPXIDTYPE.
var idKeys = map[string]string{"CUK": "CUK", "CTLENDPOINTS": "CTLENDPOINTS", "CUSTOM": "CUSTOM_ID_SEED"}

// checkID sees that a section has the key that CHMPXIDTYPE asks for. A slave
// may have its CUK from SELFCUK, and does without control endpoints.
func (c *Config) checkID(n *notes, k keys) {
	if seed := k.get("CUSTOM_ID_SEED"); seed.text != "" && c.IDType != "CUSTOM" {
		n.warnf(seed.at, "CUSTOM_ID_SEED has no effect without CHMPXIDTYPE = CUSTOM")
	}
	key, ok := idKeys[c.IDType]
	if !ok || k.section == sectionSlave && c.IDType != "CUSTOM" {
		return
	}
	wanted := []string{key}
	if c.IDType == "CTLENDPOINTS" {
		wanted = append(wanted, "ENDPOINTS")
	}
	for _, key := range wanted {
		if _, tried := k.tried[key]; k.get(key).text == "" && (!tried || k.values[key].at.given()) {
			n.missingf(k.at, "[%s]: %s is missing: CHMPXIDTYPE = %s needs it", k.section, key, c.IDType)
		}
	}
}

func newServer(global, k keys, at place) Server {
	s := Server{
		Name:       at.name,
		Port:       int(k.getOr(global, "PORT").n),
		CtlPort:    int(at.ctlPort),
		CUK:        k.get("CUK").text,
		CustomSeed: k.get("CUSTOM_ID_SEED").text,

		ForwardPeers: k.get("FORWARD_PEERS").text,
		ReversePeers: k.get("REVERSE_PEERS").text,
	}
	s.Endpoints = fillPorts(k.get("ENDPOINTS").text, s.Port)
	s.CtlEndpoints = fillPorts(k.get("CTLENDPOINTS").text, s.CtlPort)
	return s
}

// claims lists what a server must have for itself alone, in words for a message.
func (s Server) claims(idType string) []string {
	var all []string
	for _, port := range []int{s.Port, s.CtlPort} {
		if port != 0 { // 0: noted as missing or wrong
			all = append(all, "port "+strconv.Itoa(port)+" on "+s.Name)
		}
	}
	id := map[string]string{"CUK": s.CUK, "CTLENDPOINTS": s.CtlEndpoints, "CUSTOM": s.CustomSeed}[idType]
	if id != "" {
		all = append(all, fmt.Sprintf("%s %s", idKeys[idType], clip(id)))
	}
	return all
}

func (c *Config) setSlaves(n *notes, global keys, sections []keys) {
	for _, k := range sections {
		requirePort(n, global, k, "CTLPORT")
		c.checkID(n, k)
		if !k.require(n, "NAME") {
			continue
		}
		s := Slave{
			NamePattern: k.get("NAME").text,
			CtlPort:     int(k.getOr(global, "CTLPORT").n),
			CUK:         k.get("CUK").text,
			CustomSeed:  k.get("CUSTOM_ID_SEED").text,

			ForwardPeers: k.get("FORWARD_PEERS").text,
			ReversePeers: k.get("REVERSE_PEERS").text,
		}
		s.CtlEndpoints = fillPorts(k.get("CTLENDPOINTS").text, s.CtlPort)
		s.names, s.regexp, _ = compilePattern(s.NamePattern) // checked when it was read
		c.Slaves = append(c.Slaves, s)
	}
}

// Hosts returns what NAME says: the hosts that it lists or, when it is no list,
// the POSIX regular expression that it is.
func (s Slave) Hosts() (names []string, pattern *regexp.Regexp) {
	if s.names != nil {
		return s.names, nil
	}
	return nil, s.regexp
}

// Same reports whether two entries say the same.
func (s Slave) Same(other Slave) bool {
	return s.NamePattern == other.NamePattern && s.CtlPort == other.CtlPort && s.CUK == other.CUK && s.CtlEndpoints == other.CtlEndpoints &&
		s.CustomSeed == other.CustomSeed && s.ForwardPeers == other.ForwardPeers && s.ReversePeers == other.ReversePeers
}

// Matches reports whether a slave may have this name or address: it is one of
// the hosts that NAME lists, or NAME as a POSIX regular expression is found
// anywhere in it.
func (s Slave) Matches(host string) bool {
	names, re := s.names, s.regexp
	if names == nil && re == nil { // not from Load
		names, re, _ = compilePattern(s.NamePattern)
	}
	return host != "" && (slices.Contains(names, host) || re != nil && re.MatchString(host))
}
