package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An included file adds its sections, in whatever format, from wherever the
// INCLUDE stands; the including file's keys count first, nodes add up, and
// every file that was read is named.
func TestInclude(t *testing.T) {
	const global = "[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=hash\nPORT=1\nCTLPORT=2\nREPLICA=1\n"
	const nodes = "[SVRNODE]\nNAME=a\n[SLVNODE]\nNAME=x\n"
	common := files{
		"etc/global.ini": global, "etc/nodes.ini": nodes, "etc/more.yaml": "SVRNODE: [{NAME: b, CTLPORT: 3}]",
		"etc/all.json":       `{"include": ["global.ini", "sub/nodes.yaml"]}`,
		"etc/sub/nodes.yaml": "SVRNODE: [{NAME: a}]\nSLVNODE: [{NAME: x}]",
		"override.ini":       "[GLOBAL]\nREPLICA=5\n",
	}
	for _, c := range []struct {
		name, text string
		replica    int
		servers    string
		files      string
	}{
		{"main.ini", "INCLUDE = etc/global.ini\n" + nodes, 1, "a", "main.ini etc/global.ini"},
		{"main.ini", "[GLOBAL]\nINCLUDE=etc/global.ini\nINCLUDE=etc/nodes.ini", 1, "a", "main.ini etc/global.ini etc/nodes.ini"},
		{"main.ini", global + "INCLUDE=etc/nodes.ini\n[SVRNODE]\nNAME=c\n", 1, "a c", "main.ini etc/nodes.ini"},
		{"main.ini", "[GLOBAL]\nREPLICA=2\nINCLUDE=etc/global.ini\n" + nodes, 2, "a", "main.ini etc/global.ini"},
		{"main.ini", "[GLOBAL]\nINCLUDE=etc/global.ini\nREPLICA=2\n" + nodes, 2, "a", "main.ini etc/global.ini"},
		{"main.ini", nodes + "INCLUDE='etc/global.ini' # in the section of a slave", 1, "a", "main.ini etc/global.ini"},
		{"main.ini", "INCLUDE=etc/all.json\nINCLUDE=etc/more.yaml", 1, "a b", "main.ini etc/all.json etc/global.ini etc/sub/nodes.yaml etc/more.yaml"},
		{"main.yaml", "INCLUDE: etc/all.json", 1, "a", "main.yaml etc/all.json etc/global.ini etc/sub/nodes.yaml"},
		{"main.yaml", "Include: [etc/global.ini, etc/more.yaml]\nGLOBAL: {REPLICA: 7}", 7, "b", "main.yaml etc/global.ini etc/more.yaml"},
		{"main.yaml", "GLOBAL:\n  REPLICA: 7\n  INCLUDE:\n    - etc/global.ini\n    - etc/nodes.ini\n", 7, "a", "main.yaml etc/global.ini etc/nodes.ini"},
		{"main.yaml", "SVRNODE:\n  - NAME: c\n    INCLUDE: etc/global.ini\n", 1, "c", "main.yaml etc/global.ini"},
		{"sub/main.json", `{"INCLUDE": "../etc/all.json"}`, 1, "a", "sub/main.json etc/all.json etc/global.ini etc/sub/nodes.yaml"},
		{"", `{"INCLUDE": "etc/all.json", "GLOBAL": {"REPLICA": 3}}`, 3, "a", "etc/all.json etc/global.ini etc/sub/nodes.yaml"},
	} {
		t.Run(c.text, func(t *testing.T) {
			all := files{c.name: c.text}
			for path, text := range common {
				all[path] = text
			}
			s := Source{Path: c.name}
			if c.name == "" {
				s = Source{Text: c.text}
			}
			conf, warnings, err := load(s, all.read)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("warnings %v, error %v", warnings, err)
			}
			var servers []string
			for _, s := range conf.Servers {
				servers = append(servers, s.Name)
			}
			if got := strings.Join(servers, " "); got != c.servers || conf.Replica != c.replica || conf.Group != "G" {
				t.Errorf("got %+v; want servers %s, REPLICA %d", conf, c.servers, c.replica)
			}
			if got := strings.Join(conf.Files, " "); got != c.files {
				t.Errorf("got files %s, want %s", got, c.files)
			}
		})
	}
}

