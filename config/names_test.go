package config

import (
	"slices"
	"strings"
	"testing"
)

// A NAME stands for the hosts that CHMPX would see in it, and what is no
// proper list or range is an error.
func TestExpand(t *testing.T) {
	for pattern, want := range map[string]string{
		"localhost":      "localhost",
		"a,b":            "a b",
		"a b":            "ab",
		"a[1-3]":         "a1 a2 a3",
		"a[01-03]":       "a1 a2 a3",
		"a[8-11].x":      "a8.x a9.x a10.x a11.x",
		"[a-c]":          "a b c",
		"x[A-B]":         "xA xB",
		"m[1,3-5,b]":     "m1 m3 m4 m5 mb",
		"[a,b][1-2]z":    "a1z a2z b1z b2z",
		"a[1-2], b[x,y]": "a1 a2 bx by",
		"a[foo,bar]":     "afoo abar",
		"192.0.2.[1-2]":  "192.0.2.1 192.0.2.2",
		"::1":            "::1",
		"a[5-5]":         "a5",
	} {
		got, err := expand(pattern)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, %v; want %s", pattern, got, err, want)
		}
	}
	for _, pattern := range []string{"", ",", "a,", "a[3-1]", "a[c-a]", "a[a-C]", "a[Z-a]", "a[1-b]", "a[1-]", "a[-1]", "a[]", "a[1,,2]",
		"a[", "a]", "a[[1]]", "a[1", "[1-99999]", "[1-200][1-200]", "[1-30000],[1-30000]", "a/b", "a\x00b", "[.]*",
		"a[ab-ac]", strings.Repeat("x", 256), strings.Repeat("x", 600)} {
		if got, err := expand(pattern); err == nil {
			t.Errorf("%.40q: got %d names, want an error", pattern, len(got))
		}
	}
}

// The NAME of a slave is a list of hosts first and a regular expression second.
func TestSlaveMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, hosts, others string
	}{
		{"[.]*", "localhost 192.0.2.1 anything", ""},
		{"localhost", "localhost", "LOCALHOST example"},
		{"web[1-12]", "web1 web12", "web"},
		{"a,b", "a b", "c"},
		{`^web[0-9]+\.example\.com$`, "web7.example.com", "web7.example.comm web.example.com"},
		{"^(a|b)[[:digit:]]", "a1 b2x", "c1 xa1"},
	} {
		re := mustLoad(t, minimal("\n[SLVNODE]\nCTLPORT=1\nNAME="+c.pattern)).Slaves[0]
		for _, s := range []Slave{re, {NamePattern: c.pattern}} {
			for _, host := range strings.Fields(c.hosts) {
				if !s.Matches(host) {
					t.Errorf("%s does not match %s", c.pattern, host)
				}
			}
			if slices.ContainsFunc(append(strings.Fields(c.others), ""), s.Matches) {
				t.Errorf("%s matches one of %q", c.pattern, c.others)
			}
		}
	}
	if (Slave{NamePattern: "*["}).Matches("x") {
		t.Error("a pattern that is none matches")
	}
}

// A NAME that is a list is no pattern, too: what is found anywhere in a name is
// more than the hosts that are listed.
func TestSlaveHosts(t *testing.T) {
	for pattern, want := range map[string]string{
		"web1,10.0.0.[1-2]": "web1 10.0.0.1 10.0.0.2, none", "[.]*": ", [.]*", "^web[0-9]+$": ", ^web[0-9]+$", "web[1-2]": "web1 web2, none",
	} {
		c := mustLoad(t, strings.Replace(minimal(""), "[SLVNODE]\nNAME=localhost", "[SLVNODE]\nNAME="+pattern, 1))
		names, re := c.Slaves[0].Hosts()
		got := strings.Join(names, " ") + ", none"
		if re != nil {
			got = strings.Join(names, " ") + ", " + re.String()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}

// What CTLALLOW says is shown in one way of writing, and a mistake says what to write.
func TestNetworks(t *testing.T) {
	c := mustLoad(t, minimal("CTLALLOW = 10.1.0.0/16, 192.0.2.7/32 ,2001:DB8:0::/32"))
	if got, want := c.Value("CTLALLOW"), "10.1.0.0/16,192.0.2.7,2001:db8::/32"; got != want || len(c.CtlAllow) != 3 || c.CtlAllow[1].Bits() != 32 {
		t.Errorf("got %q, %v, want %q", got, c.CtlAllow, want)
	}
	for in, want := range map[string]string{
		"10.1.2.3/16": "use 10.1.0.0/16", "host": "names are not possible here", "::ffff:10.0.0.1": "IPv4", "10.0.0.1,,10.0.0.2": "is neither",
	} {
		if _, _, err := loadText("test.ini", minimal("CTLALLOW = "+in)); err == nil || !strings.Contains(err.Error(), "CTLALLOW") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
}

// Endpoints come out with their ports, in file order and without blanks.
func TestEndpoints(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"a":                     "a:99",
		"a:1, b ,c:65535":       "a:1,b:99,c:65535",
		"[::1]:5,[2001:db8::2]": "[::1]:5,[2001:db8::2]:99",
		"192.0.2.1:08":          "192.0.2.1:8",
	} {
		v, err := readEndpoints(in)
		if got := fillPorts(v.text, 99); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{",", "a:", "a:0", "a:65536", ":1", "a:b", "[::1", "[::1]x", "a,,b", "a b", "::1"} {
		if v, err := readEndpoints(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, v.text)
		}
	}
}
