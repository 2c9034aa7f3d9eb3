package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// addSamples makes the files of testdata the first inputs of a fuzzer.
func addSamples(f *testing.F, extension string) {
	f.Helper()
	paths, err := filepath.Glob("testdata/*" + extension)
	if err != nil || len(paths) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
}

// check tells whether the outcome of a load keeps to what Load promises: one
// of config and error, messages in one line each, fields within their limits,
// and a Config that says the same when it is written as JSON.
func check(t *testing.T, c *Config, warnings []Warning, err error) {
	t.Helper()
	for _, w := range warnings {
		if w.Text == "" || w.Line < 0 || strings.Contains(w.String(), "\n") {
			t.Errorf("warning %+v", w)
		}
	}
	if (c == nil) != (err != nil) {
		t.Fatalf("config %v with error %v", c, err)
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what errors.Join made
		for _, err := range all.Unwrap() {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
		}
	}
	if err != nil {
		return
	}
	if c.Group == "" || len(c.Servers) == 0 || c.RingBytes&(c.RingBytes-1) != 0 || c.Replica < 0 || c.Replica > 63 || c.MergeTimeout < 0 {
		t.Errorf("accepted %+v", c)
	}
	for _, s := range c.Servers {
		if checkHost(s.Name) != nil || s.Port < 1 || s.Port > 65535 || s.CtlPort < 1 || s.CtlPort > 65535 {
			t.Errorf("accepted server %+v", s)
		}
	}
	if len(c.Servers) > 100 {
		return // enough for one input
	}
	text := asJSON(c)
	again, _, err := Load(Source{Text: text})
	if err != nil {
		t.Fatalf("its own JSON is refused: %v\n%s", err, text)
	}
	options := append(sameRing, cmpopts.IgnoreFields(Setting{}, "Given"))
	if diff := cmp.Diff(c, again, options); diff != "" || again.Digest() != c.Digest() {
		t.Errorf("its own JSON is another:\n%s\n%s", diff, text)
	}
}

// asJSON writes a Config as JSON text, in ASCII as far as that can be.
func asJSON(c *Config) string {
	object := func(pairs ...string) string {
		var b strings.Builder
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				fmt.Fprintf(&b, "%s: %s, ", quote(pairs[i]), quote(pairs[i+1]))
			}
		}
		return "{" + b.String() + "}"
	}
	var global, servers, slaves []string
	for _, s := range c.Settings() {
		global = append(global, s.Key, s.Value)
	}
	for _, s := range c.Servers {
		servers = append(servers, object("NAME", s.Name, "PORT", fmt.Sprint(s.Port), "CTLPORT", fmt.Sprint(s.CtlPort), "CUK", s.CUK,
			"CTLENDPOINTS", s.CtlEndpoints, "ENDPOINTS", s.Endpoints, "CUSTOM_ID_SEED", s.CustomSeed,
			"FORWARD_PEERS", s.ForwardPeers, "REVERSE_PEERS", s.ReversePeers))
	}
	for _, s := range c.Slaves {
		slaves = append(slaves, object("NAME", s.NamePattern, "CTLPORT", fmt.Sprint(s.CtlPort), "CUK", s.CUK, "CTLENDPOINTS", s.CtlEndpoints,
			"CUSTOM_ID_SEED", s.CustomSeed, "FORWARD_PEERS", s.ForwardPeers, "REVERSE_PEERS", s.ReversePeers))
	}
	return fmt.Sprintf(`{"GLOBAL": %s, "SVRNODE": [%s], "SLVNODE": [%s]}`, object(global...), strings.Join(servers, ", "), strings.Join(slaves, ", "))
}

// quote writes a JSON string; of what is beyond \uffff YAML knows no escape.
func quote(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r >= ' ' && r < 0x7f || r > 0xffff:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return `"` + b.String() + `"`
}

// Whatever an INI file says, Load ends without a panic and keeps its promises.
func FuzzINI(f *testing.F) {
	addSamples(f, ".ini")
	f.Add(minimal("SELFCUK = \"a\\\"b\" # c\nRINGBYTES=64KiB\nCHMPXIDTYPE=CUK"))
	f.Add("[GLOBAL]\n[SVRNODE]\nNAME=a[1-3,x][a-c],[z\nENDPOINTS=[::1]:1,b\n[SLVNODE]\nNAME=[.]*\n")
	f.Add("[X]\n=\n[GLOBAL\n'\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, warnings, err := loadText("fuzz.ini", text)
		check(t, c, warnings, err)
	})
}

// Whatever a YAML file says, Load ends without a panic and keeps its promises.
func FuzzYAML(f *testing.F) {
	addSamples(f, ".yaml")
	f.Add(shortYAML)
	f.Add("? GLOBAL\n: !!map {a: &b c, <<: *b}\n--- !t\n%YAML\n...")
	f.Fuzz(func(t *testing.T, text string) {
		c, warnings, err := loadText("fuzz.yaml", text)
		check(t, c, warnings, err)
	})
}

// Whatever a JSON file or text says, Load ends without a panic, keeps its
// promises, and takes both for the same.
func FuzzJSON(f *testing.F) {
	addSamples(f, ".json")
	f.Add(shortJSON)
	f.Add(`{"GLOBAL": {"GROUP": "\u0000\ud800", "DATE": null,}, "SVRNODE": [{}]} # x`)
	f.Fuzz(func(t *testing.T, text string) {
		c, warnings, err := loadText("fuzz.json", text)
		check(t, c, warnings, err)
		if text == "" {
			return
		}
		asText, _, textErr := load(Source{Text: text}, files{}.read)
		if strings.Contains(strings.ToUpper(text), keyInclude) {
			return // relative to another place
		}
		if (err == nil) != (textErr == nil) || err == nil && asText.Digest() != c.Digest() {
			t.Errorf("file: %v, text: %v", err, textErr)
		}
	})
}

// Whatever three files say and however they include each other, Load ends
// without a panic and keeps its promises.
func FuzzInclude(f *testing.F) {
	f.Add("INCLUDE=b.yaml\n", "INCLUDE: [c.ini, ./b.yaml]\nGLOBAL: {GROUP: G}\n", shortINI)
	f.Add("[GLOBAL]\nINCLUDE=c.ini\nREPLICA=2\nINCLUDE=b.yaml", shortYAML, "[GLOBAL]\nREPLICA=3\n[SLVNODE]\nNAME=x\nINCLUDE=a.ini")
	f.Add("INCLUDE=../b.yaml\nINCLUDE=/b.yaml\nINCLUDE=", "{include: {a: b}}", "INCLUDE=c.ini\nINCLUDE=c.ini")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		all := files{"a.ini": a, "b.yaml": b, "c.ini": c, "/c.ini": c}
		conf, warnings, err := load(Source{Path: "a.ini"}, all.read)
		check(t, conf, warnings, err)
		if conf != nil && len(conf.Files) > includeFilesMax+1 {
			t.Errorf("%d files were read", len(conf.Files))
		}
	})
}