// A mistake in an included file is told with that file and its line, a file
// that cannot be had with the line of the INCLUDE; what may be in it is not
// called missing, and other mistakes are told as well.
func TestIncludeErrors(t *testing.T) {
	deep := files{}
	for i := range 20 {
		deep[fmt.Sprintf("d%d.ini", i)] = fmt.Sprintf("INCLUDE=d%d.ini\n", i+1)
	}
	many := files{"leaf.ini": "[GLOBAL]\nREPLICA=1\n", "main.ini": strings.Repeat("INCLUDE=leaf.ini\n", 100)}
	large := files{"main.ini": "INCLUDE=a.ini\nINCLUDE=b.ini\n", "a.ini": strings.Repeat("#", configBytesMax/2), "b.ini": strings.Repeat("#", configBytesMax/2)}
	for name, c := range map[string]struct {
		files   files
		want    string
		problem int // how many
	}{
		"value": {files{"main.ini": "INCLUDE=a.ini\n[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=x\n[SVRNODE]\nNAME=a\nPORT=1\nCTLPORT=2\n[SLVNODE]\nNAME=a\nCTLPORT=1\n",
			"a.ini": "[GLOBAL]\n\nREPLICA=many\n"}, `a.ini:3: REPLICA = "many": use a whole number`, 2},
		"syntax":         {files{"main.ini": "INCLUDE=a.yaml\n", "a.yaml": "GLOBAL:\n  A: [\n"}, "a.yaml:2: not YAML or JSON: did not find expected node content", 1},
		"missing":        {files{"main.ini": "[GLOBAL]\nINCLUDE=no/such.ini\nPORT=0\n"}, `main.ini:2: INCLUDE = "no/such.ini": no/such.ini cannot be read: file does not exist`, 2},
		"empty":          {files{"main.ini": "INCLUDE=a.ini\n", "a.ini": "\n# nothing\n"}, "a.ini: it is empty", 1},
		"no path":        {files{"main.ini": "INCLUDE=\n"}, `main.ini:1: INCLUDE = "": use the path of a file`, 1},
		"no line":        {files{"main.yaml": "INCLUDE: \"a\\nb.ini\"\n"}, `main.yaml:1: INCLUDE = "a\nb.ini": use the path of a file, one line`, 1},
		"extension":      {files{"main.ini": "INCLUDE=a.conf\n"}, `main.ini:1: INCLUDE = "a.conf": a.conf cannot be read: the extension ".conf" is unknown`, 1},
		"itself":         {files{"main.ini": "INCLUDE=./main.ini\n"}, "a loop: main.ini:1, main.ini", 1},
		"loop":           {files{"main.ini": "INCLUDE=a/b.yaml\n", "a/b.yaml": "\n\ninclude: c.ini", "a/c.ini": "INCLUDE=../main.ini\n"}, `a/c.ini:1: INCLUDE = "../main.ini": a loop: main.ini:1, a/b.yaml:3, a/c.ini:1, main.ini`, 1},
		"too deep":       {files{"main.ini": "INCLUDE=d0.ini"}, `d7.ini:1: INCLUDE = "d8.ini": 9 files lead here`, 1},
		"too many":       {files{}, `main.ini:65: INCLUDE = "leaf.ini": more than 64 files`, 36},
		"too large":      {large, `main.ini:2: INCLUDE = "b.ini": b.ini cannot be read: the configuration is larger than`, 2},
		"YAML elsewhere": {files{"main.yaml": "SVRNODE:\n  - INCLUDE: [a.ini, [b]]\n"}, `main.yaml:2: INCLUDE = a list: use the path`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			main := "main.ini"
			if _, ok := c.files[main]; !ok && name != "too many" {
				main = "main.yaml"
			}
			for path, text := range deep {
				c.files[path] = text
			}
			if name == "too many" {
				c.files = many
			}
			_, _, err := load(Source{Path: main}, c.files.read)
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %s", err, c.want)
			}
			if got := len(strings.Split(err.Error(), "\n")); got != c.problem {
				t.Errorf("got %d problems, want %d:\n%v", got, c.problem, err)
			}
		})
	}
}

// An override by the including file is meant; two files beside each other
// that differ, or one that says a thing twice, get a warning that names both.
func TestIncludeOverrides(t *testing.T) {
	all := files{
		"main.ini": "INCLUDE=a.ini\nINCLUDE=b.ini\n[GLOBAL]\nGROUP=G\n[SVRNODE]\nNAME=s\nCUK=main\n",
		"a.ini":    shortINI + "[SVRNODE]\nNAME=s\nCUK=a\n",
		"b.ini":    "[GLOBAL]\nREPLICA=1\nREPLICA=2\n\nPORT=9\n[SVRNODE]\nNAME=s\nCUK=b\n",
	}
	c, warnings, err := load(Source{Path: "main.ini"}, all.read)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"b.ini:3: REPLICA is also in line 2; this one counts",
		"b.ini:5: PORT is also in a.ini:5; this one counts",
		"b.ini:6: [SVRNODE] s:8021 is also in a.ini:11; the keys given here count",
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if c.Port != 9 || c.Replica != 2 || len(c.Servers) != 2 || c.Servers[1].CUK != "main" {
		t.Errorf("got %+v", c)
	}
}

// On disk, paths are relative to the file and not to the working directory,
// except in a text; a loop through a symbolic link is seen as one.
func TestIncludeOnDisk(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("etc/common/nodes.ini", shortINI)
	relative := write("etc/main.ini", "INCLUDE=common/nodes.ini\n")
	absolute := write("main.yaml", "INCLUDE: "+filepath.Join(dir, "etc/common/nodes.ini"))
	for _, path := range []string{relative, absolute} {
		c, _, err := Load(Source{Path: path})
		if err != nil || c.Group != "G" || !slices.Equal(c.Files, []string{path, filepath.Join(dir, "etc/common/nodes.ini")}) {
			t.Errorf("%s: got %+v, %v", path, c, err)
		}
	}
	t.Chdir(filepath.Join(dir, "etc"))
	if c, _, err := Load(Source{Text: `{"INCLUDE": "common/nodes.ini"}`}); err != nil || c.Group != "G" {
		t.Errorf("text: got %+v, %v", c, err)
	}
	if err := os.Symlink(relative, filepath.Join(dir, "etc/common/link.ini")); err != nil {
		t.Fatal(err)
	}
	write("etc/main.ini", "INCLUDE=common/link.ini\n")
	if _, _, err := Load(Source{Path: "main.ini"}); err == nil || !strings.Contains(err.Error(), "a loop: main.ini:1, common/link.ini") {
		t.Errorf("loop through a link: %v", err)
	}
	write("etc/main.ini", "INCLUDE=common\n")
	if _, _, err := Load(Source{Path: "main.ini"}); err == nil || !strings.Contains(err.Error(), "main.ini:1") {
		t.Errorf("a directory: %v", err)
	}
}
