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
