package chmpx_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\b((?:Test|Fuzz)[A-Z]\w+)`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w+)\(`)
)

// Every test that a document names exists.
func TestNamedTests(t *testing.T) {
	there := map[string]bool{}
	named := map[string]string{} // and where
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		isTest, isDoc := strings.HasSuffix(p, "_test.go"), filepath.Dir(p) == "docs" && filepath.Ext(p) == ".md"
		if err != nil || d.IsDir() || !isTest && !isDoc {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if isTest {
			for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
				there[m[1]] = true
			}
			return nil
		}
		for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
			named[m[1]] = p
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(named) == 0 {
		t.Error("no document names a test")
	}
	for name, p := range named {
		if !there[name] {
			t.Errorf("%s names %s, which is not there", p, name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

// Every document that another one links to exists.
func TestLinks(t *testing.T) {
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) != ".md" {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", p, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
