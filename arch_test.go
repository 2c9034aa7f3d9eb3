// The tests in this file prove that the repository keeps the shape that
// ARCHITECTURE.md describes: who may import whom, where clocks and unsafe code
// may be, how long files and functions get. They only parse source files.
package chmpx_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/chmpx/chmpx"

// rule says what a package may import besides the standard library.
type rule struct {
	own   []string // packages of this module, by path below the root; "..." at the end: and what is below
	other []string // modules or packages of others
}

// rules is the import table of ARCHITECTURE.md. The longest matching path applies.
var rules = map[string]rule{
	"ring":              {},
	"config":            {other: []string{"go.yaml.in/yaml/v4"}},
	"internal/fault":    {other: []string{"golang.org/x/sys"}},
	"internal/freeport": {},
	"internal/testring": {own: []string{"internal/freeport"}},
	"internal/rawio":    {other: []string{"golang.org/x/sys"}},
	"internal/hotwait":  {},
	"shm":               {own: []string{"internal/fault", "internal/rawio"}, other: []string{"golang.org/x/sys"}},
	"ops":               {},
	"ops/service":       {},
	"wire":              {own: []string{"ring"}},
	"fsm":               {own: []string{"internal/fault", "ring"}, other: []string{"github.com/hashicorp/raft"}},
	"internal/mux":      {own: []string{"internal/fault", "ring", "wire"}, other: []string{"github.com/hashicorp/yamux"}},
	"client": {
		own:   []string{"config", "internal/fault", "internal/hotwait", "internal/rawio", "ring", "shm", "wire"},
		other: []string{"golang.org/x/sys"},
	},
	"dataplane/flow": {own: []string{"internal/fault", "ring", "wire"}},
	"dataplane": {
		own:   []string{"dataplane/...", "internal/fault", "internal/hotwait", "internal/mux", "internal/rawio", "ring", "shm", "wire"},
		other: []string{"golang.org/x/sys"},
	},
	"controlplane": {
		own: []string{"controlplane/...", "fsm", "internal/fault", "internal/mux", "ring", "wire"},
		other: []string{"github.com/hashicorp/go-hclog", "github.com/hashicorp/go-metrics", "github.com/hashicorp/raft",
			"github.com/hashicorp/raft-boltdb", "github.com/hashicorp/yamux", "go.etcd.io/bbolt"},
	},
	"node": {own: []string{"client", "config", "controlplane/...", "dataplane/...", "fsm", "internal/...", "ops", "ring", "shm", "wire"},
		other: []string{"github.com/fsnotify/fsnotify", "golang.org/x/sys"}},
	"internal/ringview": {own: []string{"controlplane/...", "ring"}},
	"testcluster": {
		own:   []string{"client", "config", "controlplane/...", "dataplane/...", "fsm", "internal/...", "node", "ops", "ring", "shm", "testcluster/check", "wire"},
		other: []string{"github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys"},
	},
	"testcluster/traffic": {own: []string{"client", "internal/fault", "testcluster/check", "wire"}},
	"testcluster/netem":   {},
	"testcluster/rig":     {own: []string{"internal/fault", "internal/freeport", "testcluster", "testcluster/check", "testcluster/netem"}},
	"testcluster/fault":   {own: []string{"internal/fault", "testcluster", "testcluster/netem", "testcluster/rig"}},
	"testcluster/run": {own: []string{"controlplane", "node", "testcluster", "testcluster/check", "testcluster/fault", "testcluster/rig",
		"testcluster/traffic"}},
	"testcluster/check": {own: []string{"internal/fault", "ring", "wire"}, other: []string{"github.com/anishathalye/porcupine", "golang.org/x/sys"}},
	"cmd": {
		own:   []string{"client", "cmd/internal/...", "config", "controlplane/...", "dataplane/...", "fsm", "internal/...", "node", "ops/...", "ring", "shm", "wire"},
		other: []string{"github.com/HdrHistogram/hdrhistogram-go", "github.com/urfave/cli/v2", "golang.org/x/sys", "golang.org/x/term"},
	},
	"cmd/chmpx-testcluster": {
		own:   []string{"client", "cmd/internal/...", "config", "internal/...", "node", "ops", "ring", "testcluster", "testcluster/..."},
		other: []string{"github.com/HdrHistogram/hdrhistogram-go", "github.com/urfave/cli/v2", "golang.org/x/sys"},
	},
}

// source is one parsed file.
type source struct {
	path string // slash-separated, from the root
	dir  string // "." for the root
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s source) line(p token.Pos) int { return s.fset.Position(p).Line }

func (s source) imports() []string {
	var all []string
	for _, spec := range s.file.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		all = append(all, p)
	}
	return all
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		all = append(all, source{path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), file: file, fset: fset})
		return nil
	})
	if err != nil {
		t.Fatalf("reading the sources: %v", err)
	}
	return all
}

