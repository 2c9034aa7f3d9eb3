package config

import (
	"strings"
	"testing"
	"time"
)

// The tests in this file are about what CHMPX 1.0.113 gets wrong with the same
// configurations, where a user of it could be bitten here as well.

// DATE is the same time whatever the zone and the clock of the host: CHMPX
// leaves the zone out and reads one file as two times an hour apart.
func TestDateIsOneTime(t *testing.T) {
	want := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	was := time.Local
	defer func() { time.Local = was }()
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("east", 9*3600), time.FixedZone("west", -7*3600)} {
		time.Local = zone
		for _, date := range []string{"Wed, 01 Jul 2026 12:00:00 +0000", "Wed, 1 Jul 2026 21:00:00 +0900", "Wed, 01 Jul 2026 12:00:00 GMT", "1 Jul 2026 05:00:00 -0700"} {
			if c := mustLoad(t, minimal("DATE="+date)); !c.Date.Equal(want) || c.Date.Location() != time.UTC {
				t.Errorf("%s in %v: got %v", date, zone, c.Date)
			}
		}
	}
	for _, date := range []string{"yesterday", "2026-07-01", "Wed, 31 Feb 2026 12:00:00 +0000", ""} {
		if _, _, err := loadText("a.ini", minimal("DATE="+date)); err == nil {
			t.Errorf("%q is taken for a date", date)
		}
	}
}

// A file that says nothing, or says it below another name, is an error and no
// node with defaults.
func TestNothingIsNoConfiguration(t *testing.T) {
	for name, text := range map[string]string{
		"empty.yaml": "", "empty.json": "", "empty.ini": "", "comment.yaml": "# none\n", "comment.ini": "# none\n", "null.yaml": "null\n", "braces.json": "{}",
		"mark.yaml": "---\n", "wrapped.yaml": "CHMPX:\n  " + strings.ReplaceAll(shortYAML, "\n", "\n  "), "wrapped.json": `{"chmpx": ` + shortJSON + "}",
		"hollow.yaml": "GLOBAL: {}\nSVRNODE: []\nSLVNODE: []\n", "hollow.ini": "[GLOBAL]\n[SVRNODE]\n[SLVNODE]\n", "family.yaml": "K2HDKC: {A: b}\n",
		"nodes.yaml": "SVRNODE: [{NAME: a, PORT: 1, CTLPORT: 2}]\n", "nodes.ini": "[SVRNODE]\nNAME=a\nPORT=1\nCTLPORT=2\n[SLVNODE]\nNAME=b\nCTLPORT=2\n",
	} {
		if c, _, err := loadText(name, text); err == nil {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

// Ports are 1 to 65535, all of them, in every place and format; what does not
// fit is an error and never cut to 16 bits.
func TestPorts(t *testing.T) {
	for port, ok := range map[string]bool{"1": true, "32767": true, "32768": true, "65534": true, "65535": true, "0": false, "65536": false, "70000": false, "131072": false, "-1": false, "99999999999999999999": false} {
		for _, text := range []struct{ name, text string }{
			{"global.ini", strings.Replace(shortINI, "8020", port, 1)},
			{"server.ini", strings.Replace(shortINI, "[SVRNODE]", "[SVRNODE]\nPORT="+port, 1)},
			{"ctlport.yaml", strings.Replace(shortYAML, "- NAME", "- CTLPORT: "+port+"\n  NAME", 1)},
			{"port.json", strings.Replace(shortJSON, "8020", port, 1)},
			{"self.json", strings.Replace(shortJSON, `"PORT"`, `"SELFCTLPORT": `+port+`, "PORT"`, 1)},
			{"endpoint.yaml", strings.Replace(shortYAML, "- NAME", "- ENDPOINTS: 192.0.2.1:"+port+"\n  NAME", 1)},
		} {
			c, _, err := loadText(text.name, text.text)
			if (err == nil) != ok {
				t.Errorf("%s with port %s: got %+v, %v", text.name, port, c, err)
			}
		}
	}
	c := mustLoad(t, "[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=hash\nPORT=65534\nCTLPORT=65533\nSELFCTLPORT=65533\n"+
		"[SVRNODE]\nNAME=localhost\nENDPOINTS=a,b:65532\n[SLVNODE]\nNAME=b\nCTLPORT=65531\n")
	self, err := c.SelfNode(0, "")
	if err != nil || self.CtlPort != 65533 || self.Port != 65534 || c.Port != 65534 || c.CtlPort != 65533 || c.Slaves[0].CtlPort != 65531 || c.Servers[0].Endpoints != "a:65534,b:65532" {
		t.Errorf("got %+v, %+v, %v", c, self, err)
	}
}

// INCLUDE reads the file wherever a key may be, while CHMPX never does; what
// only looks like it is an error.
func TestIncludeIncludes(t *testing.T) {
	rest := strings.Replace(shortINI, "GROUP=G\n", "", 1)
	for name, text := range map[string]string{
		"in a section": strings.Replace(rest, "[GLOBAL]\n", "[GLOBAL]\nINCLUDE = ./inc.ini\n", 1),
		"first line":   "INCLUDE = ./inc.ini\n" + rest,
		"no blanks":    "INCLUDE=inc.ini\n" + rest,
		"last line":    rest + "INCLUDE = inc.ini",
	} {
		c, _, err := load(Source{Path: "a.ini"}, files{"a.ini": text, "inc.ini": "[GLOBAL]\nGROUP=INCLUDED\n"}.read)
		if err != nil || c.Group != "INCLUDED" {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
	for _, text := range []string{"INCLUDE ./inc.ini\n" + rest, "include = inc.ini\n" + rest} {
		if _, _, err := load(Source{Path: "a.ini"}, files{"a.ini": text, "inc.ini": "[GLOBAL]\nGROUP=G\n"}.read); err == nil || !strings.Contains(err.Error(), "a.ini:1") {
			t.Errorf("%.20q: got %v, want an error", text, err)
		}
	}
}

// No limit is a crash later: MAXCHMPX = 0 and others below their least are
// errors, and the largest numbers are cut or refused.
func TestLimits(t *testing.T) {
	for line, ok := range map[string]bool{
		"MAXCHMPX=0": false, "MAXCHMPX=-1": false, "MAXCHMPX=1": true, "MAXCHMPX=99999": true, "MAXCHMPX=99999999999": false,
		"REPLICA=-1": false, "MAXSOCKPOOL=0": false, "SOCKTHREADCNT=-1": false, "MQTHREADCNT=-1": false, "SOCKPOOLTIMEOUT=-1": false,
		"MERGETIMEOUT=-1": false, "MAXHISTLOG=-1": false, "MAXMQSERVER=-1": false,
	} {
		c, _, err := loadText("a.ini", minimal(line))
		if (err == nil) != ok {
			t.Errorf("%s: got %v", line, err)
		}
		if err == nil && c.Value("MAXCHMPX") != "1" && c.Value("MAXCHMPX") != "32768" {
			t.Errorf("%s: MAXCHMPX is %s", line, c.Value("MAXCHMPX"))
		}
	}
}
