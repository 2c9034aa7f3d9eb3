package chmpx_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/config"
)

var update = flag.Bool("update", false, "write the generated parts of docs/ anew")

// The tables of docs/config.md list exactly the keys that the code reads.
func TestConfigDoc(t *testing.T) {
	const file, begin, end = "docs/config.md", "<!-- keys: written by go test -run TestConfigDoc . -update -->\n", "<!-- end of keys -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), begin)
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s lacks the lines %q and %q", file, begin, end)
	}
	want := head + begin + keyTables() + end + tail
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not in step with config.Keys; run go test -run TestConfigDoc . -update", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keyTables prints one table for each section, and one list of the keys that do nothing.
func keyTables() string {
	var b strings.Builder
	var section string
	var idle []string
	cell := strings.NewReplacer("|", `\|`)
	for _, k := range config.Keys() {
		if k.Effect == "no effect" {
			if k.Section == "GLOBAL" {
				idle = append(idle, k.Name)
			}
			continue
		}
		if k.Section != section {
			section = k.Section
			fmt.Fprintf(&b, "\n## [%s]\n\n| key | value | default | what it does |\n|---|---|---|---|\n", section)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", k.Name, cell.Replace(k.Type), cell.Replace(k.Default), cell.Replace(k.Effect))
	}
	fmt.Fprintf(&b, "\n## Without effect\n\nCHMPX's keys that have no meaning here. They are read and checked, so that a\nmistake is found, and do nothing: %s; in [SVRNODE] and [SLVNODE] FORWARD_PEERS\nand REVERSE_PEERS.\n\n", strings.Join(idle, ", "))
	return b.String()
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