// matches reports whether p is one of the patterns or, for "x/..." and for modules, below one.
func matches(p string, patterns []string, below bool) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		base, deep := strings.CutSuffix(pattern, "/...")
		return p == base || (deep || below) && strings.HasPrefix(p, base+"/")
	})
}

func ruleOf(dir string) (rule, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if r, ok := rules[d]; ok {
			return r, true
		}
	}
	return rule{}, false
}

// isStandard reports whether an import path belongs to the standard library:
// its first element has no dot.
func isStandard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

// Every package imports only what the table allows.
func TestImportTable(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		r, ok := ruleOf(s.dir)
		if !ok {
			t.Errorf("%s: package %s is not in the import table", s.path, s.dir)
			continue
		}
		for _, imp := range s.imports() {
			if own, ok := strings.CutPrefix(imp, module+"/"); ok {
				if !matches(own, r.own, false) {
					t.Errorf("%s imports %s, the table does not allow it for %s", s.path, own, s.dir)
				}
			} else if !isStandard(imp) && !matches(imp, r.other, true) {
				t.Errorf("%s imports %s, the table does not allow it for %s", s.path, imp, s.dir)
			}
		}
	}
}

// The planes do not know each other, not even in tests; raft is known to one
// file of fsm; only cmd/chmpx-testcluster and testcluster itself use testcluster.
func TestImportsForbidden(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.imports() {
			own := strings.TrimPrefix(imp, module+"/")
			top, _, _ := strings.Cut(s.dir, "/")
			to, _, _ := strings.Cut(own, "/")
			switch {
			case top == "controlplane" && to == "dataplane", top == "dataplane" && to == "controlplane":
				t.Errorf("%s imports %s: the planes must not know each other", s.path, own)
			case s.dir == "fsm" && !s.test && strings.HasPrefix(imp, "github.com/hashicorp/raft") && path.Base(s.path) != "raft.go":
				t.Errorf("%s imports %s: only fsm/raft.go may", s.path, imp)
			case to == "testcluster" && imp != own && top != "testcluster" && s.dir != "cmd/chmpx-testcluster":
				t.Errorf("%s imports testcluster: only cmd/chmpx-testcluster may", s.path)
			case to == "cmd" && imp != own && top != "cmd":
				t.Errorf("%s imports %s: nobody imports commands", s.path, own)
			}
		}
	}
}

// The packages that every node must compute alike have no clock and no dice.
func TestPurePackages(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	for _, s := range sources(t) {
		if s.test || !slices.Contains([]string{"ring", "fsm", "dataplane/flow"}, s.dir) {
			continue
		}
		for _, imp := range s.imports() {
			if slices.Contains([]string{"math/rand", "math/rand/v2", "crypto/rand", "net", "os"}, imp) {
				t.Errorf("%s imports %s", s.path, imp)
			}
		}
		for name, pos := range selections(s, "time") {
			if slices.Contains(clock, name) {
				t.Errorf("%s:%d uses time.%s", s.path, s.line(pos), name)
			}
		}
	}
}

// selections returns the names that a file takes from a package of the
// standard library, with one position of each.
func selections(s source, pkg string) map[string]token.Pos {
	found := map[string]token.Pos{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
				found[sel.Sel.Name] = sel.Pos()
			}
		}
		return true
	})
	return found
}

// Unsafe code is only where its name says so.
func TestUnsafe(t *testing.T) {
	for _, s := range sources(t) {
		allowed := (s.dir == "shm" || s.dir == "internal/rawio") && strings.HasSuffix(s.path, "_unsafe.go")
		if slices.Contains(s.imports(), "unsafe") && !allowed {
			t.Errorf("%s imports unsafe: only *_unsafe.go of shm and internal/rawio may", s.path)
		}
	}
}

// Every package says what it is, in one place.
func TestPackageDocs(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		docs[s.dir] += 0
		if s.file.Doc != nil {
			docs[s.dir]++
		}
	}
	for dir, n := range docs {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want 1", dir, n)
		}
	}
}

// Nothing grows too long to be read at once.
func TestSizes(t *testing.T) {
	const fileLinesMax, funcLinesMax = 600, 80
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if n := s.line(s.file.FileEnd); n > fileLinesMax {
			t.Errorf("%s has %d lines, at most %d", s.path, n, fileLinesMax)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > funcLinesMax {
					t.Errorf("%s:%d: %s has %d lines, at most %d", s.path, s.line(f.Pos()), f.Name.Name, n, funcLinesMax)
				}
			}
		}
	}
}

// Tests wait for conditions, never for time to pass.
func TestNoSleepInTests(t *testing.T) {
	for _, s := range sources(t) {
		if pos, ok := selections(s, "time")["Sleep"]; ok && s.test {
			t.Errorf("%s:%d uses time.Sleep", s.path, s.line(pos))
		}
	}
}
